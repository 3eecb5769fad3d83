"""Stacks on one table of one database are told, and nothing else happens to them."""

from __future__ import annotations

import json
import time

from tests.support.operator import (
    DEFAULTS,
    Api,
    binding,
    postgres_backend,
    sql,
    sqlite_backend,
    until,
)


def fill(api: Api, database: str) -> None:
    backend = postgres_backend()
    backend["spec"]["postgres"]["database"] = database
    api.secret("pg-app", username=api.namespace, password="x")
    api.apply(sqlite_backend(), backend)


def stack(name: str, table: str) -> dict:
    stores = [
        sql(s, place=f"{name.replace('-', '_')}_{s}")
        for s in ("conversations", "prompts", "connectors")
    ]
    return binding(name, name, [sql("inference", place=table), *stores], defaults=DEFAULTS)


def test_a_table_that_another_stack_uses_is_told_by_name_or_by_count(api, other):
    # A database of this test alone: others in this API server use the usual one.
    database = f"d{api.namespace}"
    fill(api, database)
    fill(other, database)
    api.apply(stack("one", "rows"))
    api.ready("one", seconds=30)
    api.wait("StoreBinding", "one", "Exclusive", "True", "Exclusive", seconds=30)
    api.apply(stack("two", "ROWS"), stack("apart", "own"))
    # The older one is told as well.
    message = api.wait("StoreBinding", "one", "Exclusive", "False", "TableShared", seconds=30)
    assert "table 'rows': stack 'two'" in message
    message = api.wait("StoreBinding", "two", "Exclusive", "False", "TableShared", seconds=30)
    assert "table 'ROWS': stack 'one'" in message
    api.wait("StoreBinding", "apart", "Exclusive", "True", "Exclusive", seconds=30)
    other.apply(stack("far", "rows"))
    message = other.wait("StoreBinding", "far", "Exclusive", "False", "TableShared", seconds=30)
    assert "table 'rows': 2 stacks of other namespaces" in message
    until(
        lambda: (
            "stack 'two' and 1 stack of other namespaces"
            in api.condition("StoreBinding", "one", "Exclusive")[2]
        ),
        30,
    )
    for made, stranger, names in ((api, other, ("one", "two", "apart")), (other, api, ("far",))):
        for name in names:
            made.ready(name)
            status = json.dumps(made.get("StoreBinding", name)["status"])
            assert stranger.namespace not in status
    # All is said; nobody writes any more.
    before = [
        b["metadata"]["resourceVersion"] for made in (api, other) for b in made.list("StoreBinding")
    ]
    time.sleep(1.5)
    assert before == [
        b["metadata"]["resourceVersion"] for made in (api, other) for b in made.list("StoreBinding")
    ]
    other.delete("StoreBinding", "far")
    api.delete("StoreBinding", "two")
    api.wait("StoreBinding", "one", "Exclusive", "True", "Exclusive", seconds=30)
