"""Which Secrets and ConfigMaps changed: names only, nothing of their content."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from stackstore_operator.kube.client import ApiError, Client

logger = logging.getLogger(__name__)

WATCH_SECONDS = 300
ABSENT_SECONDS = 30.0
"""How long until a kind that the API server doesn't serve is asked for again."""
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)


async def watch(
    client: Client,
    kind: str,
    namespace: str | None,
    changed: Callable[[str, str, str], None],
    *,
    spec_only: bool = False,
    optional: bool = False,
) -> None:
    """Call `changed(kind, namespace, name)` for each object now and each one that changes; for ever.

    A watch that ends is taken up where it was. When that is too long ago everything is listed
    again, and what vanished meanwhile is told as changed too.

    Args:
        client: whom to ask.
        kind: of which kind.
        namespace: where; None: everywhere.
        changed: what to call.
        spec_only: a change of the status alone is none, where the API server counts generations.
        optional: the API server may not serve this kind (yet), which is quietly waited for.
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
                listed = {(i["namespace"], i["name"]): mark(i) for i in items}
                for key in known.keys() - listed.keys():
                    changed(kind, *key)
                for key, version in listed.items():
                    if known.get(key) != version:
                        changed(kind, *key)
                known = listed
            async for what, item in client.watch_metadata(
                kind, namespace, since, seconds=WATCH_SECONDS
            ):
                since = item["resourceVersion"]
                failures = 0
                if what == "BOOKMARK":
                    continue
                key = (item["namespace"], item["name"])
                if what == "DELETED":
                    known.pop(key, None)
                elif known.get(key) == mark(item):
                    continue
                else:
                    known[key] = mark(item)
                changed(kind, *key)
        except ApiError as error:
            if error.status == 410:
                since = ""
                continue
            if error.status == 404 and optional:
                # Its CRD is not there, or went: with it all objects have gone.
                for gone in known:
                    changed(kind, *gone)
                known, since, failures = {}, "", 0
                await asyncio.sleep(ABSENT_SECONDS)
                continue
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


def _again(since: str, failures: int) -> str:
    """Where to take the watch up; after three failures in a row not where it always fails."""
    return since if failures < 3 else ""
