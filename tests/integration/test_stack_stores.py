"""The higher stores as a server gets them: from `stackstore.open()`, with what the snapshot says of each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time

import pytest

import stackstore
from stackstore.access import Tenancy, User, acting_as
from stackstore.credentials.snapshot import Durability, Snapshot, SqliteBackend, StoreSettings
from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.instances import living
from stackstore.stores.retention import retention
from tests.support.kubelet import VolumeDirectory

pytestmark = pytest.mark.timeout(60)

CONFIG = """\
providers:
  responses:
  - {provider_id: builtin, provider_type: "inline::builtin",
     config: {persistence: {responses: {backend: sql_default, table_name: answers}}}}
  batches:
  - {provider_id: ref, provider_type: "inline::reference", config: {sqlstore: {backend: sql_default, table_name: jobs}}}
storage:
  backends:
    kv_default: {type: kv_sqlite, db_path: "${env.KV_DEFAULT_PATH}"}
    sql_default: {type: sql_sqlite, db_path: "${env.SQL_DEFAULT_PATH}"}
  stores:
    metadata: {backend: kv_default, namespace: registry}
    inference: {backend: sql_default, table_name: completions, num_writers: 2}
    conversations: {backend: sql_default, table_name: talks}
    prompts: {backend: sql_default, table_name: prompts}
    connectors: {backend: sql_default, table_name: connectors}
    vector_stores: {backend: sql_default, table_name: vectors}
"""

ALICE = User("alice", {"teams": ["a"]})


class Pod:
    def __init__(self, directory) -> None:
        self.config = directory / "config.yaml"
        self.config.write_text(CONFIG)
        self.mount = directory / "storage"
        self.journal = directory / "journal"
        self.stores: dict[str, StoreSettings] = {}
        self.providers: dict[str, StoreSettings] = {}
        self._backends = {
            f"{family}_default": SqliteBackend(
                type=f"{family}_sqlite", path=str(directory / f"{family}.db")
            )
            for family in ("kv", "sql")
        }

    def write(self) -> None:
        snapshot = Snapshot(
            stack_id="9d2e41b0c7aa", revision="00000001", backends=self._backends,
            stores=self.stores, providers=self.providers,
        )  # fmt: skip
        VolumeDirectory(self.mount).write({"stackstore.json": snapshot.to_bytes()})

    async def open(self):
        self.write()
        return await stackstore.open(self.config, credentials=self.mount)


@pytest.fixture
def pod(tmp_path):
    return Pod(tmp_path)


def completion(number: int, created: int | None = None) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{number}", "created": int(time.time()) if created is None else created,
        "model": "m", "choices": [], "usage": {"total_tokens": number},
    }  # fmt: skip


async def until(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_every_store_of_the_run_config_works_beside_the_others(pod):
    async with await pod.open() as storage:
        with acting_as(ALICE):
            await storage.inference().store_chat_completion(completion(1), [{"role": "user"}])
            kept = await storage.inference().get_chat_completion("chatcmpl-1")
            assert kept["usage"] == {"total_tokens": 1}
            response = {"id": "resp_1", "created_at": 1, "model": "m", "output": []}
            await storage.responses().store_response_object(response, [], [])
            assert (await storage.responses().get_response_object("resp_1"))["model"] == "m"
            talk = await storage.conversations().create_conversation()
            assert await storage.conversations().get_conversation(talk["id"]) == talk
            prompt = await storage.prompts().create_prompt("Hello")
            assert (await storage.prompts().get_prompt(prompt["prompt_id"]))["version"] == 1
            batch = await storage.batches().create_batch(
                input_file_id="file-1", endpoint="/v1/chat/completions"
            )
            assert (await storage.batches().list_batches()).data == [batch]
            await storage.registry().register({"type": "model", "identifier": "llama"})
            assert await storage.registry().get("model", "llama") is not None
            assert (await storage.connectors().list_connectors()).data == []
            assert (await storage.vector_stores().list_vector_stores()).data == []
        assert storage.queues()["inference"].acknowledged == 1
        assert {store.name for store in storage.backends()} == {"kv_default", "sql_default"}


async def test_the_messages_of_a_conversation_go_with_it(pod):
    async with await pod.open() as storage:
        with acting_as(ALICE):
            talk = (await storage.conversations().create_conversation())["id"]
            await storage.responses().store_conversation_messages(talk, [{"role": "user"}])
            await storage.conversations().delete_conversation(talk)
            assert await storage.responses().get_conversation_messages(talk) is None


async def test_messages_that_come_after_a_conversations_end_are_refused(pod):
    """Or they would be there again, with nothing that they belong to."""
    async with await pod.open() as storage:
        with acting_as(ALICE):
            talk = (await storage.conversations().create_conversation())["id"]
            responses = storage.responses()
            await responses.store_conversation_messages(talk, [{"role": "user"}])
            await storage.conversations().delete_conversation(talk)
            with pytest.raises(NotFoundError, match=f"no conversation '{talk}'"):
                await responses.store_conversation_messages(talk, [{"role": "user"}])
            assert await responses.get_conversation_messages(talk) is None
            left = await storage.sql("inference").fetch_all("answers__parts")
            assert left.data == []


async def test_whose_a_conversation_is_makes_no_difference_to_its_messages(pod):
    """Two who may go on with one each keep what the model was told."""
    shared = [
        {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user in owners teams"}
    ]  # fmt: skip
    async with await pod.open() as storage:
        with acting_as(ALICE):
            talk = (await storage.conversations(shared).create_conversation())["id"]
        with acting_as(User("eve", {"teams": ["e"]})):
            await storage.responses(shared).store_conversation_messages(talk, [{"role": "user"}])
            assert await storage.responses(shared).get_conversation_messages(talk)


async def test_what_expires_goes_without_a_retention(pod, monkeypatch):
    monkeypatch.setattr(retention, "FIRST_SECONDS", 0.0)
    async with await pod.open() as storage:
        assert storage.retentions() == {}
        stores = storage.vector_stores()
        with acting_as(ALICE):
            await stores.create_vector_store({"id": "vs"})
            batch = await stores.create_file_batch("vs", ["f"])
            await storage.responses().list_responses()
        sql = storage.sql("vector_stores")
        # Not before its time.
        await until(lambda: swept(storage, "vectors__file_batches"))
        assert await sql.fetch_one("vectors__file_batches", {"id": batch["id"]})
        assert set(storage.retentions()) == {"vectors__file_batches", "answers__parts__freed"}
        assert {one.store for one in storage.retained()} == {"vector_stores", "responses"}


async def swept(storage, table) -> bool:
    return storage.retentions()[table].sweeps > 0


async def test_a_store_is_made_once_with_one_policy(pod):
    async with await pod.open() as storage:
        made = storage.prompts("strict", tenancy=Tenancy("multi"))
        assert storage.prompts("strict", tenancy=Tenancy("multi")) is made
        for policy, users in ((None, {}), ("strict", {}), ("strict", {"auth": False})):
            with pytest.raises(InvalidArgumentError, match="another policy or other users"):
                storage.prompts(policy, **users)
        with pytest.raises(InvalidArgumentError, match="policy"):
            storage.connectors("stricter")
        for users, told in (({"auth": None}, "auth is True or False"), ({"auth": 0}, "auth is True or False"),
                            ({"tenancy": "multi"}, "tenancy is a Tenancy")):  # fmt: skip
            for make in (storage.connectors, storage.registry):
                with pytest.raises(InvalidArgumentError, match=told):
                    make(**users)
        assert storage.connectors() is storage.connectors()


async def test_a_store_that_is_not_there_is_named(pod):
    pod.config.write_text(
        CONFIG.replace("    prompts: {backend: sql_default, table_name: prompts}\n", "")
    )
    async with await pod.open() as storage:
        with pytest.raises(
            InvalidArgumentError, match=r"store 'prompts' is not configured in .*config.yaml"
        ):
            storage.prompts()


async def test_without_responses_conversations_do_without(pod):
    start, end = CONFIG.index("  responses:\n"), CONFIG.index("  batches:\n")
    pod.config.write_text(CONFIG[:start] + CONFIG[end:])
    async with await pod.open() as storage:
        with acting_as(ALICE):
            talk = (await storage.conversations().create_conversation())["id"]
            await storage.conversations().delete_conversation(talk)
        with pytest.raises(InvalidArgumentError, match="'responses' is not configured"):
            storage.responses()


async def test_what_the_journal_holds_is_written_at_the_next_start(pod):
    pod.stores["inference"] = StoreSettings(
        durability=Durability(mode="Journal", path=str(pod.journal)), max_write_queue_size=7
    )
    pod.journal.mkdir()
    async with await pod.open() as storage:
        with acting_as(ALICE):
            await storage.inference().store_chat_completion(completion(1), [])
            assert list(pod.journal.glob("inference-*.journal"))
    assert list(pod.journal.glob("*.journal")) == [], "a clean end leaves none"
    async with await pod.open() as storage:
        with acting_as(ALICE):
            assert len((await storage.inference().list_chat_completions()).data) == 1


async def test_closing_writes_what_is_queued_and_says_what_it_could_not(pod):
    storage = await pod.open()
    with acting_as(ALICE):
        for number in range(500):
            await storage.inference().store_chat_completion(completion(number), [])
    left = await storage.close()
    assert left["inference"].count == 0
    async with await pod.open() as again:
        with acting_as(ALICE):
            page = await again.inference().list_chat_completions(limit=1000)
            assert len(page.data) == 500


async def test_retention_is_told_later_and_taken_back_without_a_restart(pod, monkeypatch, caplog):
    monkeypatch.setattr(retention, "FIRST_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    async with await pod.open() as storage:
        inference = storage.inference()

        async def ids() -> list[str]:
            with acting_as(ALICE):
                return [one["id"] for one in (await inference.list_chat_completions()).data]

        with acting_as(ALICE):
            await inference.store_chat_completion(completion(1, created=1000), [])
            await inference.store_chat_completion(completion(2), [])
        assert storage.retentions() == {}
        assert await ids() == ["chatcmpl-2", "chatcmpl-1"]
        pod.stores["inference"] = StoreSettings(retention_seconds=3600, num_writers=8)
        pod.stores["prompts"] = StoreSettings(retention_seconds=7)
        pod.stores["promtps"] = StoreSettings(retention_seconds=7)
        pod.providers["responses/builtin/persistence.responses"] = StoreSettings(
            retention_seconds=60
        )
        pod.write()

        async def only_the_new_one() -> bool:
            return await ids() == ["chatcmpl-2"]

        await until(only_the_new_one)
        assert set(storage.retentions()) == {
            "completions", "answers", "answers__conversation_messages", "answers__memory_records",
        }  # fmt: skip
        assert storage.retentions()["completions"].deleted == 1
        assert "num_writers changed, which takes effect at the next start" in caplog.text
        # Told when it is new, not with each snapshot.
        pod.stores["inference"] = StoreSettings(retention_seconds=7200, num_writers=8)
        pod.write()

        async def followed() -> bool:
            return storage.retentions()["completions"].seconds == 7200

        await until(followed)
        assert caplog.text.count("store 'prompts': this release keeps its rows") == 1
        assert caplog.text.count("store 'promtps': the snapshot has settings for it") == 1
        pod.stores.clear()
        pod.write()

        async def kept() -> bool:
            return storage.retentions()["completions"].seconds is None

        await until(kept)
        assert storage.retentions()["answers"].seconds == 60


async def test_each_process_is_seen_in_the_databases_it_uses(pod):
    async with await pod.open() as storage:
        database = storage._databases["sql_default"]
        with acting_as(ALICE):
            await storage.prompts().create_prompt("Hello")

        async def seen() -> bool:
            return len(await living(database, "9d2e41b0c7aa")) == 1

        await until(seen)


async def test_without_a_snapshot_a_database_gets_no_table_of_instances(pod, tmp_path):
    environ = {
        "KV_DEFAULT_PATH": str(tmp_path / "a.db"),
        "SQL_DEFAULT_PATH": str(tmp_path / "b.db"),
    }
    async with await stackstore.open(pod.config, environ=environ) as storage:
        with acting_as(ALICE):
            await storage.prompts().create_prompt("Hello")
    with contextlib.closing(sqlite3.connect(tmp_path / "b.db")) as file:
        tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    assert "stackstore_prompts" in tables
    assert "stackstore_instances" not in tables
