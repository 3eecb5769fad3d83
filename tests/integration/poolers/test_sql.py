"""SqlStore, through pgbouncer."""

from tests.integration.essence.sql import *  # noqa: F403
