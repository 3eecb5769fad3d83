"""Who else has to look when something was found out about a backend. Pure.

Only those for whom it changes something: a thousand stacks may share one database, which is visited
all the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from stackstore_operator.api.backend import StorageBackend, StorageBackendStatus
from stackstore_operator.probe.finding import Finding
from stackstore_operator.reconcile import adoption, conditions
from stackstore_operator.reconcile.adoption import is_adopted
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.reconcile.looks import Look
from stackstore_operator.reconcile.uses import use_of
from stackstore_operator.reconcile.verification import verified


def of_finding(cache: Cache, key: Key, before: Finding | None, found: Finding) -> Iterator[Look]:
    """Who looks after a visit: the backend, and the stacks that are told something else now.

    Args:
        cache: with the conditions that stand in the cluster.
        key: the backend's.
        before: what was found with the same login the time before; None: nothing yet.
        found: what was found now.
    """
    backend = cache.backends.get(key)
    if backend is None:
        return
    yield Look("backend", *key)
    for stack in sorted(cache.stacks_of(key)):
        if cache.allows(backend, stack[0]) and _differs(cache, backend, stack, before, found):
            yield Look("stack", *stack)


def _differs(
    cache: Cache, backend: StorageBackend, stack: Key, before: Finding | None, found: Finding
) -> bool:
    use = use_of(cache, backend, stack)
    now = adoption.of_stack([adoption.Part("", visited=True, finding=found, use=use)], None)
    if before is not None:
        return now != adoption.of_stack(
            [adoption.Part("", visited=True, finding=before, use=use)], None
        )
    # What was found before a restart is not known any more, but what was said of it.
    said = (conditions.known(b.status.conditions, "Adopted") for b in cache.bindings_of(*stack))
    return any(condition is None or condition.status != now.status for condition in said)


def of_status(cache: Cache, before: StorageBackend, status: StorageBackendStatus) -> Iterator[Look]:
    """Who looks after a look at a backend.

    Args:
        cache: what is known of the rest.
        before: the backend with the status that stood in the cluster.
        status: the one that stands there now.
    """
    key = (before.metadata.namespace, before.metadata.name)
    after = before.model_copy(update={"status": status})
    revision = status.revision
    if verified(after, revision) and is_adopted(after, revision):
        # Earlier logins leave.
        for stack in sorted(cache.holding_earlier(key)):
            yield Look("stack", *stack)
    if verified(before, revision) != verified(after, revision):
        for stack in sorted(cache.stacks_of(key)):
            if _restarts(cache, stack):
                yield Look("stack", *stack)
    if revision != before.status.revision:
        # Sessions of one pool are counted for all backends that share it.
        for binding in cache.users_of(key):
            for other in sorted(cache.backends_of(binding) - {key}):
                known = cache.backends.get(other)
                if known is not None and cache.allows(known, binding.metadata.namespace):
                    yield Look("backend", *other)


def _restarts(cache: Cache, stack: Key) -> bool:
    rollouts = (binding.spec.rollout for binding in cache.bindings_of(*stack))
    return any(rollout is not None and rollout.strategy == "Restart" for rollout in rollouts)
