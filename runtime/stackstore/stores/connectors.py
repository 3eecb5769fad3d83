"""Connectors: servers of tools, from the configuration and from users."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from stackstore.access import AccessDeniedError, Action, AuthorizedSqlStore
from stackstore.errors import ConflictError, InvalidArgumentError, NotFoundError
from stackstore.sql.names import derived, shown
from stackstore.sql.tables import Row
from stackstore.stores.clock import microseconds
from stackstore.stores.documents import Document, plain, text
from stackstore.stores.ids import filled
from stackstore.stores.listing import Listing, check
from stackstore.stores.tables import JSON, NUMBER, TEXT, TEXT_KEY, StoreTables, TableDefinition
from stackstore.stores.wholes import key, refusal

_OPTIONAL = ("server_label", "server_name", "server_description", "server_version")
_FIELDS = ("connector_id", "connector_type", "url", *_OPTIONAL)


class ConnectorsStore:
    """Connectors, as documents of the server's API.

    Those of the configuration are the system's. They are in memory only: each process is told at
    its start, so there is nothing in the database that could be another tenant's, or stay behind
    when the configuration changes. Every user of every tenant sees them, as far as the policy
    permits what is unowned, and none can change them. Their ids are taken.

    The other ones are their users' rows. Ids are unique per tenant and principal.

    Every method but `register_configured` raises, besides what it says itself:
        AccessDeniedError: there is no user.
        BackendUnavailableError: the database can't do it now.

    Args:
        store: where the table is, and who may see which rows.
        table_name: its name.
    """

    def __init__(self, store: AuthorizedSqlStore, table_name: str) -> None:
        self._table = table_name
        self._configured: dict[str, dict[str, Any]] = {}
        self._tables = StoreTables(
            store,
            [
                TableDefinition(
                    table_name,
                    {
                        "id": TEXT_KEY,
                        "connector_type": TEXT,
                        # Microseconds; of several owners' of one id the newest is shown.
                        "sequence": NUMBER,
                        # Random: says which row, where several users have one of this id.
                        "uid": TEXT,
                        "connector_data": JSON,
                    },
                    {derived(table_name, "id"): ["id"]},
                )
            ],
        )

    def register_configured(self, connectors: Iterable[Document]) -> None:
        """Take over the configuration's connectors, all of them; those of before are forgotten.

        It needs no user and no database.

        Args:
            connectors: as the run config lists them, or as models.

        Raises:
            InvalidArgumentError: one of them isn't a connector, or two have one id.
        """
        found: dict[str, dict[str, Any]] = {}
        for given in connectors:
            document = _document(**_known(plain("a connector", given)))
            if document["connector_id"] in found:
                raise InvalidArgumentError(
                    f"there are two connectors {shown(document['connector_id'])} in the configuration"
                )
            found[document["connector_id"]] = document
        self._configured = found

    async def register_connector(
        self,
        connector_id: str,
        connector_type: str,
        url: str,
        *,
        server_label: str | None = None,
        server_name: str | None = None,
        server_description: str | None = None,
    ) -> dict[str, Any]:
        """Register a connector of the current user, or change his own of this id; returns it.

        Raises:
            ConflictError: the configuration has one of this id that says otherwise.
            AccessDeniedError: the user may not.
            InvalidArgumentError: an argument isn't possible.
        """
        document = _document(
            connector_id,
            connector_type,
            url,
            server_label=server_label,
            server_name=server_name,
            server_description=server_description,
        )
        store = await self._tables.ready()
        configured = self._visible().get(document["connector_id"])
        if configured is not None:
            if configured == document:
                return dict(configured)
            raise ConflictError(
                f"connector {shown(connector_id)} is the configuration's; choose another id"
            )
        await store.upsert(
            self._table,
            {
                "id": document["connector_id"],
                "connector_type": document["connector_type"],
                "sequence": microseconds(),
                "uid": secrets.token_hex(16),
                "connector_data": text("a connector", document),
            },
            ["id"],
            # The row stays the one that it is.
            ["connector_type", "connector_data"],
        )
        return document

    async def get_connector(self, connector_id: str) -> dict[str, Any]:
        """A connector: the configuration's, else one's own, else the newest that one may see.

        Raises:
            NotFoundError: there is none, or the user may not see it.
        """
        wanted = filled("connector_id", connector_id)
        if wanted in (configured := self._visible()):
            return dict(configured[wanted])
        return dict((await self._row(wanted))["connector_data"])

    async def list_connectors(self, *, after: str | None = None, limit: int = 100) -> Listing:
        """A page of the connectors that `get_connector` returns, by id.

        Args:
            after: an id behind which the page begins; it need not be there.
            limit: most connectors of the page, at least 1.

        Raises:
            InvalidArgumentError: an argument isn't possible.
        """
        check(limit, "asc")
        behind = "" if after is None else filled("after", after)
        configured = {name: one for name, one in self._visible().items() if name > behind}
        store = await self._tables.ready()
        own: dict[str, dict[str, Any]] = {}
        where, cursor, more = {"id": {">": behind}}, None, True
        # One more than fits: then all rows of those that do were seen.
        while more and len(own) <= limit:
            page = await store.fetch_all(self._table, where, "id", limit + 1, cursor)
            for row in page.data:
                if row["id"] not in configured:
                    # Of several owners' it is the one that a read finds.
                    found = await self._row(row["id"]) if row["id"] in own else row
                    own[row["id"]] = found["connector_data"]
            cursor, more = page.next_cursor, page.has_more
        names = sorted({*configured, *own})
        data = [dict(configured.get(name) or own[name]) for name in names[:limit]]
        first, last = (names[0], names[len(data) - 1]) if data else ("", "")
        return Listing(data, len(names) > limit, first, last)

    async def unregister_connector(self, connector_id: str) -> None:
        """Delete the connector that `get_connector` returns.

        Raises:
            NotFoundError: there is none, or the user may not see it.
            AccessDeniedError: it is the configuration's, or the user may not delete it.
        """
        wanted = filled("connector_id", connector_id)
        if wanted in self._visible():
            raise AccessDeniedError(
                f"connector {shown(wanted)} is the configuration's; take it out there"
            )
        store = await self._tables.ready()
        row = await self._row(wanted)
        if not await store.delete(self._table, key(row)):
            raise await refusal(store, self._table, row, Action.DELETE, _missing(wanted))

    # -- inside

    def _visible(self) -> Mapping[str, dict[str, Any]]:
        """The configuration's connectors that the current user may see."""
        may = self._tables.store.may_read_system(self._table)
        return {name: document for name, document in self._configured.items() if may(name)}

    async def _row(self, connector_id: str) -> Row:
        store = await self._tables.ready()
        row = await store.fetch_one(self._table, {"id": connector_id}, [("sequence", "desc")])
        if row is None:
            raise _missing(connector_id)
        return row


def _missing(connector_id: str) -> NotFoundError:
    return NotFoundError(f"there is no connector {shown(connector_id)}")


def _known(document: dict[str, Any]) -> dict[str, Any]:
    for name in document:
        if name not in _FIELDS:
            raise InvalidArgumentError(
                f"a connector has no {shown(name)}; there are {', '.join(_FIELDS)}"
            )
    missing = [name for name in ("connector_id", "url") if name not in document]
    if missing:
        raise InvalidArgumentError(f"a connector has no {missing[0]}; it needs one")
    return {"connector_type": "mcp", **document}


def _document(
    connector_id: object, connector_type: object, url: object, **optional: object
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "connector_id": filled("connector_id", connector_id),
        "connector_type": filled(
            "connector_type", getattr(connector_type, "value", connector_type)
        ),
        "url": filled("url", url),
    }
    for name in _OPTIONAL:
        value = optional.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidArgumentError(f"{name} of a connector is a text or None")
        document[name] = value
    return document
