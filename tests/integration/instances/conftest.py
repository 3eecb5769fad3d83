"""The same tests on both engines."""

from __future__ import annotations

import pytest

from tests.integration.instances.site import Site


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request):
    """Which engine, and on Postgres its database."""
    return request.param, (
        request.getfixturevalue("database") if request.param == "postgresql" else None
    )


@pytest.fixture
async def site(engine, tmp_path):
    dialect, database = engine
    site = Site(dialect, database, tmp_path / "a.db")
    yield site
    for process in site.processes:
        await process.close()


@pytest.fixture
async def postgres_site(database):
    site = Site("postgresql", database)
    yield site
    for process in site.processes:
        await process.close()
