"""KVStore, on the oldest Postgres that the machine has."""

from tests.integration.essence.kv import *  # noqa: F403
