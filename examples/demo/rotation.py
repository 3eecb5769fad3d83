"""One rotation: the Secret and the role, in either order, and what the connections did."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass

import asyncpg

from examples.demo.environment import Environment
from examples.demo.sampler import Sampler

GAP_SECONDS = 2.0
DONE_WITHIN_SECONDS = 20.0
AROUND_SECONDS = 2.0


@dataclass(frozen=True)
class Rotation:
    """What was seen; times are seconds of `time.monotonic()`.

    Attributes:
        secret_first: the Secret was changed before the role; else after it.
        secret_at: when `kubectl patch secret` was started; role_at: when the role had its password.
        swapped_at: when the file of the stack's volume was swapped.
        first_at: when the first connection with the new login was seen; None: never.
        last_at: when the last connection with an old one had been seen; None: there still is one.
        connections: most before, during and after.
        old_refused: the database refuses the old password.
    """

    secret_first: bool
    secret_at: float
    role_at: float
    swapped_at: float | None
    first_at: float | None
    last_at: float | None
    connections: tuple[int, int, int]
    old_refused: bool

    @property
    def order(self) -> str:
        """In words."""
        return "Secret, then role" if self.secret_first else "role, then Secret"

    @property
    def possible_at(self) -> float | None:
        """From when on the stack could log in anew: it has the password and so has the role."""
        return None if self.swapped_at is None else max(self.swapped_at, self.role_at)

    @property
    def complete(self) -> bool:
        """Every connection is on the new login, and the old one is worth nothing."""
        return self.first_at is not None and self.last_at is not None and self.old_refused

    def row(self) -> tuple[str, ...]:
        """For a table, beside `HEAD`."""
        before, during, after = self.connections
        return (
            self.order,
            _after(self.swapped_at, self.secret_at),
            _after(self.role_at, self.secret_at),
            _after(self.first_at, self.secret_at),
            _after(self.last_at, self.secret_at),
            f"{before} / {during} / {after}",
        )


HEAD = (
    "ROTATION",
    "FILE SWAPPED",
    "ROLE CHANGED",
    "FIRST NEW CONNECTION",
    "LAST OLD GONE",
    "CONNECTIONS BEFORE/DURING/AFTER",
)


def _after(at: float | None, start: float) -> str:
    return "never" if at is None else f"{at - start:+.2f} s"


def new_password() -> str:
    """One that is hard to carry: reserved in URIs, YAML, shells and SQL alike."""
    return f"p@ss/w:rd#1?%'\"{secrets.token_hex(8)}"


async def rotate(environment: Environment, sampler: Sampler, *, secret_first: bool) -> Rotation:
    """Change the password in both places, `GAP_SECONDS` apart, and wait until all is quiet."""
    old, new = environment.password, new_password()
    environment.passwords.add(new)
    known = sampler.samples.revisions()
    start = time.monotonic()
    if secret_first:
        secret_at = await _secret(environment, new)
        await asyncio.sleep(GAP_SECONDS)
        role_at = await _role(environment, new)
    else:
        role_at = await _role(environment, new)
        await asyncio.sleep(GAP_SECONDS)
        secret_at = await _secret(environment, new)
    environment.password = new
    samples = sampler.samples
    moved = await sampler.until(
        lambda seen: bool(seen.last.revisions) and not known & seen.last.revisions.keys(),
        DONE_WITHIN_SECONDS,
    )
    end = time.monotonic()
    await asyncio.sleep(AROUND_SECONDS)
    fresh = samples.revisions() - known
    # Earlier ones were of the rotation before: its previous login left when all had taken up the new.
    swapped = [at for at in environment.kubelet.swaps("chat-storage") if at >= secret_at]
    return Rotation(
        secret_first=secret_first,
        secret_at=secret_at,
        role_at=role_at,
        swapped_at=swapped[0] if swapped else None,
        first_at=min(map(samples.first, fresh), default=None),
        last_at=end if moved else None,
        connections=(
            samples.most(start - AROUND_SECONDS, start),
            samples.most(start, end),
            samples.most(end, time.monotonic()),
        ),
        old_refused=await _refused(environment, old),
    )


async def _secret(environment: Environment, password: str) -> float:
    at = time.monotonic()
    patch = json.dumps({"stringData": {"password": password}})
    # By standard input: a command line is shown to everyone by `ps`.
    await asyncio.to_thread(
        environment.kubectl, "patch", "secret", "pg-app", "--type=merge",
        "--patch-file=/dev/stdin", stdin=patch,
    )  # fmt: skip
    return at


async def _role(environment: Environment, password: str) -> float:
    await environment.postgres.set_password(environment.user, password)
    return time.monotonic()


async def _refused(environment: Environment, password: str) -> bool:
    server = environment.postgres
    try:
        connection = await asyncpg.connect(
            host=server.host, port=server.port, user=environment.user, password=password,
            database=environment.database, ssl=False, timeout=5,
        )  # fmt: skip
    except asyncpg.InvalidPasswordError:
        return True
    await connection.close()
    return False
