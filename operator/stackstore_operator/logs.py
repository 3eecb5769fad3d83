"""Log lines: one JSON object each, or text for people; every line of one look carries its id."""

from __future__ import annotations

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

from stackstore_operator.telemetry import trail

Format = Literal["json", "text"]

_QUIET = ("kopf.objects", "asyncio", "aiohttp.access")
"""They tell each event and, in debug mode, whole objects."""


class _WithLook(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.look = trail.current.get() or "-"
        return True


class _WithoutForgottenWatches(logging.Filter):
    """Drops what asyncio says of a watch that kopf left open when it was stopped between two events.

    Closing it at the very end of the process fails, and that tells nobody anything.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return not ("closing of asynchronous generator" in text and "infinite_watch" in text)


def configure(form: Format, level: int = logging.INFO) -> None:
    """Log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_WithLook())
    if form == "json":
        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}{look}",
                style="{",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            )
        )
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s [%(look)s] %(message)s")
        )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    asynchronous = logging.getLogger("asyncio")
    asynchronous.filters[:] = [_WithoutForgottenWatches()]
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
