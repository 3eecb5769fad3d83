"""Whether a SQLite file is opened by one pod at a time, as SQLite needs it. Pure.

It locks within one machine only, and its write-ahead log is shared memory: two pods on a network
volume damage the file, and two pods with a volume each have two different files.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stackstore.credentials.snapshot import SqliteBackend
from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import Consumer, StoreBinding, StoreBindingStatus
from stackstore_operator.api.conditions import Condition, Reason
from stackstore_operator.kube.workloads import Workloads
from stackstore_operator.reconcile import consumers
from stackstore_operator.reconcile.composition import Composition, Use
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.consumers import ConsumerState
from stackstore_operator.reconcile.inputs import Key, Neighbour, StackInputs
from stackstore_operator.reconcile.resolution import Resolution
from stackstore_operator.reconcile.uses import references

CONDITION = "FileExclusive"


class Claimed(NamedTuple):
    """A file on a volume that a claim stands for: `path` is the file's within the volume."""

    claim: str
    path: str


def said(
    binding: StoreBinding, inputs: StackInputs, composition: Composition, resolution: Resolution
) -> Said | None:
    """The condition FileExclusive of a binding; None when it has no file, or nobody knows who opens it."""
    files = {
        found.snapshot.path: use
        for use in composition.uses
        if use.binding == binding.metadata.name
        and (found := resolution.backends.get(use.name)) is not None
        and isinstance(found.snapshot, SqliteBackend)
    }
    named = consumers.named(
        b for b in inputs.bindings if composition.accepted[b.metadata.name].status == "True"
    )
    states = [s for s in consumers.observe(named, inputs.workloads) if s.found]
    if not files or not states:
        return None
    troubles = [*_pods(states), *_shared(files, named, inputs)]
    where = ", ".join(f"'{path}' ({_label(use, inputs)})" for path, use in sorted(files.items()))
    if not troubles:
        return Said(CONDITION, "True", Reason.FILE_EXCLUSIVE, f"{where}: one pod at a time")
    return Said(
        CONDITION,
        "False",
        Reason.FILE_SHARED,
        f"{where}: {'; '.join(troubles)}. A SQLite file is for one pod at a time: set `replicas: 1` and "
        "`strategy: {type: Recreate}`, give each stack a file of its own, or use a Postgres backend",
    )


def concerns(conditions: Iterable[Condition]) -> bool:
    """Whether a binding with these conditions has files that somebody opens."""
    return any(condition.type == CONDITION for condition in conditions)


def turned(bindings: Iterable[StoreBinding], statuses: Mapping[str, StoreBindingStatus]) -> bool:
    """Whether something else is said of files than before: neighbours then look at theirs."""

    def told(status: StoreBindingStatus) -> set[tuple[str, str]]:
        return {(c.status, c.message) for c in status.conditions if c.type == CONDITION}

    return any(told(b.status) != told(statuses[b.metadata.name]) for b in bindings)


def _pods(states: Sequence[ConsumerState]) -> Iterator[str]:
    pods = sum(state.most for state in states)
    if pods > 1:
        yield f"up to {pods} pods open it ({', '.join(f'{s}: {s.most}' for s in states)})"
    for state in states:
        if state.overlaps:
            yield f"{state} starts a new pod before the old one has ended"


def _label(use: Use, inputs: StackInputs) -> str:
    namespace, name = use.backend
    return f"StorageBackend '{name if namespace == inputs.namespace else f'{namespace}/{name}'}'"


# -- two stacks on one volume


def neighbours(
    stack: str,
    bindings: Iterable[StoreBinding],
    others: Iterable[StoreBinding],
    backend_of: Callable[[Key], StorageBackend | None],
) -> tuple[Neighbour, ...]:
    """Stacks whose files have a path that is also one of this stack's.

    Args:
        stack: this stack.
        bindings: its own.
        others: all of the namespace that name consumers.
        backend_of: a backend by its key, if this namespace may use it: what refuses it tells nothing.
    """

    def paths(binding: StoreBinding) -> set[str]:
        keys = [(r.namespace or binding.metadata.namespace, r.name) for r in references(binding)]
        found = [backend.spec.sqlite for key in keys if (backend := backend_of(key)) is not None]
        return {sqlite.path for sqlite in found if sqlite is not None}

    mine = {path for binding in bindings if binding.spec.consumers for path in paths(binding)}
    found: dict[str, list[StoreBinding]] = {}
    for other in others:
        if other.spec.stack != stack and mine and not mine.isdisjoint(paths(other)):
            found.setdefault(other.spec.stack, []).append(other)
    return tuple(Neighbour(name, consumers.named(those)) for name, those in sorted(found.items()))


def _shared(files: Iterable[str], named: Iterable[Consumer], inputs: StackInputs) -> Iterator[str]:
    named = tuple(named)
    for path in sorted(files):
        mine = set(_claimed(path, named, inputs.workloads))
        for other in inputs.neighbours:
            same = mine.intersection(_claimed(path, other.consumers, inputs.workloads))
            for claim, _ in sorted(same):
                yield f"stack '{other.stack}' opens it too, on the PersistentVolumeClaim '{claim}'"


def _claimed(path: str, named: Iterable[Consumer], workloads: Workloads) -> Iterator[Claimed]:
    """Where a path of the containers is, in each workload that has it on a claim."""
    for consumer in named:
        read = workloads.by_name.get((consumer.kind, consumer.name))
        obj = None if read is None else (read.deployment or read.obj)
        pod = _map(_map(_map(obj or {}, "spec"), "template"), "spec")
        claims = {
            volume.get("name"): _map(volume, "persistentVolumeClaim").get("claimName")
            for volume in _maps(pod, "volumes")
        }
        for container in _maps(pod, "containers"):
            mounts = [m for m in _maps(container, "volumeMounts") if _within(path, m)]
            mount = max(mounts, key=lambda m: len(m["mountPath"]), default=None)
            claim = claims.get(mount.get("name")) if mount is not None else None
            if mount is not None and isinstance(claim, str):
                inside = posixpath.relpath(path, mount["mountPath"])
                yield Claimed(claim, posixpath.join(str(mount.get("subPath") or ""), inside))


def _within(path: str, mount: Mapping[str, Any]) -> bool:
    at = mount.get("mountPath")
    return isinstance(at, str) and f"{path}/".startswith(f"{at.rstrip('/')}/")


def _map(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = node.get(key)
    return found if isinstance(found, Mapping) else {}


def _maps(node: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = node.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
