"""The key that revisions are computed with: made once, kept in a Secret of the operator's own."""

from __future__ import annotations

import base64
import logging
import secrets

from stackstore_operator.kube.client import ApiError, Client

logger = logging.getLogger(__name__)

SECRET_NAME = "stackstore-revision-key"  # noqa: S105 - an object's name
_KEY = "key"
_BYTES = 32


async def load(client: Client, namespace: str) -> bytes:
    """Read the key, or make it.

    A lost key costs nothing but one more write per stack: revisions only have to differ when logins
    do, and pods prove a renamed login as they would a new one.

    Raises:
        ApiError: it can't be read or made, or the Secret holds something else.
    """
    while True:
        found = await client.get("Secret", namespace, SECRET_NAME)
        if found is not None:
            return _of(found, namespace)
        made = await client.create(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": SECRET_NAME,
                    "namespace": namespace,
                    "labels": {"app.kubernetes.io/managed-by": "stackstore-operator"},
                },
                "type": "Opaque",
                "data": {_KEY: base64.b64encode(secrets.token_bytes(_BYTES)).decode()},
            }
        )
        if made is not None:
            logger.info("made the revision key, Secret %s/%s", namespace, SECRET_NAME)
            return _of(made, namespace)
        # Another replica was faster: its key is the one.


def _of(secret: dict[str, object], namespace: str) -> bytes:
    data = secret.get("data")
    encoded = data.get(_KEY) if isinstance(data, dict) else None
    try:
        key = base64.b64decode(str(encoded or ""), validate=True)
    except ValueError:
        key = b""
    if len(key) < _BYTES:
        raise ApiError(
            422,
            f"Secret {namespace}/{SECRET_NAME} must hold {_BYTES} bytes under '{_KEY}'; delete it and "
            "a new one is made",
        )
    return key
