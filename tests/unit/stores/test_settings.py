"""What a store does according to the run config and the snapshot together."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from stackstore.config import StoreConfig
from stackstore.config.model import ProviderReference
from stackstore.config.schema import PROVIDER_FIELDS, STORES
from stackstore.credentials.snapshot import Durability, Snapshot, StoreSettings
from stackstore.errors import InvalidArgumentError
from stackstore.stores.queue import WriteQueue
from stackstore.stores.settings import (
    MAX_WRITERS,
    QUEUED,
    RETAINED,
    RETAINED_FIELDS,
    Settings,
    awaiting_restart,
    of_provider,
    of_store,
)
from stackstore_operator.api import binding

JOURNAL = Durability(mode="Journal", path="/journal")
KEY = "responses/builtin/persistence.responses"


def config(name="inference", rows=10_000, writers=4) -> StoreConfig:
    return StoreConfig(
        name, "sql", "sql_default", table_name="t", max_write_queue_size=rows, num_writers=writers
    )


def snapshot(store="inference", /, **settings) -> Snapshot:
    return Snapshot(
        stack_id="0" * 12,
        revision="",
        backends={},
        stores={store: StoreSettings(**settings)} if settings else {},
    )


def reference(api="responses", field="persistence.responses") -> ProviderReference:
    return ProviderReference(
        api, "builtin", "inline::builtin", field, "sql", "sql_default", table_name="t"
    )


@pytest.mark.parametrize("given", [None, snapshot(), snapshot("other", num_writers=9)])
def test_what_no_snapshot_says_is_the_run_configs_word(given):
    assert of_store(config(rows=7, writers=2), given) == Settings(7, 2)


def test_the_snapshots_word_wins_setting_by_setting():
    assert of_store(config(), snapshot(max_write_queue_size=5)) == Settings(5, 4)
    assert of_store(config(), snapshot(num_writers=5)) == Settings(10_000, 5)
    assert of_store(config(), snapshot(retention_seconds=5)) == Settings(
        10_000, 4, retention_seconds=5
    )
    assert of_store(config(), snapshot(durability=JOURNAL)) == Settings(
        10_000, 4, journal=Path("/journal")
    )
    assert of_store(
        config(), snapshot(durability=Durability(mode="Memory", path="/x"))
    ) == Settings(10_000, 4)


@pytest.mark.parametrize("given", [None, snapshot(num_writers=1_000)])
def test_more_writers_than_there_can_be_are_the_most_and_it_is_said(given):
    found = of_store(config(writers=1_000), given)
    assert found.num_writers == MAX_WRITERS
    assert found.remarks == (
        "store 'inference': 1000 writers are asked for; 64 are made use of, which is the most",
    )
    assert of_store(config(writers=MAX_WRITERS), None).remarks == ()


def test_the_most_writers_are_those_of_a_queue():
    sink = SimpleNamespace(lanes=lambda wanted: wanted)
    WriteQueue(sink, name="x", writers=MAX_WRITERS)
    with pytest.raises(InvalidArgumentError):
        WriteQueue(sink, name="x", writers=MAX_WRITERS + 1)


def test_a_store_that_writes_before_it_answers_has_no_queue_and_no_journal():
    given = snapshot("responses", num_writers=1_000, durability=JOURNAL, retention_seconds=5)
    found = of_store(config("responses"), given)
    assert found == Settings(
        retention_seconds=5,
        remarks=("store 'responses': it writes before it answers, so it has no journal",),
    )


def test_a_retention_that_is_not_done_is_said():
    found = of_store(config("prompts", None, None), snapshot("prompts", retention_seconds=5))
    (remark,) = found.remarks
    assert found.retention_seconds is None
    assert "'prompts'" in remark
    assert "retention of 5 s is not done" in remark


def test_of_a_provider():
    given = Snapshot(
        stack_id="0" * 12,
        revision="",
        backends={},
        providers={
            KEY: StoreSettings(retention_seconds=5),
            "batches/builtin/sqlstore": StoreSettings(retention_seconds=6),
        },
    )
    assert of_provider(reference(), given) == Settings(retention_seconds=5)
    assert of_provider(reference(), None) == Settings()
    # Said of the store, whose rows are those that the provider refers to.
    beside = given.model_copy(update={"stores": {"responses": StoreSettings(retention_seconds=7)}})
    assert of_provider(reference(), beside).retention_seconds == 5
    beside = beside.model_copy(update={"providers": {}})
    assert of_provider(reference(), beside).retention_seconds == 7
    assert of_provider(reference("batches", "sqlstore"), beside) == Settings()
    other = of_provider(reference("batches", "sqlstore"), given)
    assert other.retention_seconds is None
    assert "'batches/builtin/sqlstore'" in other.remarks[0]


def test_what_a_running_store_can_not_follow():
    running = Settings(10, 4, None, 60)
    assert awaiting_restart(running, Settings(10, 4, None, 5, ("a remark",))) == ()
    assert awaiting_restart(running, Settings(11, 5, Path("/j"), None)) == (
        "max_write_queue_size",
        "num_writers",
        "journal",
    )
    assert {one.name for one in fields(Settings)} == {
        *("max_write_queue_size", "num_writers", "journal"),
        *("retention_seconds", "remarks"),
    }


def test_operator_and_runtime_know_the_same():
    assert binding.RETAINED == RETAINED
    assert binding.JOURNALED == QUEUED
    assert set(binding.RETAINED_FIELDS) == RETAINED_FIELDS.keys()
    assert set(RETAINED_FIELDS.values()) <= set(RETAINED)
    assert set(RETAINED) <= STORES.keys()
    assert RETAINED_FIELDS.keys() <= PROVIDER_FIELDS.keys()
