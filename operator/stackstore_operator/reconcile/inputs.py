"""Everything one decision is made from, read beforehand and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.binding import Consumer, StoreBinding
from stackstore_operator.api.part import ObjectMeta
from stackstore_operator.kube.workloads import NONE as NO_WORKLOADS
from stackstore_operator.kube.workloads import Workloads
from stackstore_operator.probe.finding import Finding
from stackstore_operator.reconcile.conditions import Said
from stackstore_operator.reconcile.rollout.course import Observed
from stackstore_operator.reconcile.tally import Use

Key = tuple[str, str]
"""(namespace, name)"""


class Neighbour(NamedTuple):
    """Another stack of the namespace that has a SQLite file of the same path."""

    stack: str
    consumers: tuple[Consumer, ...]


@dataclass(frozen=True)
class StackInputs:
    """What is known about one stack.

    Attributes:
        backends: those that its bindings refer to; absent ones have no entry.
        secrets: decoded data of the Secrets that those backends name (and of CAs); absent: no entry.
        config_maps: data of base configs and CAs; absent: no entry.
        config_map: the stack's own ConfigMap as it is in the cluster, or None.
        secret: the stack's own Secret as it is in the cluster, or None.
        key: what revisions are computed with.
        now: epoch seconds.
        unreadable: bindings of the stack that can't be read; while there are any, only logins follow.
        workloads: what was read of those that its bindings name in `spec.consumers`, and its neighbours'.
        neighbours: stacks of the namespace that have a SQLite file of the same path.
        findings: what visits to the backends' databases found last, with whatever login.
        uses: how the stack uses each backend.
        labels: of the stack's namespace; None: not known.
        observed: what is known of its rollout beside the objects.
        ending: the namespaces of its backends that are being deleted.
    """

    namespace: str
    stack: str
    bindings: tuple[StoreBinding, ...]
    backends: Mapping[Key, StorageBackend]
    secrets: Mapping[Key, Mapping[str, bytes]]
    config_maps: Mapping[Key, Mapping[str, str]]
    config_map: Mapping[str, Any] | None
    secret: Mapping[str, Any] | None
    key: bytes = field(repr=False)
    now: int = 0
    unreadable: tuple[ObjectMeta, ...] = ()
    workloads: Workloads = NO_WORKLOADS
    neighbours: tuple[Neighbour, ...] = ()
    findings: Mapping[Key, Finding] = field(default_factory=dict)
    uses: Mapping[Key, Use] = field(default_factory=dict)
    labels: Mapping[str, str] | None = None
    observed: Observed = field(default_factory=Observed)
    ending: frozenset[str] = frozenset()


@dataclass(frozen=True)
class BackendInputs:
    """What is known about one backend.

    Attributes:
        bindings: how many refer to it and may.
        finding: what the last visit to its database found, with whatever login; None: none was made.
        uses: of the stacks that it allows.
        refused: how many of other namespaces refer to it and may not.
        namespaces_readable: whether labels of namespaces can be known here.
        within: its condition WithinBudget; None: nothing binds its consumers.
        holding: who holds up its deletion, in words; None: nobody wants it deleted.
    """

    backend: StorageBackend
    secrets: Mapping[Key, Mapping[str, bytes]]
    config_maps: Mapping[Key, Mapping[str, str]]
    bindings: int
    key: bytes = field(repr=False)
    finding: Finding | None = None
    uses: tuple[Use, ...] = ()
    refused: int = 0
    namespaces_readable: bool = True
    within: Said | None = None
    holding: str | None = None
