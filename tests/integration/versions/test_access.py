"""AuthorizedSqlStore, on the oldest Postgres that the machine has."""

from tests.integration.essence.access import *  # noqa: F403
