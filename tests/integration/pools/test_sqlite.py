"""SQLite files that are missing, locked, full, read-only or broken, and how that heals."""

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from stackstore.errors import BackendUnavailableError, StackstoreError
from stackstore.kv import KVStore
from stackstore.pools import sqlite
from stackstore.pools.sqlite import SqliteDatabase
from tests.support.nobody import as_nobody, public_directory

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
async def file(tmp_path):
    made = SqliteDatabase("kv_default", str(tmp_path / "data" / "kv.db"))
    yield made
    await made.close()


def path_of(database):
    return Path(database.path)


async def use(database) -> None:
    """Through both doors."""
    async with database.driver() as connection:
        assert list(await connection.execute_fetchall("SELECT 1")) == [(1,)]
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar() == 1


async def fails(database, match) -> str:
    with pytest.raises(BackendUnavailableError, match=match) as failure:
        await use(database)
    message = str(failure.value)
    assert "'kv_default'" in message
    assert database.path in message
    with pytest.raises(BackendUnavailableError, match=match):
        async with database.engine.connect():
            pass
    return message


async def test_the_file_and_its_directories_are_made(file):
    await use(file)
    async with file.driver() as connection:
        (mode,) = await connection.execute_fetchall("PRAGMA journal_mode")
    assert mode == ("wal",)
    assert path_of(file).exists()


async def test_a_file_stands_where_a_directory_should(file):
    path_of(file).parent.write_text("")
    await fails(file, "File exists|Not a directory|unable to open")
    path_of(file).parent.unlink()
    await use(file)


async def test_a_directory_stands_where_the_file_should(file):
    path_of(file).mkdir(parents=True)
    await fails(file, "unable to open")
    path_of(file).rmdir()
    await use(file)


async def test_no_right_to_write_there():
    with public_directory() as directory:
        directory.chmod(0o555)
        with as_nobody():
            await fails(SqliteDatabase("kv_default", str(directory / "kv.db")), "unable to open")
            await fails(SqliteDatabase("kv_default", str(directory / "a" / "kv.db")), "denied")
        directory.chmod(0o777)
        database = SqliteDatabase("kv_default", str(directory / "a" / "kv.db"))
        with as_nobody():
            await use(database)
            await database.close()


async def test_a_read_only_file():
    with public_directory() as directory:
        file = directory / "kv.db"
        database = SqliteDatabase("kv_default", str(file))
        made = sqlite3.connect(file)
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE t (a)")
        made.close()
        directory.chmod(0o555)
        file.chmod(0o444)
        with as_nobody():
            await fails(database, "unable to open|readonly")
        directory.chmod(0o777)
        file.chmod(0o666)
        with as_nobody():
            await use(database)
            await database.close()


@pytest.mark.parametrize("content", [b"this is not a database, and long enough to be seen as none"])
async def test_not_a_database(file, content):
    path_of(file).parent.mkdir()
    path_of(file).write_bytes(content * 100)
    await fails(file, "not a database")
    assert path_of(file).read_bytes() == content * 100, "it is left alone"
    path_of(file).unlink()
    await use(file)


async def test_removed_under_way(file):
    """What would go on in the removed file would be lost."""
    store = KVStore(file, "n")
    await store.set("k", "1")
    await use(file)
    shutil.rmtree(path_of(file).parent)
    await use(file)
    assert path_of(file).exists()
    await store.set("k", "2")
    async with file.engine.connect() as connection:
        found = await connection.execute(text("SELECT count(*) FROM stackstore_kv"))
        assert found.scalar() == 1


async def test_replaced_under_way(file, tmp_path):
    await use(file)
    other = tmp_path / "other.db"
    made = sqlite3.connect(other)
    made.execute("CREATE TABLE restored (a)")
    made.close()
    os.replace(other, path_of(file))
    for side in ("-wal", "-shm"):
        path_of(file).with_name("kv.db" + side).unlink(missing_ok=True)
    async with file.driver() as connection:
        assert list(await connection.execute_fetchall("SELECT * FROM restored")) == []
    async with file.engine.connect() as connection:
        assert (await connection.execute(text("SELECT * FROM restored"))).all() == []


async def test_locked_by_another_process_while_it_is_opened(file, monkeypatch):
    monkeypatch.setattr(sqlite, "_PRAGMAS", ("PRAGMA busy_timeout = 200", *sqlite._PRAGMAS[1:]))
    path_of(file).parent.mkdir()
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('CREATE TABLE t (a)'); c.execute('BEGIN EXCLUSIVE'); print('ready', flush=True)\n"
        "sys.stdin.readline()"
    )
    command = [sys.executable, "-c", program, file.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"ready\n"
        await fails(file, "locked")
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        holder.wait(5)
    await use(file)


async def test_the_disk_is_full(file):
    """By a limit on the size of this process's files: as with a full disk, no write goes through."""
    store = KVStore(file, "n")
    await store.set("before", "1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(StackstoreError) as failure:
            for number in range(100):
                await store.set(str(number), "x" * 50_000)
        assert isinstance(failure.value, BackendUnavailableError)
        assert "'kv_default'" in str(failure.value)
        assert await store.get("before") == "1"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await store.set("after", "x" * 500_000)
    assert len(await store.get("after")) == 500_000


async def test_the_database_may_not_grow(file):
    store = KVStore(file, "n")
    await store.set("before", "1")
    async with file.driver() as connection:
        await connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(BackendUnavailableError, match="'kv_default'"):
        await store.set("big", "x" * 500_000)
    async with file.driver() as connection:
        await connection.execute("PRAGMA max_page_count = 1000000")
    await store.set("big", "x" * 500_000)


async def test_a_second_loop_is_told(file):
    await use(file)

    async def elsewhere() -> None:
        for door in (file.driver, file.engine.connect):
            with pytest.raises(StackstoreError, match="another event loop"):
                async with door():
                    pass

    await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    await use(file)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_told(file):
    await use(file)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            file._check_owner()
        except StackstoreError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert b"forked after stackstore.open()" in os.read(reading, 4096)
    os.close(reading)
    await use(file)


async def test_in_memory_both_doors_lead_to_the_same():
    database = SqliteDatabase("kv_default", ":memory:")
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (a)"))
    async with database.driver() as connection:
        await connection.execute("INSERT INTO t VALUES (1)")
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT a FROM t"))).all() == [(1,)]
    await database.close()


async def test_closed_is_closed(file):
    await use(file)
    await file.close()
    with pytest.raises(BackendUnavailableError, match="closed"):
        await use(file)
    with pytest.raises(BackendUnavailableError, match="closed"):
        async with file.engine.connect():
            pass
