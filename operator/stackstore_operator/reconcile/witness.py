"""What is told of each look: an id for its log lines, a number, and one line when it changed something."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable

from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.looks import Look
from stackstore_operator.telemetry import metrics, trail

logger = logging.getLogger(__name__)


class Witness:
    """Stands before a reconciler.

    Args:
        work: looks once.
        cache: asked for the revision that a look has brought about.
    """

    def __init__(self, work: Callable[[Look], Awaitable[float | None]], cache: Cache) -> None:
        self._work = work
        self._cache = cache

    async def look(self, look: Look) -> float | None:
        """Look once; returns in how many seconds to look again."""
        began = time.monotonic()
        with trail.following(uuid.uuid4().hex[:8]) as writes:
            result = "failed"
            try:
                again = await self._work(look)
                result = "written" if writes else "unchanged"
            finally:
                seconds = time.monotonic() - began
                metrics.RECONCILES.labels(look.kind, result).inc()
                metrics.RECONCILE_SECONDS.labels(look.kind).observe(seconds)
            metrics.LAST_SUCCESS.set_to_current_time()
            # At rest nothing is written, and nothing is told.
            logger.log(
                logging.INFO if writes else logging.DEBUG,
                "looked at %s: %s",
                look,
                ", ".join(writes) or "nothing differs",
                extra={
                    "object": str(look),
                    "revision": self._revision(look),
                    "result": result,
                    "seconds": round(seconds, 4),
                },
            )
        return again

    def _revision(self, look: Look) -> str:
        if look.kind == "backend":
            backend = self._cache.backends.get((look.namespace, look.name))
            return backend.status.revision if backend is not None else ""
        bindings = self._cache.bindings_of(look.namespace, look.name)
        return bindings[0].status.revision if bindings else ""
