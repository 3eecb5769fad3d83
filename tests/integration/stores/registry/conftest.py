"""The registry over real key-value stores of both engines."""

from __future__ import annotations

import pytest

from stackstore.stores.metadata import MetadataStore
from tests.integration.kv.conftest import on_postgres, on_sqlite, place

__all__ = ["on_postgres", "on_sqlite", "place"]


@pytest.fixture
def registry(place):
    """Makes registries of one namespace; each call is as another process would have it."""

    def make(policy=None, *, namespace="registry", **settings):
        return MetadataStore(place.store(namespace), policy, **settings)

    return make
