"""Which databases are visited, and how eagerly, as the backends' statuses say. Pure but for the call."""

from __future__ import annotations

from collections.abc import Sequence

from stackstore.credentials.snapshot import PostgresBackend
from stackstore_operator.api.backend import StorageBackend, StorageBackendStatus
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.pace import LONGEST_PAUSE
from stackstore_operator.probe.prober import HANGING, Prober, Subject
from stackstore_operator.reconcile import verification
from stackstore_operator.reconcile.adoption import is_adopted
from stackstore_operator.reconcile.backends import BackendState
from stackstore_operator.reconcile.conditions import known
from stackstore_operator.reconcile.tally import Use

_SOON_SECONDS = 5.0
_ON_THE_WAY = (Reason.PROCESSES_WAITING, Reason.CONSUMERS_MISSING, Reason.NO_PROCESS_SEEN)


def follow(
    prober: Prober,
    backend: StorageBackend,
    state: BackendState,
    status: StorageBackendStatus,
    uses: Sequence[Use],
) -> None:
    """Have the database of a backend visited, or not any more.

    Args:
        prober: visits it.
        backend: with the status that stood in the cluster before this look.
        state: what it amounts to.
        status: what is written of it.
        uses: by stacks.
    """
    key = (backend.metadata.namespace, backend.metadata.name)
    snapshot = state.snapshot
    if not isinstance(snapshot, PostgresBackend) or not verification.is_visited(backend, snapshot):
        prober.forget(key)
        return
    period = float(backend.spec.verification.period_seconds)
    adopted = known(status.conditions, "Adopted")
    before = verification.standing(backend, state.revision)
    prober.follow(
        key,
        Subject(snapshot, period, frozenset(use.stack_id for use in uses)),
        first_within=_first_within(backend, state.revision, period),
        hangs=before is not None and before.reason in HANGING,
        restless=bool(uses) and adopted is not None and adopted.reason in _ON_THE_WAY,
    )


def _first_within(backend: StorageBackend, revision: str, period: float) -> float:
    """After a restart all backends come at once: what is known already is looked at by and by."""
    if verification.standing(backend, revision) is None:
        return 0.0
    if not verification.verified(backend, revision):
        return LONGEST_PAUSE
    return period if is_adopted(backend, revision) else _SOON_SECONDS
