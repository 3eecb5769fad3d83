"""The registry: what a stack serves, by type and identifier, with owners."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stackstore.access import AccessDeniedError, Action, Policy, Tenancy
from stackstore.access.access import Access, Unowned
from stackstore.errors import ConflictError, NotFoundError
from stackstore.kv import KVStore
from stackstore.sql.names import shown
from stackstore.stores.clock import microseconds
from stackstore.stores.documents import Document, plain
from stackstore.stores.metadata import entries
from stackstore.stores.metadata.asking import Asking, AsSystem, AsUser, first
from stackstore.stores.metadata.entries import Entry

logger = logging.getLogger(__name__)

_AT_ONCE = 1_000
"""Keys that are read at once."""

_TRIES = 100
"""How often a change begins again because others changed the same object; one of them did each time."""

_LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class MetadataStore:
    """Objects of the registry, as the server's models or as mappings with `type` and `identifier`.

    There is nothing in memory: each call asks the database, so what another process registered or
    deleted a moment ago counts.

    Identifiers are unique per type, tenant and principal. Of several objects of one identifier that
    a user may see, his own is meant, else the system's, else the newest. The system's (`owner` is
    None) are those that were registered through `system`: every user of every tenant sees them, as
    far as the policy permits what is unowned; none may change them.

    Every method raises, besides what it says itself:
        AccessDeniedError: there is no user.
        BackendUnavailableError: the database can't do it now.

    Args:
        kv: the namespace it is kept in.
        policy: rules as the run config has them, speaking of `<type>::<identifier>`.
        auth, tenancy, unowned: as those of `AuthorizedSqlStore`.
    """

    def __init__(
        self,
        kv: KVStore,
        policy: Policy | Sequence[Any] | str | None = None,
        *,
        auth: bool = True,
        tenancy: Tenancy | None = None,
        unowned: Unowned = "deny",
    ) -> None:
        self._kv = kv
        self._access: Access | None = Access(policy, auth=auth, tenancy=tenancy, unowned=unowned)

    @property
    def system(self) -> MetadataStore:
        """The same registry for the process itself, which needs no user and may do all.

        For what the configuration lists and what providers tell of. What it registers is the
        system's; it sees and may delete everybody's, the system's own first.
        """
        other = MetadataStore(self._kv)
        other._access = None
        return other

    async def register(self, obj: Document) -> dict[str, Any]:
        """Register an object as the current user's; returns it as it is registered, with its owner.

        One that is there stays, and is returned, where it says the same in all fields that are
        said now: so a server may register its configuration at each start. Of several processes
        that register at one moment one wins, and the others are told as if they had come later.

        Raises:
            ConflictError: the user (or the configuration) has one of this identifier that says
                otherwise; the text names the fields.
            AccessDeniedError: the user may not create it.
            InvalidArgumentError: it isn't an object of the registry.
        """
        given = entries.given(obj)
        asking = self._asking()
        wanted = given.entry(asking.owner, microseconds())
        if not asking.may(Action.CREATE, wanted):
            raise _denied(Action.CREATE)
        for _ in range(_TRIES):
            there = await self._in_the_way(asking, wanted)
            if there is None:
                if await self._create(wanted):
                    return wanted.document
                continue
            if conflicts := given.conflicts(there):
                raise ConflictError(
                    f"{_name(given.kind, given.identifier)} is registered already, and differs in "
                    f"{', '.join(map(shown, conflicts))}; delete it first, or update it"
                )
            return there.document
        raise _busy()

    async def update(
        self, obj: Document, *, expected: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Put an object in the place of the one that `get` returns; it keeps its owner.

        Args:
            obj: all of it.
            expected: fields that must have these values now.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            ConflictError: it isn't as expected.
            AccessDeniedError: the user may not update it.
            InvalidArgumentError: it isn't an object of the registry.
        """
        given = entries.given(obj)
        wanted = plain("what is expected of an object", expected or {})
        for _ in range(_TRIES):
            there = await self._changeable(Action.UPDATE, given.kind, given.identifier)
            for name, value in wanted.items():
                if there.document.get(name) != value:
                    raise ConflictError(f"{shown(name)} of the object isn't as expected")
            after = given.entry(there.owner, there.registered)
            if await self._kv.compare_and_set(there.key, there.value, after.value):
                return after.document
        raise _busy()

    async def delete(self, type: str, identifier: str) -> None:  # noqa: A002 - as the server says
        """Delete the object that `get` returns.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            AccessDeniedError: the user may not delete it.
        """
        for _ in range(_TRIES):
            there = await self._changeable(Action.DELETE, type, identifier)
            # It expires at once: so it goes only as long as it is what was decided about.
            if await self._kv.compare_and_set(there.key, there.value, "", _LONG_AGO):
                return
        raise _busy()

    async def get(self, type: str, identifier: str) -> dict[str, Any] | None:  # noqa: A002
        """An object; None: there is none, or the user may not see it."""
        asking = self._asking()
        found = first(asking, await self._called(type, identifier))
        return None if found is None else found.document

    async def get_all(self, type: str | None = None) -> list[dict[str, Any]]:  # noqa: A002
        """All objects that `get` would return, by type and identifier; of one type or of all."""
        asking = self._asking()
        start, end = entries.EVERYTHING if type is None else entries.of_kind(entries.kind(type))
        found: list[Entry] = []
        while True:
            keys = await self._kv.keys_in_range(start, end, _AT_ONCE)
            values = await self._kv.get_many(keys)
            found += _read(values[key] for key in keys if key in values)
            if len(keys) < _AT_ONCE:
                break
            # The next possible key.
            start = keys[-1] + "\0"
        groups = itertools.groupby(found, key=lambda entry: (entry.kind, entry.identifier))
        meant = (first(asking, list(group)) for _, group in groups)
        return [entry.document for entry in meant if entry is not None]

    # -- inside

    def _asking(self) -> Asking:
        return AsSystem() if self._access is None else AsUser(self._access, self._access.asker())

    async def _called(self, kind: str, identifier: str) -> list[Entry]:
        wanted = entries.called(entries.kind(kind), entries.identifier(identifier))
        return _read(await self._kv.values_in_range(*wanted))

    async def _in_the_way(self, asking: Asking, wanted: Entry) -> Entry | None:
        """What a new object would stand beside: one's own, or the system's."""
        found = await self._called(wanted.kind, wanted.identifier)
        near = [
            entry
            for entry in found
            if asking.has(entry) or (entry.owner is None and asking.may(Action.READ, entry))
        ]
        return min(near, key=lambda entry: not asking.has(entry), default=None)

    async def _create(self, wanted: Entry) -> bool:
        if await self._kv.compare_and_set(wanted.key, None, wanted.value):
            return True
        there = await self._kv.get(wanted.key)
        # What nobody can read is in nobody's way.
        broken = there is not None and entries.read(there) is None
        return broken and await self._kv.compare_and_set(wanted.key, there, wanted.value)

    async def _changeable(self, action: Action, kind: str, identifier: str) -> Entry:
        """The object that is meant, if one may change it."""
        asking = self._asking()
        found = first(asking, await self._called(kind, identifier))
        if found is None:
            raise NotFoundError(f"there is no {_name(kind, identifier)}")
        if not asking.may(action, found):
            raise _denied(action)
        return found


def _read(values: Iterable[str]) -> list[Entry]:
    found = []
    for value in values:
        entry = entries.read(value)
        if entry is None:
            logger.error("registry: a value that is no object is left out; register it again")
        else:
            found.append(entry)
    return found


def _name(kind: str, identifier: str) -> str:
    return f"{kind} {shown(identifier)}"


def _denied(action: Action) -> AccessDeniedError:
    return AccessDeniedError(f"registry: the user may not {action.value} such an object")


def _busy() -> ConflictError:
    return ConflictError("others change the object all the time; nothing was written, try again")
