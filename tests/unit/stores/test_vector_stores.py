"""What the documents of vector stores are filled with, and how they are counted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackstore.errors import ConflictError
from stackstore.stores.vector_stores import documents
from stackstore.stores.vector_stores.documents import STATUSES

FILES = st.builds(
    lambda name, status, usage: (name, {"status": status, "usage_bytes": usage}),
    st.sampled_from("abc"),
    st.sampled_from(STATUSES),
    st.integers(0, 9),
)


@given(st.lists(st.one_of(FILES, st.sampled_from("abc").map(lambda name: (name, None)))))
def test_counts_are_those_of_the_files(steps):
    store, files = documents.new_store("vs", {}, 0), {}
    for name, after in steps:
        store = documents.moved(store, files.get(name), after)
        files[name] = after
    there = [file for file in files.values() if file is not None]
    assert store["usage_bytes"] == sum(file["usage_bytes"] for file in there)
    assert store["file_counts"] == {
        **{status: sum(file["status"] == status for file in there) for status in STATUSES},
        "total": len(there),
    }


@pytest.mark.parametrize(("before", "after"), [*itertools.product(STATUSES, STATUSES)])
def test_a_batch_ends_once(before, after):
    batch = {"status": before}
    if before in ("in_progress", after):
        found = documents.changed("batch", batch, {"status": after})
        assert found == {"status": after}
    else:
        with pytest.raises(ConflictError, match=before):
            documents.changed("batch", batch, {"status": after})


@pytest.mark.parametrize(("before", "after"), [*itertools.product(STATUSES, STATUSES)])
def test_a_file_may_be_tried_again(before, after):
    file = {"status": before, "usage_bytes": 0}
    assert documents.changed("file", file, {"status": after})["status"] == after


def test_what_is_said_goes_before_what_is_filled_in():
    store = documents.new_store("vs", {"id": "x", "object": "x", "name": "n", "created_at": 3}, 9)
    assert (store["id"], store["object"], store["name"], store["created_at"]) == (
        "vs",
        "vector_store",
        "n",
        3,
    )
    there = {"created_at": 4}
    file = documents.new_file("vs", "f", {"id": "x", "vector_store_id": "x"}, there, 9)
    assert (file["id"], file["vector_store_id"], file["created_at"]) == ("f", "vs", 4)
    assert documents.new_file("vs", "f", {}, None, 9)["created_at"] == 9
