"""What SqlStore asks of a server."""
# ruff: noqa: F401 - tests and fixtures, for who imports all of it

import pytest

from tests.integration.sql.conftest import place, postgres_place, store
from tests.integration.sql.test_pages import (
    test_a_cursor_carries_every_type,
    test_any_table_in_any_order_in_any_pages,
    test_p4_null_in_the_order_column,
)
from tests.integration.sql.test_rows import (
    rows,
    test_a_cancelled_transaction_leaves_nothing,
    test_a_failure_in_a_transaction_undoes_it_even_when_it_is_swallowed,
    test_a_transaction_is_all_or_nothing,
    test_compare_and_set,
    test_delete_many_is_all_or_nothing,
    test_insert_do_nothing,
    test_insert_is_all_or_nothing,
    test_json_is_kept_as_it_is,
    test_sixteen_writers_at_once,
    test_update_and_delete,
    test_upsert,
    test_whatever_goes_in_comes_out,
    test_where,
)
from tests.integration.sql.test_tables import (
    test_a_rotation_to_an_empty_database,
    test_a_table_that_went_is_made_again,
    test_indexes,
    test_missing_columns_are_added,
    test_ten_processes_on_an_empty_database,
)


@pytest.fixture
def engine(postgres):
    return "postgresql", postgres
