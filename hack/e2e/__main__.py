"""`python -m hack.e2e`: 0 when every claim held, 1 when not, 77 when it can't be tried here.

With `--check`: whether it can be tried here, in words, and nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import NoReturn

import httpx

from examples.demo.claims import Claims
from examples.demo.story import Story
from hack.e2e import kind, leavings, parts
from hack.e2e.cluster import ClusterError
from hack.e2e.images import ImageError
from hack.e2e.keeping import keep
from hack.e2e.kind import Kind
from hack.e2e.local import Local
from hack.e2e.node import NodeError
from hack.e2e.scenes import Scenes
from hack.tools import ToolsError

CANNOT = 77
"""The exit code for "not here": neither held nor failed."""

NO_KIND = "and there is no kind cluster to take instead, or several without E2E_KIND=NAME"

TROUBLE = (
    ClusterError, ImageError, NodeError, ToolsError, RuntimeError, TimeoutError, OSError,
    subprocess.SubprocessError, httpx.HTTPError, ValueError,
)  # fmt: skip


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Tell the story, end everything, say what held."""
    missing = parts.missing()
    cluster = kind.configured() if missing else None
    if missing and cluster is None:
        sys.stderr.write("make e2e can't be tried here:\n")
        sys.stderr.writelines(f"  {sentence}\n" for sentence in (*missing, NO_KIND))
        return CANNOT
    if sys.argv[1:] == ["--check"]:
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        # What a parent (nohup) wants to be ignored stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    story, claims = Story(), Claims()
    story.say("Stackstore on a real kubelet: images, chart, stack, rotations, and their end.")
    for root in leavings.stale():
        left = leavings.sweep(root)
        story.say(f"an earlier run was cut off: {root} is cleared{' but for ' if left else ''}"
                  + ", ".join(left))  # fmt: skip
    if cluster is not None:
        story.say(f"No node of this machine's own ({'; '.join(missing)}).")
        story.say(f"The kind cluster {cluster!r} is used: it stays, without what is put into it.")
    environment = Local() if cluster is None else Kind(cluster)
    scenes = Scenes(environment, story, claims)
    trouble, code = "", 1
    try:
        scenes.play()
        if os.environ.get("KEEP", "") not in ("", "0"):
            story.scene("KEEP: it stays up")
            story.table(claims.rows())
            keep(environment, story)
        scenes.end()
        code = 0
    except KeyboardInterrupt:
        trouble, code = "interrupted", 130
    except TROUBLE as error:
        trouble = f"{type(error).__name__}: {error}"
    finally:
        if code or not claims.hold:
            story.say("\nstopping; what tells why is kept first …")
            logs = environment.keep_logs()
        left = environment.stop()
    story.scene("The node ends")
    claims.add(
        "No process, mount, cgroup, port or file is left behind",
        not left,
        ", ".join(left) or "none",
    )
    story.table(claims.rows())
    if trouble:
        story.say(f"The story did not come to its end: {trouble}")
    elif claims.hold:
        story.say(f"\nAll {len(claims.all)} claims held, in {story.seconds:.0f} s.")
    else:
        failed = sum(not claim.holds for claim in claims.all)
        story.say(f"\n{failed} of {len(claims.all)} claims did not hold.")
    if code or not claims.hold:
        story.say(f"The logs: {os.path.relpath(logs)}/" if code or trouble else "")
    return code or (0 if claims.hold else 1)


if __name__ == "__main__":
    sys.exit(main())
