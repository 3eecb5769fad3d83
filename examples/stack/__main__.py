"""`python -m examples.stack --root DIR`: serve what is mounted in DIR/config and DIR/storage."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

import uvicorn

import stackstore
from examples.stack.app import Server
from stackstore import ConfigError

GRACE_SECONDS = 25
"""How long requests under way may go on after SIGTERM; a pod has 30 s by default."""


class Ending:
    """Takes SIGTERM and SIGINT for as long as uvicorn doesn't.

    uvicorn takes them while it serves, and afterwards sends itself the one it got: being asked to end
    and doing so is no failure. One that comes before must not be lost.
    """

    def __init__(self) -> None:
        self.asked = False
        self.server: uvicorn.Server | None = None

    def install(self) -> None:
        """From now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self)

    def __call__(self, *_: object) -> None:
        self.asked = True
        if self.server is not None:
            self.server.should_exit = True


async def serve(root: Path, host: str, port: int, ending: Ending) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way.

    Raises:
        ConfigError: the run config or the snapshot can't be used.
    """
    opened = await stackstore.open(root / "config" / "config.yaml", credentials=root / "storage")
    async with opened as storage:
        config = uvicorn.Config(
            Server(storage).app(),
            host=host,
            port=port,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        ending.server = uvicorn.Server(config)
        if not ending.asked:
            await ending.server.serve()


def main() -> int:
    """0 after a signal, 1 when the files in DIR can't be used."""
    parser = argparse.ArgumentParser(prog="python -m examples.stack", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/etc/stack"), metavar="DIR")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8321)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    ending = Ending()
    ending.install()
    try:
        asyncio.run(serve(arguments.root, arguments.host, arguments.port, ending))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
