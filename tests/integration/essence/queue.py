"""What the write queue asks of a server."""
# ruff: noqa: F401 - tests and fixtures, for who imports all of it

import pytest

from tests.integration.sql.conftest import place, postgres_place
from tests.integration.stores.conftest import use
from tests.integration.stores.test_queue import (
    test_a_mark_tells_a_retry_what_happened,
    test_a_value_that_is_impossible_is_set_aside_and_the_rest_is_written,
    test_deletes_of_many_rows_at_once,
    test_what_is_put_is_there_as_it_went_in,
    test_writes_and_deletes_of_a_row_keep_their_order,
)


@pytest.fixture
def engine(postgres):
    return "postgresql", postgres
