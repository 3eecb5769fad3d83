"""How long a reconciler waits for what; the defaults are those of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

from stackstore_operator.reconcile.contest import Patience


@dataclass(frozen=True, slots=True)
class Waits:
    """All waits that tests shorten.

    Attributes:
        contests: how often to put back what somebody else keeps changing.
    """

    contests: Patience = field(default_factory=Patience)
