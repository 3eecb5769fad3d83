"""A finalizer of ours, put on an object or taken off, without a word about anybody else's."""

from __future__ import annotations

from stackstore_operator.api.part import ObjectMeta
from stackstore_operator.kube.client import ApiError, Client, Object

_CHANGED = (409, 422)
"""What the API server answers when the object is another one than the patch is for."""
_TRIES = 6


async def put(client: Client, kind: str, about: ObjectMeta, finalizer: str) -> Object | None:
    """Put it on; returns the object, or None when it is gone or being deleted.

    Raises:
        ApiError: it was refused.
    """
    return await _make(client, kind, about, finalizer, there=True)


async def take(client: Client, kind: str, about: ObjectMeta, finalizer: str) -> Object | None:
    """Take it off; returns the object as it was then, or None when it is gone.

    Raises:
        ApiError: it was refused.
    """
    return await _make(client, kind, about, finalizer, there=False)


async def _make(
    client: Client, kind: str, about: ObjectMeta, finalizer: str, *, there: bool
) -> Object | None:
    for _ in range(_TRIES):
        obj = await client.get(kind, about.namespace, about.name)
        if obj is None or obj["metadata"]["uid"] != about.uid:
            return None
        metadata = obj["metadata"]
        known = metadata.get("finalizers") or []
        if (finalizer in known) == there:
            return obj
        if there and "deletionTimestamp" in metadata:
            return None
        wanted = [*known, finalizer] if there else [one for one in known if one != finalizer]
        try:
            # By server-side apply somebody who restored a backup would own it beside us, and no apply
            # of ours would take it off. A patch of the whole list does, and the version that it is for
            # sees to it that nobody else's is lost.
            return await client.patch(
                kind,
                about.namespace,
                about.name,
                [
                    {"op": "test", "path": "/metadata/uid", "value": about.uid},
                    {
                        "op": "test",
                        "path": "/metadata/resourceVersion",
                        "value": metadata["resourceVersion"],
                    },
                    {"op": "add", "path": "/metadata/finalizers", "value": wanted},
                ],
            )
        except ApiError as error:
            if error.status == 404:
                return None
            if error.status not in _CHANGED:
                raise
            last = error
    raise last
