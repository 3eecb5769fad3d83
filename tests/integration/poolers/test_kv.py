"""KVStore, through pgbouncer."""

from tests.integration.essence.kv import *  # noqa: F403
