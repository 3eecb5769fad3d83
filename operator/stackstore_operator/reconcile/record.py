"""The operator's own note in a stack's Secret: what the last good render was made from. Pure.

The snapshot alone would not tell a rotation from a reference that now leads to another database, nor
a run config whose stores stay from one whose stores move. The note is signed: whoever may write the
Secret could otherwise let the operator look at backends that are not theirs to ask for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stackstore_operator.reconcile.inputs import Key
from stackstore_operator.reconcile.outputs import is_ours

RECORD_KEY = "operator.json"
"""Its key in the Secret. The runtime does not read it."""

Places = Mapping[str, list[str]]
"""`stores/<name>` or `providers/<api>/<id>/<field>` to the backend's name and the place in it."""


class Content(NamedTuple):
    """What pods that start now start with.

    Attributes:
        revision: names it.
        since: epoch seconds since when it is that.
    """

    revision: str
    since: int


@dataclass(frozen=True)
class Record:
    """What was rendered last.

    Attributes:
        origins: by name in the run config, the StorageBackend it came from.
        places: where each store and provider was put; None: nothing is known of a render.
        grants: connections that each binding was granted of a backend with a budget.
        content: what is in force; None where nobody restarts pods for it.
        logins: the same of the logins alone.
    """

    origins: Mapping[str, Key] = field(default_factory=dict)
    places: Places | None = None
    grants: Mapping[tuple[str, Key], int] = field(default_factory=dict)
    content: Content | None = None
    logins: Content | None = None

    def to_bytes(self, key: bytes, namespace: str, stack: str) -> bytes:
        """The note, signed for this stack alone; the same record gives the same bytes."""
        content: dict[str, Any] = {
            "backends": {name: "/".join(origin) for name, origin in self.origins.items()},
            "places": None if self.places is None else dict(self.places),
        }
        if self.grants:
            content["grants"] = {
                f"{binding} {'/'.join(backend)}": count
                for (binding, backend), count in self.grants.items()
            }
        for name, noted in (("content", self.content), ("logins", self.logins)):
            if noted is not None:
                content[name] = noted._asdict()
        signed = content | {"mac": _mac(key, namespace, stack, content)}
        return json.dumps(signed, sort_keys=True, indent=1).encode()


def read(secret: Mapping[str, Any] | None, key: bytes, namespace: str, stack: str) -> Record:
    """The note in a stack's Secret; an empty one when there is none that we have signed."""
    if secret is None or not is_ours(secret, stack):
        return Record()
    try:
        encoded = (secret.get("data") or {}).get(RECORD_KEY, "")
        found = json.loads(base64.b64decode(encoded))
        mac = found.pop("mac")
        if not hmac.compare_digest(mac, _mac(key, namespace, stack, found)):
            return Record()
        origins = {name: tuple(text.split("/")) for name, text in found["backends"].items()}
        grants = {
            (binding, tuple(backend.split("/"))): int(count)
            for (binding, backend), count in (
                (text.split(" "), count) for text, count in found.get("grants", {}).items()
            )
        }
        return Record(
            origins,
            found["places"],
            grants,
            _content(found, "content"),
            _content(found, "logins"),
        )
    except Exception:  # noqa: BLE001 - whatever somebody made of it, it is not what we wrote
        return Record()


def _content(found: Mapping[str, Any], name: str) -> Content | None:
    noted = found.get(name)
    return None if noted is None else Content(str(noted["revision"]), int(noted["since"]))


def _mac(key: bytes, namespace: str, stack: str, content: object) -> str:
    text = json.dumps([namespace, stack, content], sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
