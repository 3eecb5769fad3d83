"""A stack's config and its mounted Secret, on one Postgres, for benchmarks that rotate."""

from __future__ import annotations

from pathlib import Path

from stackstore.credentials.snapshot import (
    Login,
    PostgresBackend,
    PreviousLogin,
    Snapshot,
    Tls,
)
from tests.support.kubelet import VolumeDirectory
from tests.support.postgres import PostgresServer

STACK_ID = "0123456789ab"

_CONFIG = """\
distro_name: bench
storage:
  backends:
    kv_default: {type: kv_postgres, connection_string: "${env.KV_DEFAULT_URL}"}
    sql_default: {type: sql_postgres, connection_string: "${env.SQL_DEFAULT_URL}"}
  stores:
    metadata: {backend: kv_default, namespace: registry}
    inference: {backend: sql_default, table_name: inference_store}
"""


class Mount:
    """Both backends point at one database; everything else is the default.

    Attributes:
        config: the run config's file.
        path: where the Secret is mounted, laid out and swapped as the kubelet does.
        revision: of the current login.
    """

    def __init__(self, directory: Path, server: PostgresServer, role: str, password: str) -> None:
        self.config = directory / "config.yaml"
        self.config.write_text(_CONFIG)
        self.path = directory / "storage"
        self.revision = ""
        self._server = server
        self._role = role
        self._volume = VolumeDirectory(self.path)
        self._logins: list[Login] = []
        self.rotate(password)

    @property
    def application_name(self) -> str:
        """What the server shows of a connection with the current login."""
        return f"stackstore:{self.revision}:{STACK_ID}"

    def rotate(self, password: str) -> None:
        """Swap in a snapshot with another password; the three before it stay as previous ones."""
        self.revision = f"{int(self.revision or '0', 16) + 1:08x}"
        login = Login(
            revision=self.revision,
            host=self._server.host,
            port=self._server.port,
            database=self._role,
            username=self._role,
            password=password,
        )
        self._logins = [login, *self._logins][:4]
        previous = tuple(PreviousLogin(**dict(old), usable_until=0) for old in self._logins[1:])
        kinds = {"kv_default": "kv_postgres", "sql_default": "sql_postgres"}
        snapshot = Snapshot(
            stack_id=STACK_ID,
            revision=self.revision,
            backends={
                name: PostgresBackend(
                    type=kind, current=login, previous=previous, tls=Tls(mode="Disable")
                )
                for name, kind in kinds.items()
            },
        )
        self._volume.write({"stackstore.json": snapshot.to_bytes()})
