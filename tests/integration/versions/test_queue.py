"""The write queue, on the oldest Postgres that the machine has."""

from tests.integration.essence.queue import *  # noqa: F403
