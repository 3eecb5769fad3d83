"""What can be looked at."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Look(NamedTuple):
    """A thing to look at."""

    kind: Literal["stack", "backend"]
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"
