"""What KVStore asks of a server."""
# ruff: noqa: F401, F811 - tests and fixtures, for who imports all of it

import pytest

from tests.integration.kv.conftest import on_postgres, store, until
from tests.integration.kv.test_concurrency import (
    test_k11_processes_count_and_append_together,
    test_n3_sixty_first_gets_at_once_give_no_error,
    test_several_are_seen_all_or_none,
    test_ten_processes_begin_at_once_on_an_empty_database,
)
from tests.integration.kv.test_interface import (
    test_a_value_of_a_megabyte,
    test_expired_rows_are_hidden_everywhere,
    test_increment_keeps_an_expiration_and_set_removes_it,
    test_k11_compare_and_set,
    test_k11_increment,
    test_ranges_are_half_open_ordered_and_limited,
    test_several_are_read_and_written_at_once,
)
from tests.integration.kv.test_sweep import (
    patient,
    test_expired_rows_are_deleted_an_hour_later_and_others_are_not,
    test_one_process_sweeps_at_a_time,
)


@pytest.fixture
def place(on_postgres):
    return on_postgres
