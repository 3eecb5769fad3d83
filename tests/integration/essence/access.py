"""What AuthorizedSqlStore asks of a server."""
# ruff: noqa: F401 - tests and fixtures, for who imports all of it

import pytest

from tests.integration.access.conftest import authorized
from tests.integration.access.test_processes import (
    test_a15_upserts_of_rivals_never_mix_owner_and_content,
    test_who_is_new_in_another_process_counts_at_once,
)
from tests.integration.access.test_rows import (
    test_a1_an_upsert_over_anothers_row_is_refused_and_tells_nothing,
    test_a9_n6_one_id_of_two_users_and_of_two_tenants,
    test_a11_pages_are_full_whatever_the_policy_is,
    test_n4_tenancy_is_turned_on_and_off_and_no_row_is_lost_or_shown,
    test_of_several_rows_of_an_id_ones_own_goes_first_then_the_newest,
    test_resource_patterns_speak_of_ids_whatever_their_type_is,
    test_update_and_delete_touch_only_what_they_may,
)
from tests.integration.sql.conftest import place, postgres_place


@pytest.fixture
def engine(postgres):
    return "postgresql", postgres
