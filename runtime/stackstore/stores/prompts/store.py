"""The store of prompts: templates in versions, one of which is each prompt's default."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from stackstore.access import Action, AuthorizedSqlStore, AuthorizedTransaction
from stackstore.errors import InvalidArgumentError, NotFoundError
from stackstore.sql.names import derived
from stackstore.sql.tables import Row
from stackstore.stores.clock import microseconds
from stackstore.stores.documents import text
from stackstore.stores.ids import minted
from stackstore.stores.listing import MAX_PAGE, Listing, check, window
from stackstore.stores.prompts import rows as made
from stackstore.stores.tables import StoreTables
from stackstore.stores.wholes import holding, key, refusal


class PromptsStore:
    """Prompts, as documents of the server's API.

    Their fields are `prompt_id`, `prompt`, `version`, `variables` and `is_default`.

    A prompt's row says which version is the default, and has a copy of it; so there is exactly one at
    any time. Versions are parts of their prompt, whoever added them. A policy speaks of prompts: who
    may read one reads all its versions, who may update it adds some and chooses the default.

    Every method raises, besides what it says itself:
        AccessDeniedError: there is no user, or he may not do this with what he may read.
        BackendUnavailableError: the database can't do it now.

    Args:
        store: where the tables are, and who may see which rows.
        table_name: the name of the prompts' table; the versions' one ends in `__versions`.
    """

    def __init__(self, store: AuthorizedSqlStore, table_name: str) -> None:
        self._table = table_name
        self._versions = derived(table_name, "versions")
        self._tables = StoreTables(store, made.definitions(self._table, self._versions))

    async def create_prompt(
        self, prompt: str, *, variables: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Make a prompt, and return its first version, which is the default.

        Args:
            prompt: the template; a variable in it is `{{ name }}`.
            variables: the names of all variables, used or not.

        Raises:
            InvalidArgumentError: an argument isn't possible, or a variable isn't named.
        """
        data = made.template(prompt, variables)
        now = microseconds()
        row = {
            "id": minted("pmpt"),
            "created_at": now // 1_000_000,
            "sequence": now,
            "uid": secrets.token_hex(16),
            "version": 1,
            "latest": 1,
            "prompt_data": text("a prompt", data),
        }
        store = await self._tables.ready()
        async with store.transaction() as rows:
            await rows.insert(self._table, row)
            await self._add(rows, row, 1)
        return made.shown_version({**row, "prompt_data": data}, row)

    async def get_prompt(self, prompt_id: str, *, version: int | None = None) -> dict[str, Any]:
        """A version of a prompt.

        Args:
            prompt_id: of which.
            version: which; None: the default.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        if version is not None:
            made.check_version(version)
        row = await self._row(prompt_id)
        if version is None:
            return made.shown_version(row, row)
        store = await self._tables.ready()
        where = {"prompt": row["uid"], "version": version}
        found = await store.unguarded.fetch_one(self._versions, where)
        if found is None:
            raise made.no_version(version, prompt_id)
        return made.shown_version(found, row)

    async def list_prompts(
        self,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: str = "desc",
        cursor: str | None = None,
    ) -> Listing:
        """The default versions of the prompts that the user may see.

        Args:
            after: the last prompt's id of the page before.
            limit: most prompts, at least 1; None: as many as a page can have, 1,000.
            order: "desc" the newest prompt first, or "asc".
            cursor: instead of `after`, the page before's `next_cursor`.

        Raises:
            NotFoundError: the prompt of `after` isn't there, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        store = await self._tables.ready()
        page = await window(
            store,
            self._table,
            ["sequence"],
            order=order,
            limit=MAX_PAGE if limit is None else limit,
            after=after,
            cursor=cursor,
        )
        data = [made.shown_version(row, row) for row in page.data]
        return Listing.of(
            data, has_more=page.has_more, next_cursor=page.next_cursor, id="prompt_id"
        )

    async def list_prompt_versions(
        self,
        prompt_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
        order: str = "asc",
        cursor: str | None = None,
    ) -> Listing:
        """The versions of a prompt.

        Args:
            prompt_id: whose.
            after: the last version of the page before.
            limit: most versions, at least 1; None: as many as a page can have, 1,000.
            order: "asc" the first one first, or "desc".
            cursor: instead of `after`, the page before's `next_cursor`.

        Raises:
            NotFoundError: there is no such prompt or version, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        limit = MAX_PAGE if limit is None else limit
        check(limit, order)
        if after is not None:
            made.check_version(after)
        row = await self._row(prompt_id)
        store = await self._tables.ready()
        key_of_last = None if after is None else {"prompt": row["uid"], "version": after}
        try:
            page = await window(
                store.unguarded,
                self._versions,
                ["version"],
                where={"prompt": row["uid"]},
                order=order,
                limit=limit,
                after=key_of_last,
                cursor=cursor,
            )
        except NotFoundError:
            page = None
        if page is None or not page.data:
            # Deleted meanwhile, it had no version either.
            await self._row(prompt_id)
        if page is None:
            raise made.no_version(after or 0, prompt_id)
        data = [made.shown_version(found, row) for found in page.data]
        return Listing.of(
            data, has_more=page.has_more, next_cursor=page.next_cursor, id="prompt_id"
        )

    async def update_prompt(
        self,
        prompt_id: str,
        prompt: str,
        version: int,
        *,
        variables: Sequence[str] | None = None,
        set_as_default: bool = True,
    ) -> dict[str, Any]:
        """Add a version to a prompt, and return it.

        Args:
            prompt_id: to which.
            prompt: the template.
            version: the latest one that the caller knows. If there was a newer one when the call began,
                it is refused: the caller wrote his without having seen it. Calls that run at the same
                time don't count as such, and each gets a number of its own. (Where they are of two
                processes, "at the same time" is as exact as their clocks.)
            variables: as in `create_prompt`; they aren't taken over from the version before.
            set_as_default: whether it becomes the default.

        Raises:
            NotFoundError: there is no such prompt, or the user may not see it.
            InvalidArgumentError: an argument isn't possible, or `version` isn't the latest one.
        """
        began = microseconds()
        data = made.template(prompt, variables)
        made.check_version(version)
        row = await self._row(prompt_id)
        store = await self._tables.ready()
        async with holding(store, self._table, row, made.no_prompt(prompt_id)) as (rows, whole):
            await self._check_base(rows, whole, version, began)
            number = whole["latest"] + 1
            new = {**whole, "version": number, "prompt_data": text("a prompt", data)}
            default = {name: new[name] for name in ("version", "prompt_data")}
            change = {"latest": number} | (default if set_as_default else {})
            await rows.update(self._table, change, key(whole))
            await self._add(rows, {**new, "sequence": microseconds()}, number)
        return made.shown_version({"version": number, "prompt_data": data}, {**whole, **change})

    async def set_default_version(self, prompt_id: str, version: int) -> dict[str, Any]:
        """Make a version of a prompt its default, and return it.

        Raises:
            NotFoundError: there is no such version or prompt, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        made.check_version(version)
        row = await self._row(prompt_id)
        store = await self._tables.ready()
        async with holding(store, self._table, row, made.no_prompt(prompt_id)) as (rows, whole):
            where = {"prompt": row["uid"], "version": version}
            found = await rows.unguarded.fetch_one(self._versions, where)
            if found is None:
                raise made.no_version(version, prompt_id)
            change = {name: found[name] for name in ("version", "prompt_data")}
            await rows.update(self._table, change, key(whole))
        return made.shown_version(change, {**whole, **change})

    async def delete_prompt(self, prompt_id: str) -> None:
        """Delete a prompt with all its versions.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            InvalidArgumentError: an argument isn't possible.
        """
        row = await self._row(prompt_id)
        store = await self._tables.ready()
        async with store.transaction() as rows:
            # First: it waits for whoever is adding, and from then on nobody can.
            deleted = await rows.delete(self._table, key(row))
            if deleted:
                await rows.unguarded.delete(self._versions, {"prompt": row["uid"]})
        if not deleted:
            raise await refusal(store, self._table, row, Action.DELETE, made.no_prompt(row["id"]))

    # -- inside

    async def _row(self, prompt_id: object) -> Row:
        if not isinstance(prompt_id, str):
            raise InvalidArgumentError(f"a prompt's id is a text, not a {type(prompt_id).__name__}")
        store = await self._tables.ready()
        row = await store.fetch_one(self._table, {"id": prompt_id})
        if row is None:
            raise made.no_prompt(prompt_id)
        return row

    async def _check_base(
        self, rows: AuthorizedTransaction, whole: Row, version: int, began: int
    ) -> None:
        latest = whole["latest"]
        if version < latest:
            where = {"prompt": whole["uid"], "version": version + 1}
            newer = await rows.unguarded.fetch_one(self._versions, where)
            if newer is not None and newer["sequence"] >= began:
                return
        if version != latest:
            raise InvalidArgumentError(
                f"version is the prompt's latest one, {latest}, not {version}; read it before you replace it"
            )

    async def _add(self, rows: AuthorizedTransaction, row: Row, version: int) -> None:
        await rows.unguarded.insert(
            self._versions,
            {
                "prompt": row["uid"],
                "version": version,
                "sequence": row["sequence"],
                "prompt_data": row["prompt_data"],
            },
        )
