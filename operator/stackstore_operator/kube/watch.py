"""What changed of a kind: names and labels only, nothing of the content."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stackstore_operator.kube.client import ApiError, Client, Object
from stackstore_operator.telemetry import metrics
from stackstore_operator.telemetry.health import Health

logger = logging.getLogger(__name__)

ABSENT_SECONDS = 30.0
"""How long until a kind that the API server doesn't serve is asked for again."""
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)

Key = tuple[str, str]
"""Namespace and name."""

Changed = Callable[[str, Object, bool], None]
"""Told of a kind, an object's slim metadata (the name and namespace alone, if nobody saw it go), and
whether it is gone."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient watches are, in seconds.

    Attributes:
        whole: after how long the API server ends a watch, which is then taken up where it was.
        silence: how long nothing may come. Bookmarks come about every minute: a silence much longer is
            a dead connection.
        relist: after how long, when a watch ends, everything is listed anew although its place is
            known: what an API server has not told, nobody hears of otherwise.
    """

    whole: int = 300
    silence: float = 90.0
    relist: float = 1800.0


class Watch:
    """A watch of one kind, in one namespace or everywhere; `run()` goes on for ever.

    It calls `changed` for each object now and each one that changes. A watch that ends is taken up
    where it was. When that is too long ago everything is listed again, and what vanished meanwhile is
    told as gone.

    Args:
        client: whom to ask.
        kind: of which kind.
        namespace: where; None: everywhere.
        changed: what to call.
        health: told of each sign of life.
        wanted: whether an object, by kind, namespace and name, is of interest now; nothing is kept or told of
            others. One that becomes it later may be told once too often, never too seldom.
        pace: how patient to be.
        spec_only: a change of the status alone is none, where the API server counts generations.
        optional: the API server may not serve this kind (yet), which is quietly waited for.
        final: statuses that end the watch; all others are waited out.
    """

    def __init__(
        self,
        client: Client,
        kind: str,
        namespace: str | None,
        changed: Changed,
        *,
        health: Health | None = None,
        wanted: Callable[[str, str, str], bool] = lambda *_: True,
        pace: Pace | None = None,
        spec_only: bool = False,
        optional: bool = False,
        final: frozenset[int] = frozenset(),
    ) -> None:
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._changed = changed
        self._health = health or Health()
        self._wanted = wanted
        self._pace = pace or Pace()
        self._spec_only = spec_only
        self._optional = optional
        self._final = final
        self._known: dict[Key, str] = {}
        self._since = ""
        self._listed = 0.0
        self._failures = 0
        self._trouble = ""

    async def run(self) -> None:
        """Watch; for ever.

        Raises:
            ApiError: with a final status.
        """
        while True:
            self._health.heard(self._kind, self._namespace)
            pause = 0.0
            try:
                await self._once()
                continue
            except ApiError as error:
                if error.status == 404 and self._optional:
                    self._forget()
                    await asyncio.sleep(ABSENT_SECONDS)
                    continue
                if error.status in self._final:
                    raise
                pause = error.wait
                if error.status == 410:
                    self._since = ""
                    # Once is in the order of things; again and again is not to be answered at once.
                    if not self._failures:
                        self._failures = 1
                        continue
                self._say(logging.WARNING, str(error))
            except (OSError, TimeoutError, ValueError) as error:
                # aiohttp's errors are OSErrors or ValueErrors; a cut line is not JSON.
                self._say(logging.INFO, f"cut: {type(error).__name__}")
            except Exception as error:  # noqa: BLE001 - a watch that ends makes the operator deaf
                self._say(logging.WARNING, type(error).__name__)
            if self._failures >= 3:
                # Not where it always fails.
                self._since = ""
            await asyncio.sleep(max(pause, _PAUSES[min(self._failures, len(_PAUSES) - 1)]))
            self._failures += 1

    async def _once(self) -> None:
        """Until the API server ends the watch in the order of things."""
        if not self._since or time.monotonic() - self._listed > self._pace.relist:
            await self._list()
        self._health.begun(f"the watch of {self._kind}")
        async for what, item in self._client.watch_metadata(
            self._kind,
            self._namespace,
            self._since,
            seconds=self._pace.whole,
            silence=self._pace.silence,
        ):
            self._since = item["resourceVersion"]
            self._failures, self._trouble = 0, ""
            self._health.heard(self._kind, self._namespace)
            if what != "BOOKMARK":
                metrics.WATCH_EVENTS.labels(self._kind).inc()
                self._take(what, item)

    async def _list(self) -> None:
        items, self._since = await self._client.list_metadata(
            self._kind, self._namespace, wanted=lambda item: self._wanted(self._kind, *_key(item))
        )
        listed = {_key(item): self._mark(item) for item in items}
        for gone in self._known.keys() - listed.keys():
            self._changed(self._kind, _named(gone), True)
        for item in items:
            if self._known.get(_key(item)) != self._mark(item):
                self._changed(self._kind, item, False)
        self._known = listed
        self._listed = time.monotonic()

    def _take(self, what: str, item: Object) -> None:
        key = _key(item)
        if not self._wanted(self._kind, *key):
            self._known.pop(key, None)
            return
        if what == "DELETED":
            self._known.pop(key, None)
        elif self._known.get(key) == self._mark(item):
            return
        else:
            self._known[key] = self._mark(item)
        self._changed(self._kind, item, what == "DELETED")

    def _mark(self, item: Mapping[str, Any]) -> str:
        counted = item.get("generation") if self._spec_only else None
        return f"generation {counted}" if counted else str(item["resourceVersion"])

    def _forget(self) -> None:
        """Its CRD is not there, or went: with it all objects have gone."""
        for gone in self._known:
            self._changed(self._kind, _named(gone), True)
        self._known, self._since, self._failures = {}, "", 0
        self._health.begun(f"the watch of {self._kind}")

    def _say(self, level: int, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            logger.log(level, "the watch of %s: %s", self._kind, trouble)


async def watch(
    client: Client, kind: str, namespace: str | None, changed: Changed, **how: Any
) -> None:
    """Watch; see `Watch`."""
    await Watch(client, kind, namespace, changed, **how).run()


def by_name(told: Callable[[str, str, str], None]) -> Changed:
    """For who wants no more than the kind, the namespace and the name."""
    return lambda kind, item, _: told(kind, *_key(item))


def _named(key: Key) -> Object:
    return {"namespace": key[0], "name": key[1]}


def _key(item: Mapping[str, Any]) -> Key:
    """Namespaces themselves are in none."""
    return item.get("namespace", ""), item["name"]
