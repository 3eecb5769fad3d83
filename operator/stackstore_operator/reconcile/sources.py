"""A Secret as a source of logins, and why some are none. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from stackstore_operator.reconcile.outputs import MANAGED_BY, OPERATOR

# Types whose content is something else than a login: who may name a Secret in a StorageBackend would
# otherwise get at keys and tokens through the stack's own Secret.
_NO_LOGINS = ("kubernetes.io/", "bootstrap.kubernetes.io/", "helm.sh/")
_LOGINS = ("kubernetes.io/basic-auth",)


class Source(dict[str, bytes]):
    """A Secret's decoded data.

    Attributes:
        refused: why it is no source of a login; empty when it may be one.
    """

    refused = ""

    @classmethod
    def of(cls, secret: Mapping[str, Any]) -> Source:
        """From the object's JSON."""
        data = secret.get("data") or {}
        made = cls({key: base64.b64decode(value) for key, value in data.items()})
        kind = str(secret.get("type") or "")
        metadata = secret["metadata"]
        if _is_output(metadata):
            made.refused = "is made by Stackstore itself; name the Secret that the login comes from"
        elif kind.startswith(_NO_LOGINS) and kind not in _LOGINS:
            made.refused = f"is of type '{kind}', which holds no login; make one of type Opaque"
        return made


def _is_output(metadata: Mapping[str, Any]) -> bool:
    labelled = (metadata.get("labels") or {}).get(MANAGED_BY) == OPERATOR
    return labelled or any(
        entry.get("manager") == OPERATOR for entry in metadata.get("managedFields") or []
    )
