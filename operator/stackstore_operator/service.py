"""The operator as one process: what it consists of, started and ended together."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import kopf

from stackstore_operator.handlers import kinds
from stackstore_operator.handlers.changes import Changes
from stackstore_operator.kube import revisionkey, workloads
from stackstore_operator.kube.client import ApiError, Client
from stackstore_operator.kube.lease import Elector, Timing
from stackstore_operator.kube.watch import watch
from stackstore_operator.probe.prober import Prober
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.looks import Look
from stackstore_operator.reconcile.queue import Queue
from stackstore_operator.reconcile.reconciler import Reconciler
from stackstore_operator.reconcile.waits import Waits

logger = logging.getLogger(__name__)

RELIST_SECONDS = 300
"""How often everything of our two kinds is listed anew: kopf does not tell what went while a watch
was down for so long that its place was lost."""

_FINAL = {400, 401, 403, 404, 405, 422}
_PAUSE_SECONDS = 2.0

T = TypeVar("T")


async def serve(
    kubeconfig: Path | None, namespace: str, lease_seconds: float, waits: Waits | None = None
) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        kubeconfig: how to reach the API server; None: as the pod's service account.
        namespace: where the operator's own Secret and Lease are kept.
        lease_seconds: how long a silent leader is waited for; 0: there is no other one.
        waits: how long to wait for what, when not as usual.

    Raises:
        ApiError: the API server refuses what the operator can't do without.
    """
    told = asyncio.Event()
    # First of all: as the first process of a container it would not end by a signal otherwise.
    _listen(told)
    stop = asyncio.create_task(told.wait())
    work = asyncio.create_task(_work(kubeconfig, namespace, lease_seconds, told, waits))
    try:
        await asyncio.wait({stop, work}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (stop, work):
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    if not told.is_set():
        await work
        raise ApiError(0, "a part of the operator ended by itself")


def _listen(told: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)


async def _work(
    kubeconfig: Path | None,
    namespace: str,
    lease_seconds: float,
    told: asyncio.Event,
    waits: Waits | None,
) -> None:
    client = await Client.connect(kubeconfig)
    try:
        key = await _patiently(lambda: revisionkey.load(client, namespace))
        cache = Cache()
        prober = Prober()
        reconciler = Reconciler(client, cache, key, prober, waits)
        queue: Queue[Look] = Queue(reconciler.look)
        reconciler.ask = queue.add
        changes = Changes(cache, queue.add)
        prober.found = changes.visited
        # Before anything is looked at: a binding whose backend wasn't heard of yet would for a moment
        # be told that it is missing.
        await _patiently(lambda: _list(client, changes))
        logger.info(
            "watching all namespaces: %d StorageBackends, %d StoreBindings",
            len(cache.backends),
            len(cache.bindings),
        )

        async def act() -> None:
            # What was under way when an earlier term ended is nobody's any more.
            changes.everything()
            try:
                await queue.run()
            finally:
                await prober.close()

        await _together(
            kinds.registry(client, changes),
            told,
            act() if not lease_seconds else _lead(client, namespace, lease_seconds, act),
            watch(client, "Secret", None, changes.referent),
            watch(client, "ConfigMap", None, changes.referent),
            *workloads.watches(client, changes.workload),
            _relist(client, changes),
        )
    finally:
        await client.close()
        # TLS connections say goodbye in the background.
        await asyncio.sleep(0.1)


async def _lead(
    client: Client,
    namespace: str,
    lease_seconds: float,
    act: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Act while this process leads; the others listen and stand by."""
    # A pod's name is its host name; a restarted container has the same, and must wait all the same.
    identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    elector = Elector(client, namespace, identity, Timing.of(lease_seconds))
    client.may_write = lambda: elector.leads
    await elector.run(act)


async def _together(
    registry: kopf.OperatorRegistry, told: asyncio.Event, *others: Coroutine[Any, Any, None]
) -> None:
    """Run kopf and the others until cancelled, or until one ends, which none should."""
    tasks = [asyncio.create_task(part) for part in others]
    # kopf ends every task that is younger than itself: the others, and what they start, go first.
    await asyncio.sleep(0)
    older = asyncio.all_tasks()
    carriers = await kopf.spawn_tasks(
        registry=registry, settings=kinds.settings(), clusterwide=True, standalone=True
    )
    tasks.append(asyncio.create_task(kopf.run_tasks(carriers, ignored=older)))
    # In place of the handlers that kopf has set. With ours it is cancelled like every other part; its
    # own way waits five seconds for a task that it forgets when a watch ends at the wrong moment.
    _listen(told)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Wait for an API server that is not there yet; what it refuses is refused."""
    while True:
        try:
            return await call()
        except ApiError as error:
            if error.status in _FINAL:
                raise
            logger.warning("waiting for the API server: %s", error)
            await asyncio.sleep(_PAUSE_SECONDS)


async def _list(client: Client, changes: Changes) -> None:
    try:
        with changes.listing() as listing:
            listing.backends = await client.list("StorageBackend")
            listing.bindings = await client.list("StoreBinding")
    except ApiError as error:
        if error.status == 404:
            raise ApiError(
                404, "the CRDs of stackstore.dev are not installed: kubectl apply -f crds/"
            ) from None
        raise


async def _relist(client: Client, changes: Changes) -> None:
    while True:
        await asyncio.sleep(RELIST_SECONDS)
        try:
            await _list(client, changes)
        except ApiError as error:
            logger.warning("listing everything: %s", error)
