"""What is shown of plain numbers: names, labels, values, as a Prometheus server reads them."""

import asyncio
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from stackstore.config import load
from stackstore.errors import InvalidArgumentError
from stackstore.metrics import Collector, collector
from stackstore.metrics.families import NOTHING, families
from stackstore.pools.stats import BackendStats, Counters, PoolStats
from stackstore.stores.queue.stats import Distribution, QueueStats
from stackstore.stores.retention import Retained, RetentionStats

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """\
storage:
  backends:
    kv_default: {type: kv_sqlite, db_path: /tmp/kv.db}
    sql_default: {type: sql_postgres, connection_string: "postgresql://u:kan4rie@127.0.0.1/d"}
  stores:
    metadata: {backend: kv_default, namespace: registry}
    inference: {backend: sql_default, table_name: inference_store}
"""

POSTGRES = PoolStats(
    size=4, max_overflow=2, idle=1, lent=3, opening=1, closing=0, waiting=7,
    counters=Counters(
        lends=100, waits=8, waited_seconds=1.5, timeouts=2, opened=9, closed=4, refused=5,
        unreachable=6,
    ),
)  # fmt: skip
SQLITE = PoolStats(
    size=5, max_overflow=0, idle=1, lent=1, opening=0, closing=0, waiting=None,
    counters=Counters(opened=3, closed=1),
)  # fmt: skip
QUEUE = QueueStats(
    rows=11, bytes=12, waiting=13, oldest_seconds=1.25, acknowledged=14, replayed=15, written=16,
    folded=17, dead_letters=18, retries=19, busy=20, journal_failures=21,
    batch_rows=Distribution((1, 2), (5, 3, 2), 40.0),
    write_seconds=Distribution((0.001, 0.5), (0, 4, 0), 0.75),
    age_seconds=Distribution((0.5,), (1, 0), 0.25),
    last_trouble="kan4rie",
)  # fmt: skip

SWEPT = RetentionStats(
    seconds=60, deleted=31, letters=32, sweeps=33, last_sweep=34_500_000, failures=35, trouble="kan4rie"
)  # fmt: skip


@dataclass
class Numbers:
    """What a storage gives."""

    config: object
    pool: dict = field(default_factory=lambda: {"sql_default": POSTGRES, "kv_default": SQLITE})
    queue: dict = field(default_factory=lambda: {"inference": QUEUE})

    def pools(self):
        return self.pool

    def backends(self):
        return [
            BackendStats("sql_default", "sql_postgres", "sql_default", "previous", "0badcafe"),
            BackendStats("kv_default", "kv_sqlite", "kv_default", "unproven", None),
        ]

    def queues(self):
        return self.queue

    def retained(self):
        return [
            Retained("inference", "sql_default", "inference_store", SWEPT),
            Retained("vector_stores", "sql_default", "vs__file_batches", RetentionStats(seconds=0)),
        ]


@pytest.fixture
def numbers(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG)
    return Numbers(load(file, {}))


def scraped(registry):
    """Every sample: its name and labels, and its value."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_every_number_is_shown(numbers):
    registry = CollectorRegistry()
    registry.register(Collector(numbers))
    shown = scraped(registry)
    sql, kv = ("backend", "sql_default"), ("backend", "kv_default")
    expected = {("stackstore_up",): 1}
    for place, type_, pool, revision, state in [
        (sql, "sql_postgres", "sql_default", "0badcafe", "previous"),
        (kv, "kv_sqlite", "kv_default", "", "unproven"),
    ]:
        kind = ("type", type_)
        expected["stackstore_backend_info", place, ("pool", pool), ("revision", revision), kind] = 1
        for one in ("current", "previous", "refused", "unreachable", "unproven"):
            expected["stackstore_backend_login", place, ("state", one), kind] = one == state
    for place, connections, values in [
        (sql, (1, 3, 1, 0), {"size": 4, "max_overflow": 2, "overflow_connections": 1,
                             "waiting_callers": 7, "opened_connections_total": 9,
                             "closed_connections_total": 4, "lends_total": 100,
                             "wait_timeouts_total": 2, "wait_seconds_count": 8,
                             "wait_seconds_sum": 1.5}),
        (kv, (1, 1, 0, 0), {"size": 5, "max_overflow": 0, "overflow_connections": 0,
                            "opened_connections_total": 3, "closed_connections_total": 1}),
    ]:  # fmt: skip
        for state, value in zip(("idle", "lent", "opening", "closing"), connections, strict=True):
            expected["stackstore_pool_connections", place, ("state", state)] = value
        for name, value in values.items():
            expected[f"stackstore_pool_{name}", place] = value
    expected["stackstore_pool_connect_failures_total", sql, ("reason", "refused")] = 5
    expected["stackstore_pool_connect_failures_total", sql, ("reason", "unreachable")] = 6
    for store, table, values in [
        ("inference", "inference_store", (60, 31, 32, 33, 35)),
        ("vector_stores", "vs__file_batches", (0, 0, 0, 0, 0)),
    ]:
        names = ("age_seconds", "deleted_rows_total", "deleted_dead_letters_total", "sweeps_total", "failures_total")  # fmt: skip
        place = (sql, ("store", store), ("table", table))
        for name, value in zip(names, values, strict=True):
            expected[f"stackstore_retention_{name}", *place] = value
    # Where it never came to an end there is no moment.
    place = (sql, ("store", "inference"), ("table", "inference_store"))
    expected["stackstore_retention_last_sweep_timestamp_seconds", *place] = 34.5
    store = ("store", "inference")
    for name, value in {
        "rows": 11, "bytes": 12, "waiting_callers": 13, "oldest_row_age_seconds": 1.25,
        "acknowledged_rows_total": 14, "replayed_rows_total": 15, "written_rows_total": 16,
        "folded_rows_total": 17, "dead_letters_total": 18, "retries_total": 19, "busy_total": 20,
        "journal_failures_total": 21,
        "batch_rows_count": 10, "batch_rows_sum": 40, "write_seconds_count": 4,
        "write_seconds_sum": 0.75, "row_age_seconds_count": 1, "row_age_seconds_sum": 0.25,
    }.items():  # fmt: skip
        expected[f"stackstore_queue_{name}", sql, store] = value
    for name, buckets in {
        "batch_rows": {"1.0": 5, "2.0": 8, "+Inf": 10},
        "write_seconds": {"0.001": 0, "0.5": 4, "+Inf": 4},
        "row_age_seconds": {"0.5": 1, "+Inf": 1},
    }.items():
        for bound, value in buckets.items():
            expected[f"stackstore_queue_{name}_bucket", sql, ("le", bound), store] = value
    assert shown == expected


async def test_it_is_openmetrics_too(numbers):
    registry = CollectorRegistry()
    registry.register(Collector(numbers))
    read = list(read_openmetrics(openmetrics(registry).decode()))
    assert len(read) > 20
    assert all(family.documentation.endswith(".") for family in read)


async def test_nothing_but_names_and_numbers(numbers):
    registry = CollectorRegistry()
    registry.register(Collector(numbers))
    text = generate_latest(registry).decode()
    assert "kan4rie" not in text
    labels = set(re.findall(r'[{,]([a-z]+)="', text))
    assert labels == {
        "backend",
        "type",
        "pool",
        "revision",
        "state",
        "reason",
        "store",
        "table",
        "le",
    }


async def test_two_of_them_in_one_registry_are_refused_before_anything_is_read(numbers):
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector(numbers))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector(numbers))


async def test_what_is_described_is_what_is_shown(numbers):
    collector = Collector(numbers)
    described = [
        (family.name, family.type, family.documentation) for family in collector.describe()
    ]
    shown = [(family.name, family.type, family.documentation) for family in collector.collect()]
    assert described == shown
    assert not any(family.samples for family in collector.describe())


async def test_a_scrape_from_another_thread_is_read_in_the_loop(numbers):
    registry = CollectorRegistry()
    threads = []
    ask = numbers.queues

    def queues():
        threads.append(threading.current_thread())
        return ask()

    numbers.queues = queues
    registry.register(Collector(numbers))
    here = scraped(registry)
    there = await asyncio.to_thread(scraped, registry)
    assert here == there
    assert set(threads) == {threading.current_thread()}


async def test_a_blocked_loop_is_told_and_the_scrape_ends(numbers, monkeypatch):
    monkeypatch.setattr(collector, "ANSWER_SECONDS", 0.2)
    registry = CollectorRegistry()
    registry.register(Collector(numbers))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(scraped(registry)))
    thread.start()
    # The loop is this thread's, and it waits.
    thread.join(5)
    assert answers == [{("stackstore_up",): 0}]
    assert await asyncio.to_thread(scraped, registry) != answers[0]


async def test_a_fault_while_reading_is_the_scrapes(numbers):
    registry = CollectorRegistry()
    registry.register(Collector(numbers))
    numbers.queue = {"nowhere": replace(QUEUE)}
    with pytest.raises(KeyError):
        await asyncio.to_thread(scraped, registry)


def test_after_the_loop_has_ended_it_still_answers(numbers):
    registry = CollectorRegistry()

    async def register():
        registry.register(Collector(numbers))

    asyncio.run(register())
    assert scraped(registry)["stackstore_up",] == 1


def test_it_is_made_in_a_loop(numbers):
    with pytest.raises(InvalidArgumentError, match="event loop"):
        Collector(numbers)


@pytest.mark.parametrize(
    ("module", "missing", "said"),
    [
        ("metrics", "prometheus_client", "install stackstore[prometheus]"),
        ("tracing", "opentelemetry", "install opentelemetry-instrumentation-sqlalchemy"),
    ],
)
def test_without_the_library_it_says_what_to_install(module, missing, said):
    script = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "import stackstore, stackstore.storage\n"
        "try:\n"
        f"    import stackstore.{module}\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert said in shown.stdout


def test_the_document_lists_every_metric_and_no_other():
    there = {family.name for family in families(NOTHING)} | {"stackstore_up"}
    written = set(re.findall(r"`(stackstore_[a-z_]+?)(?:_total|_info)?`", document()))
    assert written == there


def document():
    text = (ROOT / "docs" / "metrics.md").read_text()
    return text.partition("## Metrics")[2].partition("\n## ")[0]
