"""Spans of real statements: there, under the request's own, of every engine, and without content."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from sqlalchemy import String, TypeDecorator, bindparam, text
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio

from stackstore import tracing
from stackstore.access import AuthorizedSqlStore, acting_as
from stackstore.errors import InvalidArgumentError, StackstoreError
from stackstore.kv import KVStore
from stackstore.sql import ColumnDefinition, ColumnType
from tests.integration.instances.site import FIRST, SECOND
from tests.integration.metrics.conftest import USER, on_postgres

CANARY = "kan4rie"


@pytest.fixture
def spans():
    """Where the spans of this test are."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.instrument(provider)
    exporter.provider = provider
    yield exporter
    SQLAlchemyInstrumentor().uninstrument()
    provider.shutdown()


def statements(spans):
    return [
        span
        for span in spans.get_finished_spans()
        if "db.statement" in span.attributes or "db.query.text" in span.attributes
    ]


async def test_statements_are_spans_under_the_requests_own(spans, server):
    tracer = spans.provider.get_tracer("test")
    with tracer.start_as_current_span("request") as request:
        await server.process.use()
    found = [span for span in statements(spans) if span.attributes["db.statement"] == "SELECT 1"]
    assert len(found) == 1
    assert found[0].parent.span_id == request.get_span_context().span_id
    assert found[0].attributes["db.system"] == server.databases["sql_default"].dialect
    assert found[0].status.status_code is not StatusCode.ERROR


async def test_a_span_has_no_content(spans, server):
    store = AuthorizedSqlStore(server.sql)
    columns = {
        "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
        "n": ColumnDefinition(ColumnType.INTEGER),
        "body": ColumnDefinition(ColumnType.JSON),
    }
    await store.create_table("t", columns)
    with acting_as(USER):
        await store.insert("t", {"id": f"{CANARY}-1", "n": 1, "body": {"text": CANARY}})
        await store.upsert("t", {"id": f"{CANARY}-1", "n": 2, "body": {"text": CANARY}}, ["id"])
        await store.fetch_all("t", where={"id": f"{CANARY}-1"}, limit=5)
        await store.fetch_all("t", where={"id": {">=": f"{CANARY}-"}}, limit=5)
        await store.update("t", {"body": {"text": f"{CANARY}-other"}}, where={"id": f"{CANARY}-1"})
        # Twice the same key, a value that the column can't hold, a text that Postgres can't.
        for row in (
            {"id": f"{CANARY}-1", "n": 1, "body": None},
            {"id": f"{CANARY}-2", "n": 2**63, "body": None},
            {"id": f"{CANARY}-\0", "n": 1, "body": None},
        ):
            with contextlib.suppress(StackstoreError):
                await store.insert("t", row)
        await store.delete("t", where={"id": f"{CANARY}-1"})
    # What the driver itself would quote: past our own checks.
    for statement, parameters in [
        ("SELECT CAST(:a AS INTEGER) / CAST(:b AS INTEGER)", {"a": 1, "b": 0}),
        ("SELECT nothing_like_it FROM t WHERE id = :a", {"a": CANARY}),
        ("SELECT CAST(CAST(:a AS TEXT) AS BIGINT)", {"a": CANARY}),
        ("SELECT CAST(:a AS BIGINT)", {"a": CANARY}),
    ]:
        await fails(server, statement, parameters)
    found = statements(spans)
    assert len(found) >= 8
    if server.site.dialect == "postgresql":
        failed = [span for span in found if span.status.status_code is StatusCode.ERROR]
        assert len(failed) >= 4
        assert "UniqueViolationError (SQLSTATE 23505)" in {
            span.status.description for span in failed
        }
    shown = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "INSERT INTO" in shown
    assert CANARY not in shown
    assert USER.principal not in shown


async def fails(server, statement, parameters):
    failed = False
    async with server.databases["sql_default"].engine.connect() as connection:
        try:
            await connection.execute(text(statement), parameters)
        except DBAPIError:
            failed = True
    # SQLite makes something of anything.
    assert failed or server.site.dialect == "sqlite"


@on_postgres
async def test_a_cancellation_keeps_its_words(spans, server):
    """Some who cancel know their own by them."""
    task = asyncio.create_task(fails(server, "SELECT pg_sleep(:a)", {"a": 5}))
    await asyncio.sleep(0.3)
    task.cancel("mine")
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await task
    assert cancelled.value.args == ("mine",)


class Picky(TypeDecorator):
    impl, cache_ok = String, True

    def process_bind_param(self, value, dialect):
        raise InvalidArgumentError("mine")


@on_postgres
async def test_our_own_errors_keep_theirs(server):
    statement = text("SELECT :a").bindparams(bindparam("a", "x", type_=Picky))
    async with server.databases["sql_default"].engine.connect() as connection:
        with pytest.raises(StatementError) as failure:
            await connection.execute(statement)
    assert failure.value.orig.args == ("mine",)


@on_postgres
async def test_the_library_alone_would_quote_what_the_driver_says(spans, server):
    """Why `pools.postgres` looks at an error before the instrumentation does."""
    place = server.site.login(FIRST)
    engine = sqlalchemy_asyncio.create_async_engine(
        f"postgresql+asyncpg://{place.username}:{place.password.get_secret_value()}"
        f"@{place.host}:{place.port}/{place.database}?ssl=disable"
    )
    try:
        async with engine.connect() as connection:
            with pytest.raises(DBAPIError):
                await connection.execute(
                    text("SELECT CAST(CAST(:a AS TEXT) AS BIGINT)"), {"a": CANARY}
                )
    finally:
        await engine.dispose()
    assert CANARY in "".join(span.to_json() for span in spans.get_finished_spans())


@on_postgres
async def test_engines_of_a_rotation_are_traced_too(spans, server):
    site = server.site
    site.backends["sql_other"] = site.backend()
    process = site.process()
    before = process.databases["sql_default"].engine
    there = f"{site.database.name}b"
    await site.server.create_database(there, site.database.role)
    try:
        # Two backends part: one of them gets a pool, and an engine, of its own.
        changed = {**site.backends, "sql_default": site.backend(SECOND, database=there)}
        process.databases.apply(changed)
        assert process.databases["sql_default"].engine is not before
        await process.use("sql_default")
        assert "SELECT 1" in [span.attributes["db.statement"] for span in statements(spans)]
    finally:
        await process.close()
        await site.server.run(f'DROP DATABASE "{there}" WITH (FORCE)')


async def test_key_value_operations_make_none(spans, server):
    store = KVStore(server.databases["sql_default"], "n")
    await store.set("a", "1")
    await server.close()
    assert any("CREATE TABLE" in span.attributes["db.statement"] for span in statements(spans))
    for start in ("SELECT value", "INSERT INTO stackstore_kv", 'INSERT INTO "stackstore"."kv"'):
        assert not [s for s in statements(spans) if s.attributes["db.statement"].startswith(start)]


async def test_instrumenting_twice_is_fine(spans, server, caplog):
    tracing.instrument()
    await server.process.use()
    assert len([s for s in statements(spans) if s.attributes["db.statement"] == "SELECT 1"]) == 1
    assert caplog.text == ""


def test_it_also_works_for_a_module_that_was_loaded_before():
    script = (
        "import asyncio\n"
        "from stackstore.pools.sqlite import SqliteDatabase\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))\n"
        "from stackstore import tracing\n"
        "tracing.instrument(provider)\n"
        "async def main():\n"
        "    database = SqliteDatabase('d', ':memory:')\n"
        "    async with database.engine.connect() as connection:\n"
        "        await connection.exec_driver_sql('SELECT 42')\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        check=True, capture_output=True, text=True, env=dict(os.environ),
        cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
    assert "SELECT 42" in shown.stdout
