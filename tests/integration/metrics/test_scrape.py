"""A real scrape over HTTP, of real pools and queues: what it shows is what happened."""

import asyncio
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from stackstore.errors import BackendUnavailableError
from stackstore.metrics import Collector
from tests.integration.instances.site import FIRST, SECOND, until
from tests.integration.metrics.conftest import USER, on_postgres

SQL, KV, STORE = ("backend", "sql_default"), ("backend", "kv_default"), ("store", "inference")


@pytest.fixture
async def scrape(server):
    """Scrapes over HTTP; returns the text and its samples by name and labels."""
    registry = CollectorRegistry()
    registry.register(Collector(server))
    listener, thread = start_http_server(0, "127.0.0.1", registry)
    address = f"http://127.0.0.1:{listener.server_port}/metrics"

    def get():
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.read().decode()

    async def scrape():
        text = await asyncio.to_thread(get)
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        return text, samples

    yield scrape
    listener.shutdown()
    listener.server_close()
    await asyncio.to_thread(thread.join)


async def test_nothing_is_connected_to_for_a_scrape(server, scrape):
    _, shown = await scrape()
    kind = ("type", f"sql_{'sqlite' if server.site.dialect == 'sqlite' else 'postgres'}")
    assert shown["stackstore_backend_login", SQL, ("state", "unproven"), kind] == 1
    assert shown["stackstore_pool_opened_connections_total", SQL] == 0
    for state in ("idle", "lent", "opening", "closing"):
        assert shown["stackstore_pool_connections", SQL, ("state", state)] == 0


async def test_what_was_stored_is_counted(server, scrape):
    for number in range(30):
        await server.store(f"c{number}")
    assert await server.inference.flush()
    _, shown = await scrape()
    names = (SQL, STORE)
    assert shown["stackstore_queue_acknowledged_rows_total", *names] == 30
    assert shown["stackstore_queue_written_rows_total", *names] == 30
    assert shown["stackstore_queue_rows", *names] == 0
    assert shown["stackstore_queue_batch_rows_sum", *names] == 30
    batches = shown["stackstore_queue_batch_rows_count", *names]
    assert 1 <= batches <= 30
    assert shown["stackstore_queue_write_seconds_count", *names] == batches
    assert shown["stackstore_queue_write_seconds_bucket", SQL, ("le", "+Inf"), STORE] == batches
    assert shown["stackstore_pool_opened_connections_total", SQL] > 0


async def test_the_pools_numbers_are_right(server, scrape):
    engine = server.databases["sql_default"].engine
    await server.process.use()
    await until(server.site.rows)
    async with engine.connect(), engine.connect():
        _, shown = await scrape()
        assert shown["stackstore_pool_connections", SQL, ("state", "lent")] == 2
        opened = shown["stackstore_pool_opened_connections_total", SQL]
    _, shown = await scrape()
    assert shown["stackstore_pool_connections", SQL, ("state", "lent")] == 0
    idle = shown["stackstore_pool_connections", SQL, ("state", "idle")]
    assert idle == opened - shown["stackstore_pool_closed_connections_total", SQL]
    assert idle >= 2
    if server.site.dialect == "postgresql":
        assert idle == len(await server.site.server.sessions(server.site.database.role))
    await server.close()
    _, shown = await scrape()
    assert shown["stackstore_pool_closed_connections_total", SQL] == opened
    assert shown["stackstore_pool_connections", SQL, ("state", "idle")] == 0


async def test_a_file_that_is_replaced_is_counted_right(server, scrape):
    await server.process.write("kv_default")
    path = server.site.backends["kv_default"].path
    for end in ("", "-wal", "-shm"):
        await asyncio.to_thread(Path(path + end).unlink)
    await server.process.write("kv_default")
    _, shown = await scrape()
    opened = shown["stackstore_pool_opened_connections_total", KV]
    closed = shown["stackstore_pool_closed_connections_total", KV]
    assert closed >= 1
    there = sum(
        shown["stackstore_pool_connections", KV, ("state", state)] for state in ("idle", "lent")
    )
    assert there == opened - closed >= 1


@on_postgres
async def test_waits_and_failures_of_a_pool(server, scrape):
    engine = server.databases["sql_default"].engine
    site = server.site
    holders = [await engine.connect() for _ in range(3)]
    waiter = asyncio.create_task(server.process.use())
    await until(lambda: server.pools()["sql_default"].waiting)
    _, shown = await scrape()
    assert shown["stackstore_pool_waiting_callers", SQL] >= 1
    await asyncio.sleep(0.2)
    await holders.pop().close()
    await waiter
    _, shown = await scrape()
    # One for the first connection, one for each wait since.
    assert shown["stackstore_pool_wait_seconds_count", SQL] >= 2
    assert shown["stackstore_pool_wait_seconds_sum", SQL] >= 0.2
    assert shown["stackstore_pool_lends_total", SQL] >= 4
    for holder in holders:
        await holder.close()
    # A login that is refused, beside the one that works.
    kind = ("type", "sql_postgres")
    site.backends["sql_default"] = site.backend(SECOND, [site.login(FIRST)], password="other")
    server.databases.apply(site.backends)
    await until(lambda: server.pools()["sql_default"].counters.refused)
    _, shown = await scrape()
    assert shown["stackstore_pool_connect_failures_total", SQL, ("reason", "refused")] >= 1
    assert shown["stackstore_backend_login", SQL, ("state", "previous"), kind] == 1
    info = ("pool", "sql_default"), ("revision", FIRST), kind
    assert shown["stackstore_backend_info", SQL, *info] == 1
    await site.server.set_password(site.database.role, "other")
    await until(lambda: server.backends()[0].state == "current", 15)
    _, shown = await scrape()
    info = ("pool", "sql_default"), ("revision", SECOND), kind
    assert shown["stackstore_backend_info", SQL, *info] == 1
    # Nobody there at all.
    site.backends["sql_default"] = site.backend("00000003", port=1)
    server.databases.apply(site.backends)
    await until(lambda: server.pools()["sql_default"].counters.unreachable)
    _, shown = await scrape()
    assert shown["stackstore_pool_connect_failures_total", SQL, ("reason", "unreachable")] >= 1


@on_postgres
async def test_who_goes_away_without_a_connection_is_counted(server, scrape):
    site = server.site
    short = site.backend()
    short = short.model_copy(
        update={"pool": short.pool.model_copy(update={"acquire_timeout_seconds": 1})}
    )
    server.databases.apply({**site.backends, "sql_default": short})
    engine = server.databases["sql_default"].engine
    holders = [await engine.connect() for _ in range(3)]
    try:
        with pytest.raises(BackendUnavailableError, match="all 3 are in use"):
            await server.process.use()
        _, shown = await scrape()
        # Its row may have waited as well.
        assert shown["stackstore_pool_wait_timeouts_total", SQL] in {1, 2}
    finally:
        for holder in holders:
            await holder.close()


async def test_no_content_and_no_credential_is_shown(server, scrape):
    canary = "kan4rie-content"
    await server.store("kan4rie-id", canary)
    assert await server.inference.flush()
    text, shown = await scrape()
    assert shown["stackstore_queue_written_rows_total", SQL, STORE] == 1
    assert "kan4rie" not in text
    assert USER.principal not in text
    if server.site.database is not None:
        assert server.site.database.password not in text
        assert server.site.database.role not in text
