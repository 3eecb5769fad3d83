"""Wholes and their parts: rows of users' own, and what belongs to them in other tables.

A whole is a row with an owner and a random `uid`; its parts are keyed by that uid, which nobody
else knows (`TableDefinition.owned`). Whoever changes parts holds the whole meanwhile, so changes come
one after another, and what is deleted as a whole leaves no part.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from stackstore.access import AccessDeniedError, Action, AuthorizedSqlStore, AuthorizedTransaction
from stackstore.access.operations import AuthorizedOperations
from stackstore.access.writes import denied
from stackstore.errors import NotFoundError
from stackstore.sql.tables import Row


def key(whole: Row) -> dict[str, Any]:
    """What finds one row, also where several users have one of its id."""
    return {"id": whole["id"], "uid": whole["uid"]}


async def held(rows: AuthorizedTransaction, table: str, whole: Row) -> Row | None:
    """The row as it is now, and nobody else changes it until the transaction is over.

    Returns:
        The row with all its columns; None: it is gone, or the user may not change it.

    Raises:
        BackendUnavailableError: the database can't do it now.
    """
    # It changes nothing, but it waits for its turn, and asks the policy.
    if not await rows.update(table, {"uid": whole["uid"]}, key(whole)):
        return None
    return await rows.unguarded.fetch_one(table, key(whole))


@contextlib.asynccontextmanager
async def holding(
    store: AuthorizedSqlStore, table: str, whole: Row, missing: NotFoundError
) -> AsyncIterator[tuple[AuthorizedTransaction, Row]]:
    """A transaction that holds a row which was read, with the row as it is now; all or nothing.

    Args:
        store: where it is.
        table: in which table.
        whole: the row.
        missing: what to say if it is gone.

    Raises:
        NotFoundError: `missing`.
        AccessDeniedError: the user may not change it.
        BackendUnavailableError: the database can't do it now.
    """
    async with store.transaction() as rows:
        now = await held(rows, table, whole)
        if now is None:
            raise await refusal(rows, table, whole, Action.UPDATE, missing)
        yield rows, now


async def refusal(
    rows: AuthorizedOperations, table: str, whole: Row, action: Action, missing: NotFoundError
) -> AccessDeniedError | NotFoundError:
    """Why a row that was read could not be changed: it is gone meanwhile, or not the user's to.

    Raises:
        BackendUnavailableError: the database can't do it now.
    """
    still = await rows.fetch_one(table, key(whole))
    return missing if still is None else denied(table, action)
