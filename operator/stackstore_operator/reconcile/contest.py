"""How often to put back what somebody else keeps changing. Pure but for a monotonic clock.

Without a bound, two controllers that want the same field otherwise would write for ever. What is put
back too often is contested: it is told, and tried again now and then. A change of what *we* want is
no correction: it is always written, contested or not.

Nothing of this outlives the process: what it has not written yet counts as new, not as put back.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Place(NamedTuple):
    """What is written as a whole: an object, or the status of one."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Patience:
    """The bounds; times in seconds.

    Attributes:
        corrections: how often a place is put back within `window`, until it counts as contested.
        window: also: how long it must stay as it should be until all is forgotten.
        retry: how long to wait between two corrections of a contested place.
        calm: how long it must stay as it should be until it is no longer told.
    """

    corrections: int = 3
    window: float = 300
    retry: float = 600
    calm: float = 30


@dataclass
class _Contest:
    wanted: str
    agreed_since: float | None
    corrected: list[float] = field(default_factory=list)
    blocked: bool = False
    words: str = ""


class Contests:
    """What was written where, and how often in vain.

    Args:
        patience: the bounds.
        clock: seconds that never jump.
    """

    def __init__(
        self, patience: Patience | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience = patience or Patience()
        self._clock = clock
        self._known: dict[Place, _Contest] = {}

    def may_write(self, place: Place, wanted: str) -> bool:
        """Whether to write; to be asked when a place is not as wanted.

        Args:
            place: where.
            wanted: a fingerprint of what it should be.
        """
        known = self._known.get(place)
        if known is None or known.wanted != wanted:
            return True
        now, patience = self._clock(), self._patience
        if known.agreed_since is not None and now - known.agreed_since >= patience.window:
            known.corrected, known.blocked = [], False
        known.agreed_since = None
        if not known.blocked:
            recent = [at for at in known.corrected if now - at < patience.window]
            known.corrected = recent
            if len(recent) < patience.corrections:
                return True
            known.blocked, known.words = True, ""
        return now - known.corrected[-1] >= patience.retry

    def wrote(self, place: Place, wanted: str) -> None:
        """It was written."""
        now = self._clock()
        # At the end, so that what was longest as it should be is at the front.
        known = self._known.pop(place, None) or _Contest("", now)
        if known.wanted == wanted:
            known.corrected.append(now)
        known.wanted, known.agreed_since = wanted, now
        self._known[place] = known
        self._forget_the_calm(now)

    def _forget_the_calm(self, now: float) -> None:
        """Drop what was as it should be for so long that it would be forgotten anyway."""
        for place, known in list(itertools.islice(self._known.items(), 4)):
            since = known.agreed_since
            if since is None:
                self._known[place] = self._known.pop(place)
            elif now - since >= self._patience.window:
                del self._known[place]

    def agrees(self, place: Place) -> None:
        """It was found as wanted."""
        known = self._known.get(place)
        if known is not None and known.agreed_since is None:
            known.agreed_since = self._clock()

    def is_contested(self, place: Place) -> bool:
        """Whether it is to be told."""
        known = self._known.get(place)
        if known is None or not known.blocked:
            return False
        agreed = known.agreed_since
        return agreed is None or self._clock() - agreed < self._patience.calm

    def words(self, place: Place, words: str) -> str:
        """What is told of a contested place: the first words of the contest, as long as it lasts.

        What the others own may be different at each look; a status must not follow them.
        """
        known = self._known[place]
        known.words = known.words or words
        return known.words

    def again_in(self, place: Place) -> float | None:
        """Seconds until a contested place is to be looked at again; None: it isn't contested."""
        if not self.is_contested(place):
            return None
        known = self._known[place]
        due = (
            known.corrected[-1] + self._patience.retry
            if known.agreed_since is None
            else known.agreed_since + self._patience.calm
        )
        return max(0.1, due - self._clock())

    def forget(self, *places: Place) -> None:
        """These are no longer ours to write."""
        for place in places:
            self._known.pop(place, None)


def fingerprint(wanted: object) -> str:
    """Tells two wishes apart, and nothing of what is in them."""
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def rivals(
    live: Mapping[str, Any] | None, desired: Mapping[str, Any], ours: tuple[str, ...]
) -> str:
    """Who has changed which of the fields that we want, in words.

    Args:
        live: the object as it is.
        desired: what we apply.
        ours: our own field managers.
    """
    if live is None:
        return "somebody keeps deleting it"
    wanted = set(_paths(desired))
    found: dict[str, set[str]] = {}
    for entry in live["metadata"].get("managedFields") or []:
        manager = str(entry.get("manager") or "")
        theirs = wanted & set(_owned(entry.get("fieldsV1") or {}))
        if manager not in ours and theirs:
            found.setdefault(manager, set()).update(theirs)
    if not found:
        # A field that is taken away has no owner.
        return "somebody keeps taking away what belongs in it"
    parts = []
    for manager, fields in sorted(found.items()):
        shown = ", ".join(f"`{name}`" for name in sorted(fields)[:3])
        more = f" and {len(fields) - 3} more" if len(fields) > 3 else ""
        parts.append(f"'{manager}' keeps changing {shown}{more}")
    return ", ".join(parts)


def _paths(desired: Mapping[str, Any]) -> list[str]:
    metadata = desired["metadata"]
    return [
        *(f"data[{key}]" for key in desired.get("data") or {}),
        *(f"metadata.labels[{key}]" for key in metadata.get("labels") or {}),
        *(f"metadata.annotations[{key}]" for key in metadata.get("annotations") or {}),
        "metadata.ownerReferences",
    ]


def _owned(fields: Mapping[str, Any]) -> list[str]:
    def keys(of: object) -> list[str]:
        return [key.removeprefix("f:") for key in of if key != "."] if isinstance(of, dict) else []

    metadata = fields.get("f:metadata") or {}
    return [
        *(f"data[{key}]" for key in keys(fields.get("f:data"))),
        *(f"metadata.labels[{key}]" for key in keys(metadata.get("f:labels"))),
        *(f"metadata.annotations[{key}]" for key in keys(metadata.get("f:annotations"))),
        *(["metadata.ownerReferences"] if "f:ownerReferences" in metadata else []),
    ]
