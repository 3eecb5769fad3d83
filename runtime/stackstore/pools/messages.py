"""What a pool says when it can't serve; no secrets are known here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stackstore.credentials.machine import Machine
from stackstore.errors import BackendUnavailableError, CredentialsError
from stackstore.pools.slots import T


def not_ours(name: str, *, forked: bool) -> str:
    """Why connections can't be used here."""
    if forked:
        return (
            f"backend {name!r}: this process was forked after stackstore.open(); connections can't be "
            "shared by two processes, so call stackstore.open() in the child"
        )
    return (
        f"backend {name!r}: opened in another event loop; call stackstore.open() in the loop that "
        "uses it"
    )


def too_late(
    name: str,
    waited: float,
    machine: Machine[T],
    troubles: Mapping[T, str],
    describe: Callable[[T], str],
    *,
    capacity: int,
    opening: int,
) -> BackendUnavailableError:
    """The error of a caller who waited in vain.

    Args:
        name: the backend's.
        waited: seconds.
        machine: what is proven, refused and absent.
        troubles: the newest failure of each target of the snapshot; empty text where there is none.
        describe: a target's revision.
        capacity: the pool's bound.
        opening: how many attempts are under way.
    """
    where = f"backend {name!r}: no connection within {waited:.3g} s"
    proven = machine.proven
    if proven is None:
        kind = CredentialsError if machine.refusals else BackendUnavailableError
        return kind(f"{where}: {unproven(machine, troubles, describe)}")
    if troubles.get(proven):
        return BackendUnavailableError(f"{where}: {troubles[proven]}")
    if opening:
        return BackendUnavailableError(
            f"{where}: the server takes too long to answer; of {capacity} connections {opening} are "
            "being opened"
        )
    return BackendUnavailableError(
        f"{where}: all {capacity} are in use; raise pool.size or pool.maxOverflow, or look for a caller "
        "that keeps one"
    )


def unproven(machine: Machine[T], troubles: Mapping[T, str], describe: Callable[[T], str]) -> str:
    """Why there is no login; arguments as of `too_late`."""
    tried = "; ".join(
        f"revision {describe(target)} {_fate(machine, target)}"
        + (f" ({trouble})" if trouble else "")
        for target, trouble in troubles.items()
    )
    return f"no login is proven; {tried or 'the snapshot offers none'}"


def _fate(machine: Machine[T], target: T) -> str:
    if machine.refusals.get(target):
        return "refused"
    return "unreachable" if machine.absences.get(target) else "not answered yet"
