"""SqlStore, on the oldest Postgres that the machine has."""

from tests.integration.essence.sql import *  # noqa: F403
