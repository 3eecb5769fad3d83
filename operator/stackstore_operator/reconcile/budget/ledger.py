"""All claims on all budgets, as the last looks at stacks and backends found them.

It lives in memory only: what was granted stands in each stack's own Secret (`record`), so that after
a restart the first look at each stack tells the ledger. Until all have been looked at once nothing
new is granted: somebody who is not yet known might hold it already, or be older.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from stackstore_operator.reconcile.budget.ruling import Budget, Ruling, rulings
from stackstore_operator.reconcile.budget.shares import Claim, ClaimKey, hand_out, in_order
from stackstore_operator.reconcile.inputs import Key

SETTLE_SECONDS = 30.0
"""How long after its begin a ledger waits for stacks that can't be looked at."""
REFRESH_SECONDS = 5.0
"""How long until who was refused is looked at again because the numbers he was told have changed."""

Server = tuple[str, str, int]
"""(namespace of the backends, host, port): budgets are shared by backends of one namespace only."""


@dataclass(frozen=True, slots=True)
class Place:
    """What of a backend matters here.

    Attributes:
        server: the server it is on; None: not known.
        limit: its `maxConnections`; None: it has none.
        verified: the operator logs in now and then.
    """

    server: Server | None
    limit: int | None = None
    verified: bool = True


Wake = Callable[[Literal["stack", "backend"], Key, float], None]
"""Called with a thing that should be looked at, and in how many seconds."""


class Ledger:
    """Keeps the claims and hands out budgets.

    Args:
        wake: called for stacks for which something has changed.
        clock: monotonic seconds.
    """

    def __init__(self, wake: Wake, clock: Callable[[], float] = time.monotonic) -> None:
        self._wake = wake
        self._clock = clock
        self._stacks: dict[Key, dict[ClaimKey, Claim]] = {}
        self._claimants: dict[Key, set[Key]] = {}
        self._sums: dict[Key, tuple[int, int]] = {}
        # By backend: who was told that something is wrong, and with what total.
        self._told: dict[Key, dict[tuple[Key, ClaimKey], int]] = {}
        self._beyond: dict[Key, int] = {}
        self._places: dict[Key, Place] = {}
        self._servers: dict[Server, set[Key]] = {}
        self._expected: set[Key] = set()
        self._postponed: set[Key] = set()
        self._deadline = 0.0

    def begin(self, stacks: Iterable[Key]) -> None:
        """Start anew: nothing new is granted until these stacks have been looked at once."""
        for known in (self._stacks, self._claimants, self._sums, self._told, self._beyond):
            known.clear()
        self._postponed.clear()
        self._expected = set(stacks)
        self._deadline = self._clock() + SETTLE_SECONDS

    # -- what is known

    def place(self, backend: Key, place: Place | None) -> None:
        """A backend is there with this server and limit; None: it is gone."""
        old = self._places.get(backend)
        if place is not None and place.server is None and old is not None:
            # Its login can't be read for now: that doesn't move the database.
            place = replace(place, server=old.server)
        if place == old:
            return
        if old is not None and old.server is not None:
            self._servers[old.server].discard(backend)
        if place is None:
            self._places.pop(backend, None)
        else:
            self._places[backend] = place
            if place.server is not None:
                self._servers.setdefault(place.server, set()).add(backend)
        for mates in (self._mates(old, backend), self._mates(place, backend)):
            for mate in mates:
                if mate != backend:
                    self._wake("backend", mate, 0)
                for stack in self._claimants.get(mate, ()):
                    self._wake("stack", stack, 0)

    def budget(self, backend: Key) -> Budget | None:
        """The budget that binds a backend; None when nothing does."""
        place = self._places.get(backend)
        mates = [mate for mate in self._mates(place, backend) if mate in self._places]
        limits = [(limit, mate) for mate in mates
                  if (limit := self._places[mate].limit) is not None]  # fmt: skip
        if not limits:
            return None
        limit, owner = min(limits)
        return Budget(limit, sum(self._places[mate].verified for mate in mates), owner)

    def total(self, backend: Key) -> int:
        """What is granted of a backend's budget to all."""
        return self._sum(self._mates(self._places.get(backend), backend))[0]

    def note(
        self, stack: Key, claims: Iterable[Claim], places: Mapping[Key, Place]
    ) -> Mapping[ClaimKey, Ruling] | None:
        """A stack claims this; what is granted is granted from now on.

        Args:
            stack: namespace and name.
            claims: all of its claims, with what was granted before.
            places: the backends that these are for.

        Returns:
            The rulings on claims that a budget binds; None: it must be looked at later, when all
            other stacks are known.
        """
        for backend, place in places.items():
            self.place(backend, place)
        mine = {claim.key: claim for claim in claims}
        touched = self._stacks.get(stack, {}) | mine
        self._replace(stack, mine)
        self._known(stack)
        found: dict[ClaimKey, Ruling] = {}
        for one, group in self._groups(claim.backend for claim in touched.values()):
            found |= self._settle(stack, one, group)
        if any(ruling.claim.lacking for ruling in found.values()) and not self._settled():
            self._postponed.add(stack)
            return None
        # What is granted is taken, before anybody else is looked at.
        self._replace(
            stack,
            {
                key: replace(claim, held=found[key].grant) if key in found else claim
                for key, claim in mine.items()
            },
        )
        for key, ruling in found.items():
            told = self._told.setdefault(ruling.claim.backend, {})
            told.pop((stack, key), None)
            if ruling.short or ruling.beyond:
                told[stack, key] = ruling.total
        self._tell_backends({claim.backend for claim in touched.values()})
        return found

    def forget(self, stack: Key) -> None:
        """A stack is gone."""
        backends = {claim.backend for claim in self._stacks.get(stack, {}).values()}
        self._replace(stack, {})
        self._known(stack)
        for one, group in self._groups(backends):
            self._settle(stack, one, group)
        self._tell_backends(backends)

    # -- inside

    def _settle(self, stack: Key, one: Key, group: frozenset[Key]) -> dict[ClaimKey, Ruling]:
        """The rulings on a stack's claims on one server; others who can have more are woken."""
        budget = self.budget(one)
        if budget is None:
            return {}
        mine = [c for c in self._stacks.get(stack, {}).values() if c.backend in group]
        kept, lacking = self._sum(group)
        told = {
            who: total for backend in group for who, total in self._told.get(backend, {}).items()
        }
        if (
            lacking == sum(claim.lacking for claim in mine)
            and kept + lacking <= budget.room
            and all(who == stack for who, _ in told)
        ):
            # Nobody else asks or was told anything, and all fits: no need to look at each.
            return {
                c.key: Ruling(c, budget, c.kept + c.lacking, total=kept + lacking) for c in mine
            }
        claims = in_order(
            claim
            for claimant in {s for backend in group for s in self._claimants.get(backend, ())}
            for claim in self._stacks[claimant].values()
            if claim.backend in group
        )
        shares = hand_out(claims, budget.room)
        for number, (claim, grant) in enumerate(zip(claims, shares.grants, strict=True)):
            if claim.stack == stack or not self._settled():
                continue
            who = claim.stack, claim.key
            wrong = (claim.known and grant < claim.ask) or number in shares.beyond
            if grant > claim.kept or (who in told and not wrong):
                self._wake("stack", claim.stack, 0)
            elif wrong and told.get(who) != shares.total:
                self._wake("stack", claim.stack, REFRESH_SECONDS)
        found = rulings(claims, shares, budget, stack[0])
        return {r.claim.key: r for r in found if r.claim.stack == stack}

    def _tell_backends(self, backends: Iterable[Key]) -> None:
        """Backends of which more is granted than there is say so, with how much it is."""
        for one, group in self._groups(backends):
            budget = self.budget(one)
            total = self._sum(group)[0]
            beyond = total if budget is not None and total > budget.room else 0
            for backend in group:
                if self._beyond.get(backend, 0) != beyond:
                    self._beyond[backend] = beyond
                    self._wake("backend", backend, 0)

    def _replace(self, stack: Key, claims: dict[ClaimKey, Claim]) -> None:
        for key, claim in self._stacks.pop(stack, {}).items():
            self._claimants[claim.backend].discard(stack)
            self._add(claim, -1)
            if key not in claims:
                self._told.get(claim.backend, {}).pop((stack, key), None)
        if claims:
            self._stacks[stack] = claims
        for claim in claims.values():
            self._claimants.setdefault(claim.backend, set()).add(stack)
            self._add(claim, 1)

    def _add(self, claim: Claim, times: int) -> None:
        kept, lacking = self._sums.get(claim.backend, (0, 0))
        self._sums[claim.backend] = kept + times * claim.kept, lacking + times * claim.lacking

    def _sum(self, backends: Iterable[Key]) -> tuple[int, int]:
        """What is kept of them, and what is lacking."""
        sums = [self._sums.get(backend, (0, 0)) for backend in backends]
        return sum(kept for kept, _ in sums), sum(lacking for _, lacking in sums)

    def _known(self, stack: Key) -> None:
        self._expected.discard(stack)
        if self._postponed and self._settled():
            for postponed in self._postponed:
                self._wake("stack", postponed, 0)
            self._postponed.clear()

    def _settled(self) -> bool:
        return not self._expected or self._clock() >= self._deadline

    def _mates(self, place: Place | None, backend: Key) -> set[Key]:
        """The backends on the same server, itself among them."""
        if place is None or place.server is None:
            return {backend}
        return self._servers.get(place.server, set()) | {backend}

    def _groups(self, backends: Iterable[Key]) -> list[tuple[Key, frozenset[Key]]]:
        """Backends grouped by server: one of each group, and all that are on it."""
        found = {frozenset(self._mates(self._places.get(b), b)): b for b in sorted(set(backends))}
        return [(one, group) for group, one in found.items()]
