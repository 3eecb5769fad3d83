"""AuthorizedSqlStore, through pgbouncer."""

from tests.integration.essence.access import *  # noqa: F403
