"""A table of many rows and many owners, written in one go past the store's own way."""

from __future__ import annotations

from stackstore.access import AuthorizedSqlStore
from stackstore.access.owners import Owner, _digest
from stackstore.sql import ColumnDefinition, ColumnType

SCHEMA = {
    "id": ColumnDefinition(ColumnType.STRING, primary_key=True),
    "created": ColumnDefinition(ColumnType.INTEGER, nullable=False),
    "seen": ColumnDefinition(ColumnType.INTEGER),
    "body": ColumnDefinition(ColumnType.JSON),
}


async def crowd(sql, *, owners: int, rows: int, body=None) -> None:
    """Owner n is u<n> of team t<n mod 250> and role r<n mod 10>; ten are of project "closed".

    The rows of role r3 are older than all others. Two thirds of `seen` are NULL.
    """
    store = AuthorizedSqlStore(sql, auth=False)
    await store.create_table("t", SCHEMA)
    await store.create_index("t_created", "t", ["created"])
    await store.create_index("t_seen", "t", ["seen"])
    made = []
    for n in range(1, owners + 1):
        attributes = {"teams": frozenset([f"t{n % 250}"]), "roles": frozenset([f"r{n % 10}"])}
        if n % (owners // 10) == 0:
            attributes["projects"] = frozenset(["closed"])
        owner = Owner(None, f"u{n}", attributes)
        made.append(
            {
                "owner_id": n,
                "digest": _digest(owner.identity),
                "person": _digest(owner.person),
                "owner_key": n,
                "mark": f"mark{n}",
                "identity": owner.identity,
            }
        )

    async def write(connection) -> None:
        await connection.execute(store._owners._table.core.insert(), made)

    await sql.run("t", write, writes=True, atomic=True)
    for start in range(0, rows, 50_000):
        await sql.insert(
            "t",
            [
                {
                    "owner_id": n * 7919 % owners + 1,
                    "id": f"{n:07}",
                    "created": n - (10_000_000 if (n * 7919 % owners + 1) % 10 == 3 else 0),
                    "seen": None if n % 3 else n // 50,
                    "body": body,
                }
                for n in range(start, min(start + 50_000, rows))
            ],
        )


READERS = {
    # name: (user's attributes, policy, how many of 5,000 owners)
    "one": ({}, [{"permit": {"actions": "read"}, "when": "user is owner"}], 1),
    "none": ({}, [{"forbid": {"actions": "read"}}], 0),
    "team": ({"teams": ["t1"]}, None, 20),
    "role": ({"roles": ["r1"]}, None, 500),
    "old": ({"roles": ["r3"]}, None, 500),
    "all": ({}, [{"permit": {"actions": "read"}}], 5000),
    "all but ten": (
        {"projects": ["closed"]},
        [{"permit": {"actions": "read"}, "when": "user not in owners projects"}],
        4990,
    ),
    "ten": (
        {"projects": ["closed"]},
        [{"forbid": {"actions": "read"}, "when": "user not in owners projects"}, {"permit": {"actions": "read"}}],
        10,
    ),
    "ids": (
        {"roles": ["r1"]},
        [
            {"permit": {"actions": "read", "resource": "sql_record::t::00*"}, "unless": "user is owner"},
            {"permit": {"actions": "read", "resource": "regex:.*[02468]$"}, "when": "user in owners roles"},
        ],
        500,
    ),
}  # fmt: skip
"""Who sees how many owners; the user is u1, or for whom it must see something u11."""
