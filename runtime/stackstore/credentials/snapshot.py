"""`stackstore.json`: everything about a stack's storage that may change without a restart.

The operator writes it into one key of one Secret, the runtime reads it from the mounted file. This
is the one model of it; both sides use it, so they can't disagree about its shape.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from stackstore.errors import ConfigError

TlsMode = Literal["Disable", "Allow", "Prefer", "Require", "VerifyCA", "VerifyFull"]
Pooler = Literal["None", "Session", "Transaction"]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$|^$")]

MAX_PREVIOUS = 3
"""How many earlier logins a snapshot carries; two quick changes leave any of them the working one."""


class _Part(BaseModel):
    # Unknown keys are let through: an operator one release ahead of a pod may add some.
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )


class Login(_Part):
    """One way into a database: where it is, as whom, and with what password."""

    revision: Revision = ""
    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    database: str = Field(min_length=1)
    username: str = Field(min_length=1)
    password: SecretStr | None = None


class PreviousLogin(Login):
    """A login that was current before; `usable_until` is in epoch seconds and only a hint."""

    usable_until: int = Field(ge=0)

    def as_login(self) -> Login:
        """The same login without its date, comparable with a current one."""
        return Login(**{name: getattr(self, name) for name in Login.model_fields})


class Tls(_Part):
    """How the connection is protected; `ca` is PEM text."""

    mode: TlsMode = "Prefer"
    ca: str | None = None


class PoolSettings(_Part):
    """Bounds of one process's pool; the times are in seconds."""

    size: int = Field(default=10, ge=1)
    max_overflow: int = Field(default=20, ge=0)
    recycle_seconds: int = Field(default=3600, ge=-1)
    acquire_timeout_seconds: int = Field(default=30, ge=1)


class PostgresBackend(_Part):
    """A Postgres database as a stack sees it."""

    type: Literal["kv_postgres", "sql_postgres"]
    current: Login
    previous: tuple[PreviousLogin, ...] = Field(default=(), max_length=MAX_PREVIOUS)
    tls: Tls = Tls()
    pooler: Pooler = "None"
    pool: PoolSettings = PoolSettings()
    statement_timeout_seconds: int | None = Field(default=None, ge=1)


class SqliteBackend(_Part):
    """A SQLite file as a stack sees it."""

    type: Literal["kv_sqlite", "sql_sqlite"]
    path: str = Field(min_length=1)


class Durability(_Part):
    """Where acknowledged rows wait until they are written; `path` is a journal's directory."""

    mode: Literal["Memory", "Journal"] = "Memory"
    path: str | None = None

    @model_validator(mode="after")
    def _place(self) -> Self:
        if self.mode == "Journal" and not (self.path or "").startswith("/"):
            raise PydanticCustomError(
                "journal", "with mode 'Journal', `path` is the absolute path of its directory"
            )
        return self


class StoreSettings(_Part):
    """What one store was given beside its place."""

    max_write_queue_size: int | None = Field(default=None, ge=1)
    num_writers: int | None = Field(default=None, ge=1)
    retention_seconds: int | None = Field(default=None, ge=1)
    durability: Durability | None = None


Backend = Annotated[PostgresBackend | SqliteBackend, Field(discriminator="type")]


class Snapshot(_Part):
    """One state of all backends of a stack, taken whole or not at all.

    Attributes:
        stores: what stores were given, by their names; those that were given nothing are left out.
        providers: the same of what providers keep for themselves, by `provider_key`.
    """

    version: Literal[1] = 1
    stack_id: str = Field(pattern=r"^[0-9a-f]{12}$")
    revision: Revision
    backends: dict[str, Backend]
    stores: dict[str, StoreSettings] = {}
    providers: dict[str, StoreSettings] = {}

    @classmethod
    def parse(cls, content: bytes, source: str) -> Snapshot:
        """Read a snapshot.

        Args:
            content: the file's bytes, JSON in UTF-8.
            source: what to call it in an error.

        Raises:
            ConfigError: with every problem and its place, and none of the values.
        """
        # Raised after, not within: the decoders' own errors hold the document, passwords included,
        # and would stay with ours as its context.
        problems: list[str]
        try:
            return cls.model_validate(json.loads(content.decode("utf-8")))
        except ValidationError as error:
            problems = [
                f"{source}: {'.'.join(map(str, problem['loc'])) or 'top level'}: {_said(problem)}"
                for problem in error.errors(include_input=False, include_url=False)
            ]
        except (ValueError, RecursionError):
            problems = [f"{source}: not JSON in UTF-8"]
        # Nor shall a logger find it that shows the locals of each frame.
        del content
        raise ConfigError("\n".join(problems))

    def to_bytes(self) -> bytes:
        """The same snapshot always gives the same bytes: sorted keys, absent values left out."""
        data = self.model_dump(by_alias=True, exclude_none=True)
        return json.dumps(data, sort_keys=True, indent=1, default=_reveal).encode()


def provider_key(api: str, provider_id: str, field: str) -> str:
    """What names one reference of a provider in a snapshot; `field` is dotted."""
    return f"{api}/{provider_id}/{field}"


def _reveal(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    raise TypeError(type(value).__name__)


def _said(problem: ErrorDetails) -> str:
    if problem["type"] == "union_tag_invalid":
        # The one text that quotes what was read.
        return f"unknown type; allowed: {problem['ctx']['expected_tags']}"
    return problem["msg"]
