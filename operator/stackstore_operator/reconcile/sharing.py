"""Tables and kv namespaces of one database that several stacks use: told, and never refused. Pure.

It may be meant: two stacks that share a registry, say. It lowers nothing.

Compared are the names that were given, on one host, port and database; not files, for each pod has its
own, and not the tables that a stock server has whatever the config says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stackstore.credentials.snapshot import PostgresBackend, Snapshot
from stackstore_operator.api.binding import StoreBinding, StoreBindingStatus
from stackstore_operator.api.conditions import Reason
from stackstore_operator.reconcile import conditions
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.reconcile.record import Places
from stackstore_operator.render import places as places_of_render

CONDITION = "Exclusive"

Claim = tuple[object, ...]
"""A place in a database; equal when it is the same one."""

_NAMED = 5
"""So many stacks of one's own namespace are named, and not more."""
_COUNTED = 10
"""So many of other namespaces are counted. Without a bound each new one would be told to all others."""
_SHOWN = 5
_WAITING = Said(CONDITION, "Unknown", Reason.WAITING, "other stacks are still being looked at")


def claims(snapshot: Snapshot | None, places: Places | None) -> dict[Claim, str]:
    """What a stack uses, each with its name in words.

    Args:
        snapshot: what its Secret holds.
        places: where its stores were put.
    """
    found: dict[Claim, str] = {}
    if snapshot is None:
        return found
    for name, place in (places or {}).values():
        backend = snapshot.backends.get(name)
        if isinstance(backend, PostgresBackend) and place:
            kind = "kv namespace" if backend.type == "kv_postgres" else "table"
            folded = places_of_render.folded(kind, place, backend)
            found[*places_of_render.database(backend), kind, folded] = f"{kind} '{place}'"
    return found


def told(
    bindings: Iterable[StoreBinding],
    statuses: Mapping[str, StoreBindingStatus],
    said: Said | None,
    now: int,
) -> dict[str, StoreBindingStatus]:
    """The same statuses with the condition.

    Args:
        bindings: of the stack, as they are in the cluster.
        statuses: by the binding's name.
        said: the condition; None: what was said before stays, for nobody knows.
        now: epoch seconds.
    """
    made = {}
    for binding in bindings:
        name, generation = binding.metadata.name, binding.metadata.generation
        before = conditions.known(binding.status.conditions, CONDITION)
        one = said or (conditions.repeated(before) if before is not None else None) or _WAITING
        timed = conditions.timed([one], binding.status.conditions, generation, now)
        status = statuses[name]
        made[name] = status.model_copy(update={"conditions": [*status.conditions, *timed]})
    return made


class Sharing:
    """Who uses what; a look at one stack costs nothing for all the others."""

    def __init__(self) -> None:
        self._claims: dict[Key, Mapping[Claim, str]] = {}
        self._holders: dict[Claim, dict[str, set[str]]] = {}
        self._pending: set[Key] = set()

    def begin(self, stacks: Iterable[Key]) -> None:
        """A start: until each of these stacks was looked at, nobody knows who shares what."""
        self._pending = set(stacks)

    @property
    def complete(self) -> bool:
        """Whether all stacks are known."""
        return not self._pending

    def put(self, stack: Key, wanted: Mapping[Claim, str]) -> set[Key]:
        """A stack uses these.

        Returns:
            The other stacks that are told something else now; none before all are known.
        """
        self._pending.discard(stack)
        before = self._claims.get(stack, {})
        affected: set[Key] = set()
        for claim in before.keys() - wanted.keys():
            affected |= self._change(claim, stack, there=False)
        for claim in wanted.keys() - before.keys():
            affected |= self._change(claim, stack, there=True)
        if wanted:
            self._claims[stack] = dict(wanted)
        else:
            self._claims.pop(stack, None)
        return affected if self.complete else set()

    def said(self, stack: Key) -> Said | None:
        """The condition; None: not everybody is known yet."""
        if not self.complete:
            return None
        parts = [
            f"{words}: {others}"
            for claim, words in sorted(self._claims.get(stack, {}).items(), key=lambda one: one[1])
            if (others := self._others(claim, stack))
        ]
        if not parts:
            return Said(CONDITION, "True", Reason.EXCLUSIVE)
        more = f"; and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
        return Said(
            CONDITION,
            "False",
            Reason.TABLE_SHARED,
            "used by other stacks on the same database, which may be meant: "
            + "; ".join(parts[:_SHOWN])
            + more,
        )

    # -- inside

    def _change(self, claim: Claim, stack: Key, *, there: bool) -> set[Key]:
        """Note it; returns whose words are others by that."""
        namespace, name = stack
        holders = self._holders.setdefault(claim, {})
        members = holders.setdefault(namespace, set())
        members.add(name)
        total = sum(map(len, holders.values()))
        # With it, each of them had or has one more than without.
        affected = {(namespace, other) for other in members if len(members) <= _NAMED + 2}
        for elsewhere, others in holders.items():
            if elsewhere != namespace and total - len(others) <= _COUNTED:
                affected |= {(elsewhere, other) for other in others}
        if not there:
            members.discard(name)
            if not members:
                del holders[namespace]
            if not holders:
                del self._holders[claim]
        return affected - {stack}

    def _others(self, claim: Claim, stack: Key) -> str:
        holders = self._holders[claim]
        namespace, name = stack
        mine = holders[namespace]
        foreign = sum(map(len, holders.values())) - len(mine)
        parts = []
        if 1 < len(mine) <= _NAMED + 1:
            parts.append("stack " + ", ".join(f"'{other}'" for other in sorted(mine - {name})))
        elif len(mine) > _NAMED + 1:
            parts.append(f"more than {_NAMED} stacks of this namespace")
        if foreign >= _COUNTED:
            parts.append(f"{_COUNTED} or more stacks of other namespaces")
        elif foreign:
            parts.append(f"{foreign} stack{'' if foreign == 1 else 's'} of other namespaces")
        return " and ".join(parts)
