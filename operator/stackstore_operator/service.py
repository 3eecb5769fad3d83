"""The operator as one process: what it consists of, started and ended together."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stackstore_operator.handlers.carrier import Carrier
from stackstore_operator.handlers.census import Census
from stackstore_operator.handlers.changes import Changes
from stackstore_operator.handlers.registry import Registry
from stackstore_operator.kube import revisionkey, workloads
from stackstore_operator.kube.client import ApiError, Client
from stackstore_operator.kube.lease import Elector, Timing
from stackstore_operator.kube.scope import Scope
from stackstore_operator.kube.watch import by_name, watch
from stackstore_operator.probe.prober import AT_ONCE, Prober
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.looks import Look
from stackstore_operator.reconcile.queue import Queue
from stackstore_operator.reconcile.reconciler import Reconciler
from stackstore_operator.reconcile.shown import Shown
from stackstore_operator.reconcile.waits import Waits
from stackstore_operator.reconcile.witness import Witness
from stackstore_operator.telemetry import metrics
from stackstore_operator.telemetry.health import Health
from stackstore_operator.telemetry.server import Server

logger = logging.getLogger(__name__)

COUNT_SECONDS = 3.0
"""How long after a binding that is refused has come or gone its backend's owner is told the count."""

_FINAL = {400, 401, 403, 404, 405, 422}
_PAUSE_SECONDS = 2.0
_DOUBTS, _DOUBT_SECONDS = 4, 0.75

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command says.

    Attributes:
        kubeconfig: how to reach the API server; None: as the pod's service account.
        namespace: where the operator's own Secret and Lease are kept.
        lease_seconds: how long a silent leader is waited for; 0: there is no other one.
        namespaces: which ones are served; empty: all there are.
        bind: where metrics and probes are served.
        metrics_port: at which port; 0: they are not.
        waits: how long to wait for what.
    """

    kubeconfig: Path | None
    namespace: str
    lease_seconds: float
    namespaces: Sequence[str] = ()
    bind: str = "127.0.0.1"
    metrics_port: int = 0
    waits: Waits = field(default_factory=Waits)


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        ApiError: the API server refuses what the operator can't do without.
    """
    # Names are looked up in threads. As many as there are visits: one whose answer never comes must
    # not make others wait for theirs.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(AT_ONCE, "names"))
    told = asyncio.Event()
    # First of all: as the first process of a container it would not end by a signal otherwise.
    _listen(told)
    health = Health(settings.waits.limits)
    for part in ("kopf", "the watch of Secret", "the watch of ConfigMap"):
        health.expect(part)
    server = _served(settings, health)
    stop = asyncio.create_task(told.wait())
    pulse = asyncio.create_task(health.beat())
    work = asyncio.create_task(_work(settings, health, told))
    try:
        await asyncio.wait({stop, work}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (stop, work, pulse):
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if server is not None:
            server.close()
    if not told.is_set():
        await work
        raise ApiError(0, "a part of the operator ended by itself")


def _served(settings: Settings, health: Health) -> Server | None:
    if not settings.metrics_port:
        return None
    try:
        return Server(settings.bind, settings.metrics_port, health, metrics.REGISTRY)
    except OSError as error:
        where = f"{settings.bind}, port {settings.metrics_port}"
        raise ApiError(0, f"metrics can't be served at {where}: {error.strerror}") from None


def _listen(told: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)


async def _work(settings: Settings, health: Health, told: asyncio.Event) -> None:
    client = await Client.connect(settings.kubeconfig)
    client.answered = health.answered
    try:
        key = await _patiently(lambda: revisionkey.load(client, settings.namespace))
        scope = Scope(client, settings.namespaces)
        await _patiently(scope.look)
        waits = settings.waits
        cache = Cache()
        prober = Prober()
        reconciler = Reconciler(client, cache, key, prober, waits)
        queue: Queue[Look] = Queue(Witness(reconciler.look, cache).look)
        reconciler.ask = queue.add
        reconciler.wake = queue.add_after
        changes = Changes(cache, queue.add, lambda look: queue.add_after(look, COUNT_SECONDS))
        prober.found = changes.visited
        census = Census(client, scope, changes, health, seconds=waits.census, grace=waits.grace)
        metrics.REGISTRY.register(Shown(cache, queue, prober, health.ages, scope.counts))
        # Whoever may serve some namespaces only can't read the labels of all.
        registry = Registry(client, changes) if scope.namespaces == (None,) else None
        if registry is not None:
            await _patiently(registry.take)
        # Before anything is looked at: a binding whose backend wasn't heard of yet would for a moment
        # be told that it is missing.
        await _patiently(census.take)
        logger.info(
            "watching %s: %d StorageBackends, %d StoreBindings",
            scope,
            len(cache.backends),
            len(cache.bindings),
        )
        # kopf sets handlers of signals of its own, which would wait for it.
        carrier = Carrier(
            client,
            scope,
            changes,
            census,
            health=health,
            begun=lambda: _listen(told),
            pace=waits.pace,
        )

        async def act() -> None:
            # What was under way when an earlier term ended is nobody's any more.
            reconciler.begin()
            metrics.LEADER.set(1)
            changes.everything()
            try:
                await queue.run()
            finally:
                metrics.LEADER.set(0)
                await prober.close()

        await _together(
            carrier.run(),
            _lead(client, settings, act) if settings.lease_seconds else act(),
            *(
                _mirror(
                    client,
                    scope,
                    part,
                    changes,
                    health=health,
                    wanted=cache.concerns,
                    pace=waits.pace,
                )
                for part in scope.namespaces
            ),
            *([] if registry is None else [registry.run()]),
            census.run(),
            scope.keep(),
        )
    finally:
        await client.close()
        # TLS connections say goodbye in the background.
        await asyncio.sleep(0.1)


async def _mirror(
    client: Client, scope: Scope, namespace: str | None, changes: Changes, **how: Any
) -> None:
    """Watch what ours refer to, by metadata, as soon as the namespace can be read."""
    await scope.opened(namespace)
    await _together(
        watch(client, "Secret", namespace, by_name(changes.referent), **how),
        watch(client, "ConfigMap", namespace, by_name(changes.referent), **how),
        *workloads.watches(client, namespace, changes.workload, **how),
    )


async def _lead(
    client: Client,
    settings: Settings,
    act: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Act while this process leads; the others listen and stand by."""
    # A pod's name is its host name; a restarted container has the same, and must wait all the same.
    identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    elector = Elector(client, settings.namespace, identity, Timing.of(settings.lease_seconds))
    client.may_write = lambda: elector.leads
    await elector.run(act)


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until cancelled, or until one ends, which none should."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Wait for an API server that is not there yet; what it refuses is refused.

    One that has just started forbids what it will allow as soon as it has read its roles.
    """
    doubted = 0
    while True:
        try:
            return await call()
        except ApiError as error:
            if error.status == 403 and doubted < _DOUBTS:
                doubted += 1
                await asyncio.sleep(_DOUBT_SECONDS)
                continue
            if error.status in _FINAL:
                raise
            logger.warning("waiting for the API server: %s", error)
            doubted = 0
            await asyncio.sleep(_PAUSE_SECONDS)
