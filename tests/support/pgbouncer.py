"""A real pgbouncer before a real Postgres: temporary, on loopback, as strict as it can be."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import PostgresServer, die_with_parent, free_port

BINARY = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")


class Pgbouncer:
    """One pgbouncer. `start()` makes it; `stop()` ends it and removes its files.

    By default it asks the database for passwords (`auth_query`), so whoever has a role there is let
    in.

    Attributes:
        users: whom it knows by itself, with their passwords; written by `reload()`.
    """

    host = "127.0.0.1"

    def __init__(self, server: PostgresServer, mode: str, settings: Mapping[str, str]) -> None:
        self.server = server
        self.port = free_port()
        self.users: dict[str, str] = {server.superuser: server.password}
        self._settings = {
            "listen_addr": self.host,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "pool_mode": mode,
            # A transaction never goes where the one before went, if there is another place.
            "server_round_robin": "1",
            "auth_type": "scram-sha-256",
            "auth_user": server.superuser,
            "max_client_conn": "500",
            "default_pool_size": "20",
            # Nothing that it doesn't track is let through.
            "ignore_startup_parameters": "",
            **settings,
        }
        self._directory = Path(tempfile.mkdtemp(prefix="ssb-"))
        self._directory.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None
        self._written = 0

    @classmethod
    def start(
        cls, server: PostgresServer, mode: str, settings: Mapping[str, str] | None = None
    ) -> Pgbouncer:
        """Start one before a server, in `session` or `transaction` mode.

        Args:
            server: where it leads, whatever database is asked for.
            mode: its `pool_mode`.
            settings: of its `[pgbouncer]`, beside and instead of those above.
        """
        pgbouncer = cls(server, mode, settings or {})
        try:
            pgbouncer._write()
            pgbouncer.start_process()
        except BaseException:
            pgbouncer.stop()
            raise
        return pgbouncer

    @staticmethod
    def version() -> tuple[int, ...]:
        """The program's."""
        told = subprocess.run(
            [str(BINARY), "--version"], capture_output=True, text=True, check=True
        )
        return tuple(int(part) for part in told.stdout.split()[1].split(".")[:2])

    async def reload(self) -> None:
        """Let those in who are in `users` now."""
        assert self._process is not None
        read = self.log().count("re-reading config")
        self._write()
        self._process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(5):
            while self.log().count("re-reading config") == read:
                await asyncio.sleep(0.02)

    def stop_process(self) -> None:
        """End it at once, with every connection through it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def stop(self) -> None:
        """End it and remove its files."""
        self.stop_process()
        shutil.rmtree(self._directory, ignore_errors=True)

    def log(self) -> str:
        """What it wrote."""
        return (self._directory / "log").read_text(errors="replace")

    def _write(self) -> None:
        lines = ["[databases]", f"* = host={self.server.host} port={self.server.port}"]
        lines += ["[pgbouncer]", f"auth_file = {self._directory / 'users'}"]
        lines += [f"{name} = {value}" for name, value in self._settings.items()]
        self._written += 1
        # It reads again what has another size, or another time in seconds.
        users = ";" * self._written + "\n"
        users += "".join(f'"{name}" "{password}"\n' for name, password in self.users.items())
        for name, content in (("ini", "\n".join(lines) + "\n"), ("users", users)):
            # In one step: it may read at any time.
            new = self._directory / f"{name}.new"
            new.write_text(content)
            new.chmod(0o600)
            self.server.own(new)
            new.rename(self._directory / name)

    def start_process(self) -> None:
        """Start it (again) on the same port, and wait until it listens."""
        assert BINARY is not None
        command = self.server._command(BINARY, self._directory / "ini")
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, preexec_fn=die_with_parent, cwd="/"
            )
        deadline = time.monotonic() + 15
        while "process up" not in self.log():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pgbouncer did not start:\n{self.log()}")
            time.sleep(0.02)


class PooledServer:
    """A Postgres as those see it who come through a pooler; for everything else it is itself.

    Attributes:
        pooler: what to say of it in a snapshot.
    """

    def __init__(self, pgbouncer: Pgbouncer, pooler: str) -> None:
        self.host = pgbouncer.host
        self.port = pgbouncer.port
        self.pooler = pooler
        self.pgbouncer = pgbouncer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pgbouncer.server, name)


def need_pgbouncer() -> None:
    """Leave the test out where there is none; `.ci/run` installs it."""
    if BINARY is None:
        pytest.skip(
            "there is no pgbouncer on this machine (Debian: apt-get install pgbouncer), so nothing is "
            "tried through one"
        )


def pooled(server: PostgresServer, pooler: str) -> Iterator[PooledServer]:
    """For fixtures: a pgbouncer before a server, as the mode of a snapshot has it."""
    need_pgbouncer()
    pgbouncer = Pgbouncer.start(server, pooler.lower())
    yield PooledServer(pgbouncer, pooler)
    pgbouncer.stop()
