"""A journal's file: acknowledged records on a volume until they are in the database.

It is a SQLite file in WAL mode with synchronous=FULL: a commit returns when the disk has it. One
process has it, by a lock on a file beside it (`flock`: it ends with the process, however that
ends). Everything here blocks; `stackstore.stores.queue.journal` has it run on a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stackstore.errors import BackendUnavailableError, InvalidArgumentError
from stackstore.stores.queue.records import Record

BUSY_TIMEOUT_MILLISECONDS = 5_000
_APPLICATION_ID = 0x53_53_4A_4C
"""Marks the file as ours ("SSJL")."""
_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9_]{1,63}")


class Kept(NamedTuple):
    """A record as a journal has it.

    Attributes:
        head: shard, identity, user and whether it deletes, as JSON: it escapes what SQLite's text
            can't hold.
        size: the record's.
        payload: the sink's bytes.
    """

    head: str
    size: int
    payload: bytes

    @classmethod
    def of(cls, record: Record, dumped: bytes) -> Kept:
        """Write a record down."""
        head = json.dumps([record.shard, record.identity, record.user, record.deletes])
        return cls(head, record.size, dumped)

    def record(self, payload: Any) -> Record:
        """The way back, with the payload that the sink made of its bytes."""
        shard, identity, user, deletes = json.loads(self.head)
        return Record(shard, tuple(identity), user, self.size, payload, deletes)


class JournalFile:
    """One journal, locked by this process.

    Attributes:
        id: its name in marks.
        path: where it is.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.id = path.stem.rpartition("-")[2]
        self._lock = lock
        self._connection: sqlite3.Connection | None = None
        self._last = 0

    def open(self) -> None:
        """Open it, or make it.

        Raises:
            BackendUnavailableError: it can't be, with the path and what to do.
        """
        failure: BackendUnavailableError
        try:
            # Whole rows are in it: for this user alone, and the files that SQLite makes beside it too.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, cached_statements=16
            )
            self._connection = connection
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(
                    "BEGIN IMMEDIATE;"
                    # AUTOINCREMENT: a number is never used again, or a mark would cover a new record.
                    "CREATE TABLE IF NOT EXISTS records (sequence INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "head TEXT NOT NULL, size INTEGER NOT NULL, payload BLOB NOT NULL);"
                    f"PRAGMA application_id = {_APPLICATION_ID};"
                    f"PRAGMA user_version = {_VERSION};"
                    "COMMIT;"
                )
            elif version > _VERSION:
                raise sqlite3.NotSupportedError
            found = connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'records'"
            ).fetchone()
            self._last = found[0] if found else 0
        except (sqlite3.Error, OSError) as error:
            failure = trouble(self.path, error)
        else:
            return
        self.close()
        raise failure

    def records(self) -> list[tuple[int, Kept]]:
        """All that is in it, in order.

        Raises:
            BackendUnavailableError: it can't be read.
        """
        failure: BackendUnavailableError
        try:
            rows = self._open.execute(
                "SELECT sequence, head, size, payload FROM records ORDER BY sequence"
            )
            return [(row[0], Kept(*row[1:])) for row in rows]
        except (sqlite3.Error, OSError) as error:
            failure = trouble(self.path, error)
        raise failure

    def commit(self, records: Sequence[Kept], forgotten: Iterable[int]) -> int:
        """Add records and remove others, in one transaction, on the disk when this returns.

        Returns:
            The number of the first one added; the others follow it.

        Raises:
            BackendUnavailableError: nothing was added or removed.
        """
        failure: BackendUnavailableError
        connection = self._open
        first = self._last + 1
        rows = [(number, *record) for number, record in enumerate(records, first)]
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "DELETE FROM records WHERE sequence = ?", [(number,) for number in forgotten]
            )
            connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            failure = trouble(self.path, error)
        else:
            self._last += len(rows)
            return first
        with contextlib.suppress(sqlite3.Error):
            # Some errors have ended the transaction already.
            connection.rollback()
        raise failure

    def close(self) -> None:
        """Close it and let go of the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """Close it and remove it: everything that was in it is in the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        # The lock's file last, and while it is still held: who sees the journal sees it locked.
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        _lock_path(self.path).unlink(missing_ok=True)
        self.close()

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise BackendUnavailableError(f"journal {self.path}: it is closed")
        return self._connection


def adopt(directory: Path, name: str) -> tuple[list[JournalFile], JournalFile]:
    """Take over what processes that are gone left behind, and begin a journal.

    Args:
        directory: where journals are; made if it isn't there.
        name: of the queue; only journals of that name are taken.

    Returns:
        The journals taken over, oldest first, and a new one; all open and locked.

    Raises:
        BackendUnavailableError: the directory or one of the journals can't be used. What was
            acknowledged is in there, so it is not passed over.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            "a queue's name is up to 63 letters, digits and _, for its journal's files are called so"
        )
    failure: BackendUnavailableError
    taken: list[JournalFile] = []
    try:
        # Not its parents: where a volume isn't mounted, the journal would be on the container's own disk.
        directory.mkdir(mode=0o700, exist_ok=True)
        ordinal = 1
        for path in sorted(directory.glob(f"{name}-*.journal")):
            ordinal = int(path.stem.split("-")[1]) + 1
            lock = _locked(path, new=False)
            if lock is None:
                continue
            taken.append(JournalFile(path, lock))
            taken[-1].open()
        path = directory / f"{name}-{ordinal:012d}-{uuid.uuid4().hex}.journal"
        lock = _locked(path, new=True)
        assert lock is not None  # noqa: S101 - nobody else knows its name
        own = JournalFile(path, lock)
        taken.append(own)
        own.open()
    except BackendUnavailableError as error:
        failure = error
    except (OSError, ValueError, IndexError) as error:
        failure = trouble(directory, error)
    else:
        return taken[:-1], own
    for journal in taken:
        journal.close()
    raise failure


def trouble(path: Path, error: Exception) -> BackendUnavailableError:
    """What is wrong with a journal, and what to do."""
    if isinstance(error, OSError):
        why = f"{error.strerror}; the directory must be writable by this process"
    elif isinstance(error, sqlite3.NotSupportedError):
        why = "a newer release wrote it; run that one until it is empty"
    elif isinstance(error, sqlite3.Error):
        code = str(getattr(error, "sqlite_errorname", None) or type(error).__name__)
        why = next(
            (text for prefix, text in _REASONS.items() if code.startswith(prefix)),
            "SQLite can't use it",
        )
        why = f"{why} ({code})"
    else:
        why = f"it holds what no journal holds ({type(error).__name__}); {_AWAY}"
    return BackendUnavailableError(f"journal {path}: {why}")


_AWAY = "move it away to go on without what it holds"
_REASONS = {
    "SQLITE_FULL": "the disk is full; make room",
    "SQLITE_BUSY": "another program keeps it locked; end that one",
    "SQLITE_LOCKED": "another program keeps it locked; end that one",
    "SQLITE_READONLY": "it is read-only; it and its directory must be writable by this process",
    "SQLITE_CANTOPEN": "it can't be opened; it and its directory must be writable by this process",
    "SQLITE_PERM": "it and its directory must be writable by this process",
    "SQLITE_NOTADB": f"it is no SQLite file; {_AWAY}",
    "SQLITE_CORRUPT": f"it is damaged; {_AWAY}",
    "SQLITE_IOERR": "the disk fails",
}


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _locked(path: Path, *, new: bool) -> int | None:
    """Lock a journal; None: it is another process's, or gone."""
    lock = _lock_path(path)
    number = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its owner may have removed it between the look at the directory and the lock.
        if new or path.exists():
            return number
        lock.unlink(missing_ok=True)
    except BlockingIOError:
        pass
    except BaseException:
        os.close(number)
        raise
    os.close(number)
    return None
