"""The write queue, through pgbouncer."""

from tests.integration.essence.queue import *  # noqa: F403
