"""What is printed: numbered scenes, commands with what they really said, tables."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence

_INDENT = "    "


class Story:
    """Tells it to standard output; bold only where that is a terminal."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._scenes = 0
        self._bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def scene(self, title: str) -> None:
        """A new step."""
        self._scenes += 1
        head = f"{self._scenes}. {title}"
        if self._bold:
            head = f"\033[1m{head}\033[0m"
        self._write(f"\n[{self.seconds:4.0f} s] {head}")

    def say(self, text: str) -> None:
        """A sentence."""
        self._write(text)

    def command(self, line: str, output: str) -> None:
        """A command as one would type it, and what it printed."""
        self._write(f"{_INDENT}$ {line}")
        self.text(output)

    def text(self, text: str) -> None:
        """Text as it is, indented."""
        for line in text.rstrip().splitlines():
            self._write(f"{_INDENT}{line}".rstrip())

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Columns; the first row names them."""
        self.text(table(rows))

    def _write(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def quoted(word: str) -> str:
    """As a shell takes it."""
    return shlex.quote(word)
