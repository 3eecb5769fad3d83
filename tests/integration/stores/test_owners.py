"""Whose rows a queue writes and deletes, now, later, and in another database."""

import asyncio
import signal

import pytest

from stackstore.access import AccessDeniedError, Tenancy, User, acting_as
from stackstore.errors import InvalidArgumentError
from stackstore.stores.queue import Mark, TableSink, WriteQueue
from tests.integration.sql.conftest import on_postgres
from tests.integration.stores.conftest import locked, until
from tests.integration.stores.test_journal import crash
from tests.integration.stores.test_processes import Worker
from tests.integration.stores.worker import OWN, user

ADMIN = [{"permit": {"actions": "delete"}, "when": "user with admin in roles"}, *OWN]
TEAMS = [{"permit": {"actions": ["read", "delete"]}, "when": "user in owners roles"}, *OWN]


def now():
    return asyncio.get_running_loop().time()


async def test_one_id_of_two_tenants_and_of_two_users_is_a_row_each(place, use):
    each = await use(place, writers=1)
    writers = ["one/alice", "two/alice", "one/bob"]
    async with locked(place):
        for number, writer in enumerate(writers):
            await each.put("x", number, user=writer)
        await each.put("x", 7, user="two/alice")
    await each.flush()
    assert await each.owned() == {
        ("one", "alice", "x"): 0, ("two", "alice", "x"): 7, ("one", "bob", "x"): 2,
    }  # fmt: skip
    assert each.stats.folded == 1, "a duplicate of one's own"
    assert len({each.record({"id": "x"}, user=writer).shard for writer in writers}) == 1
    for number, writer in zip((0, 7, 2), writers, strict=True):
        with acting_as(user(writer)):
            found = await each.sink._tables.store.fetch_all("t")
            assert [row["n"] for row in found.data] == [number]


async def test_whoever_writes_his_row_again_replaces_his_attributes_too(place, use):
    each = await use(place, policy=TEAMS)
    await each.put("x", 1, user="alice:red")
    await each.flush()
    await each.put("x", 2, user="alice:blue")
    await each.flush()
    store = each.sink._tables.store
    assert list((await each.owned()).values()) == [2]
    with acting_as(user("bob:red")):
        assert await store.fetch_one("t") is None
    with acting_as(user("bob:blue")):
        assert (await store.fetch_one("t"))["n"] == 2


async def test_who_may_not_create_is_refused_at_once_and_without_the_database(place, use):
    rules = [{"permit": {"actions": "create", "resource": "sql_record::t::pub::*"}, "when": "user with writer in roles"}]  # fmt: skip
    each = await use(place, policy=rules)
    writer = "alice:writer"
    for name, who in (("x", writer), ("pub::x", "eve"), ("pub::x", "eve:reader")):
        with pytest.raises(AccessDeniedError, match="may not create such a row"):
            each.record({"id": name}, user=who)
    each.record({"id": "pub::x"}, user=writer)
    for call in (lambda: each.sink.upsert({"id": "pub::x"}), each.sink.person):
        with pytest.raises(AccessDeniedError, match="acting_as"):
            call()
    with pytest.raises(AccessDeniedError, match="acting_as"):
        await each.sink.deletion({"id": "pub::x"})
    with acting_as(User("alice")), pytest.raises(AccessDeniedError, match="no tenant"):
        each.sink.upsert({"id": "x"})


async def test_what_may_be_created_is_forgotten_of_those_that_asked_long_ago(
    place, use, monkeypatch
):
    monkeypatch.setattr("stackstore.access.deferred._MOST_KEPT", 3)
    monkeypatch.setattr("stackstore.access.access._MOST_KEPT", 3)
    rules = [{"permit": {"actions": "create"}, "when": "user with a in roles"}]
    each = await use(place, policy=rules)
    for number in range(20):
        each.record({"id": "x"}, user=f"u{number}:a")
        with pytest.raises(AccessDeniedError):
            each.record({"id": "x"}, user=f"u{number}:b")
    assert len(each.sink._deferred._creators) <= 3
    assert len(each.sink._deferred._access._askers) <= 3


async def test_authorization_off_is_nobodys(place, use):
    each = await use(place, access={"auth": False, "tenancy": None})
    await each.put("x", 1, user="alice")
    await each.put("x", 2, user="bob")
    await each.flush()
    assert await place.sql("SELECT id, n, owner_id, owner_key FROM @t") == [("x", 2, 0, 0)]
    assert each.person() == "[null,null]"
    await each.queue.put(await each.deletion("x"), now() + 5)
    await each.flush()
    assert await each.rows() == {}


async def test_who_deletes_whose_row(place, use):
    each = await use(place, policy=ADMIN)
    for writer in ("alice", "bob", "two/carol"):
        await each.put("x", user=writer)
    await each.flush()
    assert await each.deletion("x", user="eve") is None
    assert await each.deletion("other", user="alice") is None
    own = await each.deletion("x", user="alice")
    assert (own.identity, own.user, own.deletes) == (('["one","alice"]', "x"), '["one","alice"]', True)  # fmt: skip
    assert own.shard == each.record({"id": "x"}).shard
    # An admin has no row of that id; whose it is is not his, and he is waited for by his own name.
    other = await each.deletion("x", user="root:admin")
    assert other.identity[0] in {'["one","alice"]', '["one","bob"]'}
    assert other.user == '["one","root"]'
    await each.queue.put(own, now() + 5)
    await each.flush()
    assert set(await each.owned()) == {("one", "bob", "x"), ("two", "carol", "x")}
    await each.queue.put(await each.deletion("x", user="root:admin"), now() + 5)
    await each.flush()
    assert set(await each.owned()) == {("two", "carol", "x")}
    assert await each.deletion("x", user="root:admin") is None, "tenants are apart"
    with pytest.raises(InvalidArgumentError, match="has to be given"):
        await each.deletion(None, user="alice")


async def test_of_several_rows_of_others_the_one_that_reads_show_first_is_deleted(place, use):
    each = await use(place, policy=ADMIN)
    for number, writer in enumerate(("alice", "carol", "bob")):
        await each.put("x", [1, 3, 2][number], user=writer)
    await each.flush()
    sink = TableSink(each.sink._tables, "t", order_by=[("n", "desc")])
    with acting_as(user("root:admin")):
        record = await sink.deletion({"id": "x"})
    assert record.identity == ('["one","carol"]', "x")
    await each.put("x", 0, user="root")
    await each.flush()
    with acting_as(user("root:admin")):
        record = await sink.deletion({"id": "x"})
    assert record.identity == ('["one","root"]', "x"), "his own first"


async def test_a_delete_that_is_refused_by_then_does_nothing(place, use):
    """The row has another owner's attributes when the delete is written; its newest write stays."""
    each = await use(place, policy=TEAMS, writers=1)
    await each.put("x", 1, user="alice:red")
    await each.flush()
    record = await each.deletion("x", user="bob:red")
    assert record is not None
    async with locked(place):
        await each.put("x", 2, user="alice:blue")
        await each.queue.put(record, now() + 5)
    await each.flush()
    assert list((await each.owned()).values()) == [2]
    assert (each.stats.written, each.stats.dead_letters) == (3, 0)


async def test_a_delete_that_another_refused_one_follows_is_done(place, use):
    each = await use(place, policy=ADMIN, writers=1)
    await each.put("x", 1, user="alice")
    await each.flush()
    admins = await each.deletion("x", user="root:admin")
    # As if his rights had been taken between the two.
    eves = admins._replace(payload=each.record({"id": "x"}, user="root").payload[0])
    async with locked(place):
        await each.queue.put(admins, now() + 5)
        await each.queue.put(eves, now() + 5)
    await each.flush()
    assert await each.owned() == {}


async def test_a_write_after_somebody_elses_delete_stays(place, use):
    each = await use(place, policy=ADMIN, writers=1)
    await each.put("x", 1, user="alice")
    await each.flush()
    record = await each.deletion("x", user="root:admin")
    async with locked(place):
        await each.put("x", 2, user="alice")
        await each.queue.put(record, now() + 5)
        await each.put("x", 3, user="alice")
        await each.put("y", 4, user="alice")
        await each.queue.put(record, now() + 5)
    await each.flush()
    assert await each.owned() == {("one", "alice", "y"): 4}


async def test_each_deletes_as_himself_in_one_batch(place, use):
    """Many users' deletes in one transaction, and nothing else of them."""
    each = await use(place, policy=ADMIN, writers=1)
    for writer in range(9):
        for number in range(3):
            await each.put(f"{number}", user=f"u{writer}")
    await each.flush()
    async with locked(place):
        for writer in range(9):
            for number in range(3):
                await each.delete(f"{number}", user=f"u{writer}")
        await each.put("0", user="u3")
    await each.flush()
    assert set(await each.owned()) == {("one", "u3", "0")}


async def test_an_owner_that_is_new_to_the_database_gets_a_number(place, use):
    """Also when another process was there in between, with owners of its own."""
    first = await use(place)
    second = await use(place)
    await first.put("a", user="alice:red")
    await first.flush()
    for number in range(5):
        await second.put("b", number, user=f"bob:{number}")
        await second.flush()
    await first.put("c", user="carol")
    await first.put("d", user="alice:blue")
    await first.flush()
    assert set(await first.owned()) == {
        ("one", "alice", "a"), ("one", "bob", "b"), ("one", "carol", "c"), ("one", "alice", "d"),
    }  # fmt: skip
    # It knows nothing of bob's newest, and deletes his row all the same.
    admin = await use(place, policy=ADMIN)
    await second.put("b", 9, user="bob:9")
    await second.flush()
    await admin.queue.put(await admin.deletion("b", user="root:admin"), now() + 5)
    await admin.flush()
    assert ("one", "bob", "b") not in await first.owned()


async def test_the_database_became_another_one_meanwhile(place, use):
    """Set back, or moved: the same numbers mean other people there."""
    each = await use(place)
    for writer in ("alice", "bob"):
        await each.put("x", user=writer)
    await each.flush()
    await place.sql("DELETE FROM @owners")
    await place.sql("DELETE FROM @t")
    other = await use(place)
    for writer in ("eve", "bob", "alice"):
        await other.put("y", user=writer)
    await other.flush()
    for writer in ("alice", "bob"):
        await each.put("z", user=writer)
        await each.delete("y", user=writer)
    await each.flush()
    assert set(await each.owned()) == {
        ("one", "eve", "y"), ("one", "alice", "z"), ("one", "bob", "z"),
    }  # fmt: skip
    assert (each.stats.dead_letters, each.stats.retries) == (0, 0)


async def test_a_database_that_is_another_one_each_time_is_waited_for(place, use, monkeypatch):
    each = await use(place)
    await each.put("a")
    await each.flush()
    known = each.sink._deferred.stamps
    wrong = True

    async def stamps(owners):
        found = await known(owners)
        return found._replace(mark="another") if wrong else found

    monkeypatch.setattr(each.sink._deferred, "stamps", stamps)
    await each.put("b")
    await until(lambda: each.stats.retries > 0)
    assert "changes to another one" in each.stats.last_trouble
    wrong = False
    await each.flush()
    assert await each.rows() == {"a": 0, "b": 0}


def has_moved(pool):
    """Until the new login is proven, what is written goes where it went."""
    return pool.machine.proven is pool.machine.targets[0] and pool.status()["lent"] == 0


async def test_a_rotation_moves_the_name_to_a_fresh_database(postgres_place, use):
    """What waits is written there, its users and tables made anew."""
    each = await use(postgres_place)
    async for other in on_postgres(postgres_place.server):
        await postgres_place.server.run(
            f'GRANT ALL ON DATABASE "{other.address["database"]}" TO "{postgres_place.address["username"]}"'
        )
        await each.put("a", user="alice")
        await each.put("a", user="bob")
        await each.flush()
        async with locked(postgres_place):
            for number in range(20):
                await each.put(f"{number:02}", number, user="bob")
            postgres_place.move(postgres_place.pools[0], str(other.address["database"]))
        await until(lambda: has_moved(postgres_place.pools[0].pool))
        await each.put("last", user="carol")
        await each.flush()
        rows = await each.rows()
        assert "last" in rows
        assert ("one", "carol", "last") in await each.owned()
        assert {person for _, person, _ in await each.owned()} <= {"bob", "carol"}
        assert each.stats.dead_letters == 0
        for opened in postgres_place.pools:
            await opened.close()


async def test_a_journal_keeps_who_it_was(place, use, tmp_path):
    """Written by the next process, in a database that knows none of them."""
    first = await use(place, journal=tmp_path)
    await first.put("old", user="two/bob:red,blue")
    await first.flush()
    async with locked(place):
        await first.put("x", 1, user="one/alice:red")
        await first.put("x", 2, user="two/bob:red,blue")
        await first.put("x", 3, user="one/alice:blue")
        await crash(first)
    # What was under way when it died may have come through; a fresh database has none of it. The
    # owners first: who comes later than that finds that it is another one.
    for table in ("owners", "t", "queue_marks"):
        await place.sql(f"DELETE FROM @{table}")
    second = await use(place, journal=tmp_path, policy=TEAMS)
    assert await second.queue.wait_for('["one","alice"]', now() + 10)
    await second.flush()
    owned = await second.owned()
    assert (owned["one", "alice", "x"], owned["two", "bob", "x"]) == (3, 2)
    with acting_as(user("one/eve:blue")):
        assert (await second.sink._tables.store.fetch_one("t", {"id": "x"}))["n"] == 3


@pytest.mark.parametrize("policy", [ADMIN, OWN], ids=["as before", "another policy"])
async def test_a_delete_in_a_journal_is_looked_at_under_the_policy_of_then(
    place, use, tmp_path, policy
):
    first = await use(place, journal=tmp_path, policy=ADMIN)
    for writer in ("alice", "bob"):
        await first.put(f"{writer}'s", user=writer)
    await first.flush()
    others, own = await first.deletion("bob's", user="alice:admin"), await first.deletion("alice's", user="alice:admin")  # fmt: skip
    async with locked(place):
        for record in (others, own):
            await first.queue.put(record, now() + 5)
        await crash(first)
    # What was under way when it died may have come through; here it has not.
    await place.sql("DELETE FROM @t")
    await place.sql("DELETE FROM @queue_marks")
    again = await use(place)
    for writer in ("alice", "bob"):
        await again.put(f"{writer}'s", user=writer)
    await again.flush()
    second = await use(place, journal=tmp_path, policy=policy)
    await second.flush()
    assert set(await second.rows()) == (set() if policy is ADMIN else {"bob's"})
    assert second.stats.dead_letters == 0


@pytest.mark.parametrize(
    "access",
    [{"tenancy": Tenancy("multi")}, {"tenancy": Tenancy("disabled")}, {"tenancy": Tenancy("single", "two")}],
    ids=["auth on", "no tenants", "another tenant"],
)  # fmt: skip
async def test_a_delete_of_other_settings_does_nothing(place, use, tmp_path, access):
    """It was asked for in a tenant that isn't there any more, or when there was no authorization."""
    off = access["tenancy"].mode == "multi"
    before = {"auth": False, "tenancy": Tenancy("single", "one")} if off else {}
    each = await use(place, access=before)
    await each.put("x")
    await each.flush()
    record = await each.deletion("x")
    later = await use(place, access=access)
    assert await later.sink.write([record], Mark("q", 1, 0, 1)) is None
    assert await each.rows() == {"x": 0}
    assert await each.sink.write([record], Mark("p", 1, 0, 1)) is None
    assert await each.rows() == {}


async def test_a_delete_in_a_journal_is_written_by_another_process(place, use, tmp_path):
    """One that never saw the row, its owner or who deletes it."""
    journal = str(tmp_path / "journal")
    place.pool()
    before = await use(place, policy=ADMIN)
    for name in ("a", "b", "c"):
        await before.put(name, user="alice")
    await before.flush()
    async with locked(place):
        with Worker(place, journal=journal, policy=ADMIN, deletes=[["root:admin", "a"], ["alice", "b"]]) as worker:  # fmt: skip
            assert worker.hear() == {"started": 0}
            assert worker.hear() == {"deleted": 2}
            worker.end(signal.SIGKILL)
    with Worker(place, journal=journal, policy=ADMIN, drain=True) as worker:
        assert worker.hear() == {"started": 2}
        assert worker.hear() == {"drained": True}
        worker.end(signal.SIGTERM)
    assert set(await before.rows()) == {"c"}
    assert list((tmp_path / "journal").iterdir()) == []


async def test_a_row_that_waited_while_the_table_grew(place, use):
    from stackstore.sql import ColumnType

    each = await use(place, writers=1)
    store = each.sink._tables.store
    record = each.record({"id": "a", "n": 1})
    indexed = each.record({"id": "b", "n": 1})
    await store.create_index("t_n", "t", ["n"])
    assert each.record({"id": "a"}).payload[1] is record.payload[1]
    await store.add_column_if_not_exists("t", "extra", ColumnType.STRING, nullable=False, default="d")  # fmt: skip
    new = each.record({"id": "c", "extra": "e"})
    queue = WriteQueue(each.sink, name="other", writers=1)
    await queue.start()
    for one in (record, indexed, new):
        await queue.put(one, now() + 5)
    await queue.shutdown(10)
    found = {row[0]: row[1] for row in await place.sql("SELECT id, extra FROM @t")}
    assert found == {"a": "d", "b": "d", "c": "e"}
