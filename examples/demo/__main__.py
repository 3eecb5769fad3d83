"""`python -m examples.demo`: 0 when every claim held, 1 when one did not, 130 when interrupted."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import httpx

from examples.demo.claims import Claims
from examples.demo.environment import DemoError, Environment, build_tools
from examples.demo.keeping import keep
from examples.demo.scenes import Scenes
from examples.demo.story import Story
from hack.tools import ToolsError


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Tell the story, end everything, say what held."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # What a parent (nohup) wants to be ignored stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    story, claims = Story(), Claims()
    trouble = ""
    try:
        story.say("Stackstore: declare each database once, rotate its password under load.")
        tools = build_tools()
    except KeyboardInterrupt:
        return 130
    except ToolsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    environment = Environment()
    code = 1
    try:
        Scenes(environment, story, claims).play()
        if os.environ.get("KEEP", "") not in ("", "0"):
            story.scene("KEEP: it stays up")
            story.table(claims.rows())
            keep(environment, story, tools)
        code = 0
    except KeyboardInterrupt:
        trouble, code = "interrupted", 130
    except (DemoError, RuntimeError, TimeoutError, OSError, httpx.HTTPError) as error:
        trouble = str(error)
    finally:
        if code:
            story.say("\nstopping: what was started is ended first, up to ten seconds …")
        left = environment.stop()
    story.scene("Everything ends")
    claims.add("No process, port or file is left behind", not left, ", ".join(left) or "none")
    story.table(claims.rows())
    if trouble:
        story.say(f"The demo did not come to its end: {trouble}")
    elif claims.hold:
        story.say(f"\nAll {len(claims.all)} claims held, in {story.seconds:.0f} s.")
    else:
        failed = sum(not claim.holds for claim in claims.all)
        story.say(f"\n{failed} of {len(claims.all)} claims did not hold.")
    return code or (0 if claims.hold else 1)


if __name__ == "__main__":
    sys.exit(main())
