"""Who asks the registry: a user, or the system itself; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stackstore.access import Action
from stackstore.access.access import Access, Asker
from stackstore.access.owners import Owner
from stackstore.stores.metadata.entries import Entry


class Asking(Protocol):
    """Somebody who asks."""

    @property
    def owner(self) -> Owner | None:
        """Whose what he registers is; None: the system's."""

    def may(self, action: Action, entry: Entry) -> bool:
        """Whether he may do this with an entry."""

    def has(self, entry: Entry) -> bool:
        """Whether it is his own."""


@dataclass(frozen=True, slots=True)
class AsUser:
    """The current user, or anybody where authorization is off.

    An entry is called `<type>::<identifier>` in a policy. The system's are everybody's to see, in
    every tenant, as far as the policy lets somebody see what is unowned; no user changes them.
    """

    access: Access
    asker: Asker

    @property
    def owner(self) -> Owner | None:
        """See `Asking`."""
        return self.asker.owner

    def may(self, action: Action, entry: Entry) -> bool:
        """See `Asking`."""
        question = self.access.question_within(action, f"{entry.kind}::", self.asker)
        if entry.owner is not None:
            return question.decision(entry.owner).of(entry.identifier)
        changes = action is not Action.READ
        return not (changes and self.access.auth) and question.of_system.of(entry.identifier)

    def has(self, entry: Entry) -> bool:
        """See `Asking`."""
        owner, own = entry.owner, self.asker.owner
        if owner is None or owner.principal != own.principal:
            return False
        return self.access.tenancy.belongs(owner.tenant) == own.tenant


@dataclass(frozen=True, slots=True)
class AsSystem:
    """The process itself: what the configuration lists, and what providers tell of."""

    owner: None = None

    def may(self, action: Action, entry: Entry) -> bool:
        """Whatever it wants."""
        del action, entry
        return True

    def has(self, entry: Entry) -> bool:
        """See `Asking`."""
        return entry.owner is None


def first(asking: Asking, entries: list[Entry]) -> Entry | None:
    """Of the entries of one identifier the one that is meant; None: he may see none.

    It is one's own, else the system's, else the newest.
    """
    seen = [entry for entry in entries if asking.may(Action.READ, entry)]
    return min(
        seen,
        key=lambda entry: (not asking.has(entry), entry.owner is not None, -entry.registered),
        default=None,
    )
