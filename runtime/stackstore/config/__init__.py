"""The run config: read, checked whole, and resolved; knows nothing of connections."""

from stackstore.config.loader import load
from stackstore.config.model import ProviderReference, RunConfig, StoreConfig
from stackstore.config.problems import InvalidConfigError, Problem

__all__ = [
    "InvalidConfigError",
    "Problem",
    "ProviderReference",
    "RunConfig",
    "StoreConfig",
    "load",
]
