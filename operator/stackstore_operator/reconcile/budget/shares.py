"""Who gets how much of one budget. Pure.

Oldest first. Nobody who has a grant loses of it; who asks for more than is free keeps what he has,
and who has nothing is refused. Somebody younger who asks for less may still fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from stackstore_operator.reconcile.inputs import Key

ClaimKey = tuple[str, Key]
"""(binding's name, backend)"""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one binding asks of one backend, in connections.

    Attributes:
        stack: the binding's stack, namespace and name.
        born: the binding's creationTimestamp; older ones come first, then by namespace and name.
        ask: the most that its part of the stack may hold.
        known: False: a workload isn't there yet, so that `ask` is the least it may be.
        held: what was granted before.
        terms: how `ask` comes about, for messages.
        past: nobody asks for it any more, but it is in force until something new is rendered.
    """

    stack: Key
    binding: str
    backend: Key
    born: str
    ask: int
    held: int = 0
    known: bool = True
    terms: str = ""
    past: bool = False

    @property
    def order(self) -> tuple[str, str, str, Key]:
        """Oldest first."""
        return self.born, self.namespace, self.binding, self.backend

    @property
    def namespace(self) -> str:
        """The binding's."""
        return self.stack[0]

    @property
    def key(self) -> ClaimKey:
        """What names it within its stack."""
        return self.binding, self.backend

    @property
    def kept(self) -> int:
        """What it keeps whatever the others ask: its grant, as far as it still asks for that."""
        return min(self.held, self.ask) if self.known else self.held

    @property
    def lacking(self) -> int:
        """What it asks for beyond that; nothing as long as it isn't known how much it is."""
        return max(0, self.ask - self.held) if self.known else 0


@dataclass(frozen=True, slots=True)
class Shares:
    """A budget that was handed out.

    Attributes:
        grants: one a claim, in the claims' order.
        total: their sum.
        beyond: the numbers of claims whose grants lie beyond the budget (it was larger once).
    """

    grants: tuple[int, ...]
    total: int
    beyond: frozenset[int]


def hand_out(claims: Sequence[Claim], room: int) -> Shares:
    """Hand out what there is.

    Args:
        claims: in their order (`in_order`).
        room: how many connections may be granted in all.
    """
    free = room - sum(claim.kept for claim in claims)
    grants: list[int] = []
    for _, of_one in groupby(claims, key=lambda claim: (claim.stack, claim.binding)):
        together = tuple(of_one)
        # A binding gets all that it asks for or nothing more: a half of it would not be rendered.
        lacking = sum(claim.lacking for claim in together)
        fits = lacking <= free
        free -= lacking if fits else 0
        grants += [claim.kept + (claim.lacking if fits else 0) for claim in together]
    beyond = []
    so_far = 0
    for number, grant in enumerate(grants):
        so_far += grant
        if grant and so_far > room:
            beyond.append(number)
    return Shares(tuple(grants), so_far, frozenset(beyond))


def in_order(claims: Iterable[Claim]) -> list[Claim]:
    """Oldest first."""
    return sorted(claims, key=lambda claim: claim.order)
