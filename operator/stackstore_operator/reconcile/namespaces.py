"""What is known of namespaces: their labels, for consent, and which of them are ending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace."""

    labels: Mapping[str, str] = field(default_factory=dict)
    ending: bool = False


class Namespaces:
    """All namespaces, as far as they can be read.

    Attributes:
        readable: whether they are listed and watched. An install that may not do so never says a
            word here: then no label is known, and selectors take nothing.
    """

    def __init__(self) -> None:
        self.readable = False
        self._known: dict[str, Namespace] = {}

    def put(self, name: str, namespace: Namespace | None) -> bool:
        """One is like this now, or gone; False when that is no news."""
        if self._known.get(name) == namespace:
            return False
        if namespace is None:
            del self._known[name]
        else:
            self._known[name] = namespace
        return True

    def labels(self, name: str) -> Mapping[str, str] | None:
        """A namespace's labels; None: not known."""
        found = self._known.get(name)
        return None if found is None else found.labels

    def is_ending(self, name: str) -> bool | None:
        """Whether a namespace is being deleted; None: nobody told."""
        found = self._known.get(name)
        return None if found is None else found.ending

    def forget(self) -> None:
        """They can't be read any more, and what was known may be wrong by now."""
        self.readable = False
        self._known.clear()
