"""Claims: who works on an unfinished record, so that after a crash another process goes on.

A record that has work left is due from a moment on: at once when it is new, and when the claim on
it ends. Whoever takes it writes a random token and a later moment into it, by compare-and-set, so of
several processes one has it. A worker whose claim another one took over is told so by its next write.

Moments are those of the processes' clocks; a claim should be much longer than they differ.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stackstore.access import AccessDeniedError, User
from stackstore.errors import ConflictError, InvalidArgumentError
from stackstore.sql import ColumnDefinition, ColumnType
from stackstore.sql.tables import Row
from stackstore.stores import clock
from stackstore.stores.listing import check
from stackstore.stores.tables import StoreTables

NEVER = 2**63 - 1
"""When a finished record is due."""

COLUMNS = {
    "claim": ColumnDefinition(ColumnType.STRING, nullable=False, default=""),
    "due": ColumnDefinition(ColumnType.INTEGER, nullable=False, default=NEVER),
}
"""What a table of such records has: the token of who works on it, and when it is due."""

INDEX = ["due"]
"""What it is found by."""

FINISHED = {"claim": "", "due": NEVER}
"""What a record has that needs no more work."""

WAITING = {"claim": "", "due": 0}
"""What a record has that nobody works on."""

MAX_SECONDS = 7 * 24 * 3600
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a record until a moment.

    Attributes:
        key: which record, as its store wants it.
        document: the record as it was when it was claimed.
        user: as whom to go on with it, with the attributes he had when he began it; None:
            authorization is off.
        until: when it ends, in seconds since 1970.
        token: proves it.
    """

    key: Mapping[str, Any]
    document: dict[str, Any]
    user: User | None
    until: float
    token: str = field(repr=False)


class Claims:
    """The claims on one table's records, whosever they are: for workers, which are no user.

    Args:
        tables: where the table is.
        table: its name.
        key: the columns that find one row of it.
        document: the column that has the document.
        user_of: as whom to go on with a row; raises AccessDeniedError where that is nobody.
    """

    def __init__(
        self,
        tables: StoreTables,
        table: str,
        key: Sequence[str],
        document: str,
        user_of: Callable[[Row], Awaitable[User | None]],
    ) -> None:
        self._tables = tables
        self._table = table
        self._key = tuple(key)
        self._document = document
        self._user_of = user_of

    async def unfinished(self, *, seconds: float = 60.0, limit: int = 100) -> list[Claim]:
        """Claim what nobody works on, after a crash or since it was made; the oldest first.

        Go on with each as its user: `with acting_as(claim.user): …`. What no user of this store may
        have (nobody's, or of a tenant that isn't there) is left alone.

        Args:
            seconds: how long the claims last; `renew` prolongs one.
            limit: most of them.

        Raises:
            InvalidArgumentError: an argument isn't possible.
            BackendUnavailableError: the database can't do it now.
        """
        check(limit, "asc")
        now = clock.microseconds()
        until = ending(seconds, now)
        found: list[Claim] = []
        async for row in self._due(now):
            try:
                found.append(await self.take(row, until))
            except (AccessDeniedError, ConflictError):
                continue
            if len(found) == limit:
                break
        return found

    async def renew(self, claim: Claim, *, seconds: float = 60.0) -> Claim:
        """Prolong a claim: so many seconds from now.

        Raises:
            ConflictError: another process has it, or the work has ended or is gone.
            InvalidArgumentError: a claim can't last for so long.
            BackendUnavailableError: the database can't do it now.
        """
        until = ending(seconds, clock.microseconds())
        await self._hold(claim, {"due": until})
        return replace(claim, until=until / 1e6)

    async def release(self, claim: Claim) -> None:
        """Give a claim up, so that another process may go on at once.

        Raises:
            ConflictError: another process has it, or the work has ended or is gone.
            BackendUnavailableError: the database can't do it now.
        """
        await self._hold(claim, WAITING)

    async def take(self, row: Row, until: int) -> Claim:
        """Claim a row that was read just now.

        Raises:
            AccessDeniedError: there is nobody as whom to go on.
            ConflictError: somebody was faster.
        """
        user = await self._user_of(row)
        rows = (await self._tables.ready()).unguarded
        key = {name: row[name] for name in self._key}
        token = secrets.token_hex(16)
        as_seen = {**key, "claim": row["claim"], "due": row["due"]}
        if not await rows.update(self._table, {"claim": token, "due": until}, as_seen):
            raise lost()
        return Claim(key, row[self._document], user, until / 1e6, token)

    async def _due(self, now: int) -> AsyncIterator[Row]:
        rows = (await self._tables.ready()).unguarded
        cursor: str | None = None
        while True:
            page = await rows.fetch_all(self._table, {"due": {"<=": now}}, "due", _AT_ONCE, cursor)
            for row in page.data:
                yield row
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _hold(self, claim: Claim, change: Mapping[str, Any]) -> None:
        rows = (await self._tables.ready()).unguarded
        held = {**claim.key, "claim": claim.token, "due": {"!=": NEVER}}
        if not await rows.update(self._table, change, held):
            raise lost()


def ending(seconds: object, now: int) -> int:
    """When a claim of so many seconds ends.

    Raises:
        InvalidArgumentError: it is no such number.
    """
    if (
        not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not 0 < seconds <= MAX_SECONDS
    ):
        raise InvalidArgumentError(
            f"a claim lasts for more than 0 and at most {MAX_SECONDS} seconds"
        )
    return now + int(seconds * 1_000_000)


def lost() -> ConflictError:
    """A claim that is somebody else's by now."""
    return ConflictError(
        "the claim is over: another process took the work over, or it is finished; stop working on it"
    )
