"""What was decided of a claim, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.finding import Finding
from stackstore_operator.reconcile import conditions
from stackstore_operator.reconcile.budget.shares import Claim, Shares
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.inputs import Key

CONDITION = "WithinBudget"


@dataclass(frozen=True, slots=True)
class Budget:
    """What all consumers of one database server may hold together.

    Attributes:
        limit: the smallest `maxConnections` of the server's backends.
        reserved: how many of these are kept for verification.
        owner: the backend whose `maxConnections` that is.
    """

    limit: int
    reserved: int
    owner: Key

    @property
    def room(self) -> int:
        """What may be granted."""
        return max(0, self.limit - self.reserved)


@dataclass(frozen=True, slots=True)
class Ruling:
    """The answer to one claim.

    Attributes:
        grant: how many connections it may hold.
        beyond: its grant lies beyond the budget, which was larger once.
        total: what is granted to all.
        near: what others of the claim's own namespace hold: connections, bindings.
        far: the same of other namespaces, which are told as counts only.
    """

    claim: Claim
    budget: Budget
    grant: int
    beyond: bool = False
    total: int = 0
    near: tuple[int, int] = (0, 0)
    far: tuple[int, int] = (0, 0)

    @property
    def waits(self) -> bool:
        """Nothing is granted before it is known how much is asked for."""
        return not self.claim.known and self.grant == 0

    @property
    def refused(self) -> bool:
        """It asks, and gets nothing."""
        return self.grant == 0 and self.claim.ask > 0

    @property
    def short(self) -> bool:
        """It gets less than it asks for."""
        return self.claim.known and self.grant < self.claim.ask

    def said(self, namespace: str) -> Said:
        """The condition WithinBudget as far as this claim goes; `namespace` is the binding's."""
        what = _label(self.claim.backend, namespace)
        if self.waits:
            return Said(
                CONDITION,
                "Unknown",
                Reason.WAITING,
                f"{what}: what is asked of its budget is not known before all consumers are there",
            )
        asks = f"{what}: asks {self.claim.terms} = {self.claim.ask}"
        if self.refused:
            return Said(CONDITION, "False", Reason.BUDGET_EXCEEDED, f"{asks}; {self._rest()}")
        if self.short:
            kept = f"keeps the {self.grant} that it was granted, which its pools share"
            return Said(CONDITION, "False", Reason.GRANT_KEPT, f"{asks} and {kept}; {self._rest()}")
        if self.beyond:
            return Said(
                CONDITION,
                "False",
                Reason.OVERCOMMITTED,
                f"{what}: holds {self.grant}, and {self.total} of {self.budget.room} are granted in "
                "all: the budget became smaller. Nobody is cut off; scale down, or raise "
                "`maxConnections`",
            )
        known = f"{self.claim.terms} = {self.grant}" if self.claim.known else str(self.grant)
        return Said(CONDITION, "True", Reason.GRANTED, f"{what}: {known}")

    def _rest(self) -> str:
        """What became of the rest of the budget, and what to do."""
        held = [
            f"{connections} to {_bindings(count)} of {where}"
            for (connections, count), where in (
                (self.near, "this namespace"), (self.far, "other namespaces"),
            )
            if count
        ]  # fmt: skip
        granted = f"{' and '.join(held)}" if held else "none to others"
        kept = f", {self.budget.reserved} kept for verification" if self.budget.reserved else ""
        free = max(0, self.budget.room - self.total)
        return (
            f"of {self.budget.limit}, {granted} are granted{kept}, {free} are free. Scale down, make "
            "`postgres.pool` smaller, or raise `maxConnections`"
        )


_WORST = (Reason.BUDGET_EXCEEDED, Reason.WAITING, Reason.GRANT_KEPT, Reason.OVERCOMMITTED)


def said(rulings: Iterable[Ruling]) -> Said | None:
    """The condition WithinBudget of a binding, from all rulings on its claims; None: no budget binds it."""
    found = [(ruling.said(ruling.claim.namespace), ruling) for ruling in rulings]
    if not found:
        return None
    worst = next(
        (reason for reason in _WORST if any(one.reason == reason for one, _ in found)),
        Reason.GRANTED,
    )
    told = [one for one, _ in found if one.reason == worst]
    return replace(told[0], message=". ".join(one.message for one in told))


def rulings(
    claims: Sequence[Claim], shares: Shares, budget: Budget, namespace: str
) -> list[Ruling]:
    """The rulings on all claims of one namespace.

    Args:
        claims: of all namespaces, in their order.
        shares: what was handed out to them.
        budget: the budget.
        namespace: whose claims to answer.
    """
    near, far = (0, 0), (0, 0)
    for claim, grant in zip(claims, shares.grants, strict=True):
        if claim.namespace == namespace:
            near = near[0] + grant, near[1] + (grant > 0)
        else:
            far = far[0] + grant, far[1] + (grant > 0)
    return [
        Ruling(
            claim,
            budget,
            grant,
            number in shares.beyond,
            shares.total,
            (near[0] - grant, near[1] - (grant > 0)),
            far,
        )
        for number, (claim, grant) in enumerate(zip(claims, shares.grants, strict=True))
        if claim.namespace == namespace
    ]


def of_backend(
    backend: StorageBackend, budget: Budget | None, total: int, finding: Finding | None
) -> Said | None:
    """The condition WithinBudget of a backend; None when it has no budget.

    Args:
        backend: with the condition that it has so far.
        budget: what binds its consumers.
        total: what is granted of it.
        finding: what the last visit to the database found; None: there was none since the start.
    """
    if budget is None:
        return None
    limit = backend.spec.max_connections
    if total > budget.room:
        return Said(
            CONDITION,
            "False",
            Reason.OVERCOMMITTED,
            f"{total} connections are granted, and {budget.room} of {budget.limit} may be (the rest is "
            "kept for verification). Nobody is cut off; scale consumers down, or raise "
            f"`spec.maxConnections` of StorageBackend '{budget.owner[1]}'",
        )
    allowed = None if finding is None else finding.max_connections
    if limit is not None and allowed is not None and limit > allowed:
        return Said(
            CONDITION,
            "False",
            Reason.SERVER_LIMIT_EXCEEDED,
            f"`spec.maxConnections` is {limit}, and the server lets this login open {allowed}; lower it, "
            "or raise the server's `max_connections` (or the limit of the role or database)",
        )
    old = conditions.known(backend.status.conditions, CONDITION)
    if (
        allowed is None
        and old is not None
        and old.reason == Reason.SERVER_LIMIT_EXCEEDED
        and old.observed_generation == backend.metadata.generation
    ):
        # Nobody has looked since: what was so goes on being so.
        return conditions.repeated(old)
    shared = (
        f"that of StorageBackend '{budget.owner[1]}' on the same server" if limit is None else ""
    )
    return Said(CONDITION, "True", Reason.GRANTED, shared)


def _label(backend: Key, namespace: str) -> str:
    return f"StorageBackend '{backend[1] if backend[0] == namespace else '/'.join(backend)}'"


def _bindings(count: int) -> str:
    return "1 binding" if count == 1 else f"{count} bindings"
