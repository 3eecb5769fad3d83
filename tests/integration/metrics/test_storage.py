"""The same through the front door: `stackstore.open()` is all that a server does."""

import pytest
from prometheus_client import CollectorRegistry

import stackstore
from stackstore.access import acting_as
from stackstore.credentials.snapshot import Snapshot, SqliteBackend
from stackstore.metrics import Collector
from tests.integration.instances.conftest import engine, site  # noqa: F401 - fixtures
from tests.integration.instances.site import FIRST, STACK, until
from tests.integration.metrics.conftest import USER
from tests.support.kubelet import VolumeDirectory

CONFIG = """\
storage:
  backends:
    kv_default: {type: kv_sqlite, db_path: "${env.KV_PATH}"}
    sql_default: %s
  stores:
    metadata: {backend: kv_default, namespace: registry}
    inference: {backend: sql_default, table_name: inference_store}
"""


@pytest.fixture
async def storage(site, tmp_path):  # noqa: F811 - the fixture
    file = tmp_path / "config.yaml"
    # The snapshot has all that counts.
    place = {
        "sqlite": '{type: sql_sqlite, db_path: "${env.SQL_PATH}"}',
        "postgresql": '{type: sql_postgres, connection_string: "${env.SQL_URL}"}',
    }
    file.write_text(CONFIG % place[site.dialect])
    site.backends["kv_default"] = SqliteBackend(type="kv_sqlite", path=str(tmp_path / "kv.db"))
    snapshot = Snapshot(stack_id=STACK, revision=FIRST, backends=site.backends)
    VolumeDirectory(tmp_path / "storage").write({"stackstore.json": snapshot.to_bytes()})
    opened = await stackstore.open(file, credentials=tmp_path / "storage")
    yield opened
    await opened.close()


async def test_a_storage_is_what_the_collector_reads(storage):
    registry = CollectorRegistry()
    registry.register(Collector(storage))
    names = {"backend": "sql_default", "store": "inference"}
    inference = storage.inference()
    completion = {"id": "c", "created": 1, "model": "m", "choices": []}
    with acting_as(USER):
        await inference.store_chat_completion(completion, [])
    assert await inference.flush()
    assert registry.get_sample_value("stackstore_queue_written_rows_total", names) == 1
    assert registry.get_sample_value("stackstore_up") == 1
    backend = {"backend": "sql_default"}
    assert registry.get_sample_value("stackstore_pool_opened_connections_total", backend) >= 1


async def test_a_row_comes_with_the_first_use_and_goes_with_the_end(storage, site):  # noqa: F811
    assert await site.rows() == []
    with acting_as(USER):
        assert (await storage.inference().list_chat_completions()).data == []
    ((backend, _, revision),) = await until(site.rows)
    assert (backend, revision) == ("sql_default", "" if site.dialect == "sqlite" else FIRST)
    await storage.close()
    assert await site.rows() == []
