"""Which Secrets and ConfigMaps changed: names only, nothing of their content."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stackstore_operator.kube.client import ApiError, Client

logger = logging.getLogger(__name__)

WATCH_SECONDS = 300
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)


async def watch(
    client: Client, kind: str, namespace: str | None, changed: Callable[[str, str, str], None]
) -> None:
    """Call `changed(kind, namespace, name)` for each object now and each one that changes; for ever.

    A watch that ends is taken up where it was. When that is too long ago everything is listed
    again, and what vanished meanwhile is told as changed too.
    """
    known: dict[tuple[str, str], str] = {}
    since = ""
    failures = 0
    while True:
        try:
            if not since:
                items, since = await client.list_metadata(kind, namespace)
                listed = {(i["namespace"], i["name"]): i["resourceVersion"] for i in items}
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
                else:
                    known[key] = since
                changed(kind, *key)
        except ApiError as error:
            if error.status == 410:
                since = ""
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
