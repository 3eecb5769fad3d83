"""What a server has: a run config, pools on real databases, and a store with a queue."""

from __future__ import annotations

import pytest

from stackstore.access import AuthorizedSqlStore, User, acting_as
from stackstore.config import load
from stackstore.credentials.snapshot import SqliteBackend
from stackstore.sql import SqlStore
from stackstore.stores.inference import InferenceStore
from tests.integration.instances.conftest import engine  # noqa: F401 - a fixture
from tests.integration.instances.site import STACK, Site

CONFIG = """\
storage:
  backends:
    kv_default: {type: kv_sqlite, db_path: "%s"}
    sql_default: {type: sql_sqlite, db_path: "%s"}
  stores:
    metadata: {backend: kv_default, namespace: registry}
    inference: {backend: sql_default, table_name: inference_store}
"""

USER = User("alice", {"teams": ["blue"]})

on_postgres = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


class Server:
    """A storage's parts, as `stackstore.open()` puts them together."""

    def __init__(self, site: Site, config) -> None:
        self.config = config
        self.site = site
        self.process = site.process(STACK)
        self.databases = self.process.databases
        sql = SqlStore(self.databases["sql_default"])
        self.inference = InferenceStore(AuthorizedSqlStore(sql), "inference_store")
        self.sql = sql

    def pools(self):
        return self.databases.pools()

    def backends(self):
        return self.databases.backends()

    def queues(self):
        return {"inference": self.inference.stats()}

    def retained(self):
        return []

    async def store(self, name, text="hello"):
        completion = {"id": name, "created": 1, "model": "m", "object": "chat.completion",
                      "choices": [{"message": {"role": "assistant", "content": text}}]}  # fmt: skip
        with acting_as(USER):
            await self.inference.store_chat_completion(
                completion, [{"role": "user", "content": text}]
            )

    async def close(self) -> None:
        await self.inference.shutdown(5)
        await self.process.close()


@pytest.fixture
async def server(engine, tmp_path):  # noqa: F811 - the fixture
    dialect, database = engine
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG % (tmp_path / "kv.db", tmp_path / "a.db"))
    site = Site(dialect, database, tmp_path / "a.db")
    site.backends["kv_default"] = SqliteBackend(type="kv_sqlite", path=str(tmp_path / "kv.db"))
    server = Server(site, load(file, {}))
    yield server
    await server.close()
