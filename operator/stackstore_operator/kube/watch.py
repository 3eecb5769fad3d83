"""What changed of a kind: names and labels only, nothing of the content."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from stackstore_operator.kube.client import ApiError, Client, Object

logger = logging.getLogger(__name__)

WATCH_SECONDS = 300
ABSENT_SECONDS = 30.0
"""How long until a kind that the API server doesn't serve is asked for again."""
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)


Changed = Callable[[str, Object, bool], None]
"""Told of a kind, an object's slim metadata (the name and namespace alone, if nobody saw it go), and
whether it is gone."""


async def watch(
    client: Client,
    kind: str,
    namespace: str | None,
    changed: Changed,
    *,
    spec_only: bool = False,
    optional: bool = False,
    final: frozenset[int] = frozenset(),
) -> None:
    """Call `changed` for each object now and each one that changes; for ever.

    A watch that ends is taken up where it was. When that is too long ago everything is listed
    again, and what vanished meanwhile is told as gone.

    Args:
        client: whom to ask.
        kind: of which kind.
        namespace: where; None: everywhere.
        changed: what to call.
        spec_only: a change of the status alone is none, where the API server counts generations.
        optional: the API server may not serve this kind (yet), which is quietly waited for.
        final: statuses that end the watch; all others are waited out.

    Raises:
        ApiError: with a final status.
    """
    known: dict[tuple[str, str], str] = {}
    since = ""
    failures = 0

    def mark(item: Mapping[str, Any]) -> str:
        counted = item.get("generation") if spec_only else None
        return f"generation {counted}" if counted else str(item["resourceVersion"])

    while True:
        try:
            if not since:
                items, since = await client.list_metadata(kind, namespace)
                listed = {_key(item): mark(item) for item in items}
                for gone in known.keys() - listed.keys():
                    changed(kind, _named(gone), True)
                for item in items:
                    if known.get(_key(item)) != mark(item):
                        changed(kind, item, False)
                known = listed
            async for what, item in client.watch_metadata(
                kind, namespace, since, seconds=WATCH_SECONDS
            ):
                since = item["resourceVersion"]
                failures = 0
                if what == "BOOKMARK":
                    continue
                key = _key(item)
                if what == "DELETED":
                    known.pop(key, None)
                elif known.get(key) == mark(item):
                    continue
                else:
                    known[key] = mark(item)
                changed(kind, item, what == "DELETED")
        except ApiError as error:
            if error.status == 410:
                since = ""
                continue
            if error.status == 404 and optional:
                # Its CRD is not there, or went: with it all objects have gone.
                for gone in known:
                    changed(kind, _named(gone), True)
                known, since, failures = {}, "", 0
                await asyncio.sleep(ABSENT_SECONDS)
                continue
            if error.status in final:
                raise
            logger.warning("watching %s: %s", kind, error)
        except (OSError, TimeoutError, ValueError) as error:
            # aiohttp's errors are OSErrors or ValueErrors; a cut line is not JSON.
            logger.info("the watch of %s was cut: %s", kind, type(error).__name__)
            since = _again(since, failures)
        except Exception as error:  # noqa: BLE001 - a watch that ends makes the operator deaf
            logger.warning("the watch of %s failed: %s", kind, type(error).__name__)
            since = _again(since, failures)
        else:
            continue
        await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
        failures += 1


def by_name(told: Callable[[str, str, str], None]) -> Changed:
    """For who wants no more than the kind, the namespace and the name."""
    return lambda kind, item, _: told(kind, *_key(item))


def _named(key: tuple[str, str]) -> Object:
    return {"namespace": key[0], "name": key[1]}


def _key(item: Object) -> tuple[str, str]:
    """Namespaces themselves are in none."""
    return item.get("namespace", ""), item["name"]


def _again(since: str, failures: int) -> str:
    """Where to take the watch up; after three failures in a row not where it always fails."""
    return since if failures < 3 else ""
