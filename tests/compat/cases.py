"""What is tried on the server's loader: stacks, and what each of them means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from stackstore.credentials.snapshot import (
    Login,
    PoolSettings,
    PostgresBackend,
    SqliteBackend,
    Tls,
)
from stackstore_operator.render.model import PlacedProvider, PlacedStore, ResolvedStack
from stackstore_operator.render.references import reference
from stackstore_operator.render.releases import NEWEST, Family, ProviderRule

PASSWORDS = {
    "digits": "1234567890",
    "a leading zero": "0123",
    "an exponent": "1e5",
    "underscored digits": "1_000",
    "true": "true",
    "null": "null",
    "nan": "nan",
    "specials": "p@ss/w:rd#1?%",
    "a percent code": "%41%2F",
    "a tilde": "~/secret",
    "a placeholder": "${env.HOME}",
    "quotes and blanks": """ '"\\ & = + ; , """,
    "brackets": "[x]{y}",
    "other scripts": "пароль-密码-🔑",
    "a line break": "one\ntwo",
    "200 characters": "x" * 200,
    "sqlite": "sqlite",
}
HOSTS = {
    "a name": "pg-rw.db.svc",
    "IPv4": "10.0.0.7",
    "IPv6": "2001:db8::7",
    "IPv6 with a zone": "fe80::1%eth0",
    "a socket's directory": "/var/run/postgresql",
    "localhost": "localhost",
}
MODES = ("Disable", "Require", "VerifyCA", "VerifyFull")
POOLS = {
    "the smallest": PoolSettings(size=1, max_overflow=0, recycle_seconds=-1),
    "a large one": PoolSettings(size=10_000, max_overflow=10_000, recycle_seconds=1_000_000_000),
}
SQLITE = SqliteBackend(type="kv_sqlite", path="/var/lib/stack/kv.db")


@dataclass(frozen=True)
class Case:
    """A stack to render.

    Attributes:
        environ: what the pod has beside the Secret.
        transparent: parts of providers' configs that must arrive as they are here.
    """

    name: str
    stack: ResolvedStack
    environ: Mapping[str, str]
    transparent: Mapping[str, Any]


def login(**changes: Any) -> Login:
    """A login; only what the case is about differs."""
    return Login(
        **{
            "revision": "3f9c2a1b",
            "host": "pg-rw.db.svc",
            "port": 5432,
            "database": "stack",
            "username": "app",
            "password": "secret",
            **changes,
        }
    )


def postgres(kind: str, **changes: Any) -> PostgresBackend:
    """A Postgres backend; the database's name keeps the two families apart."""
    return PostgresBackend(
        **{"type": kind, "current": login(), "tls": Tls(mode="Disable"), **changes}
    )


def backend(kind: str) -> PostgresBackend | SqliteBackend:
    """The plainest backend of a type."""
    if kind.endswith("_postgres"):
        return postgres(kind)
    return SqliteBackend(type=kind, path=f"/var/lib/stack/{kind}.db")  # type: ignore[arg-type]


def stack(
    kv: PostgresBackend | SqliteBackend = SQLITE,
    sql: PostgresBackend | SqliteBackend | None = None,
    **changes: Any,
) -> ResolvedStack:
    """A stack of two backends, with the required stores on them."""
    made = ResolvedStack(
        stack_id="0123456789ab",
        backends={"kv_default": kv, "sql_default": sql or backend("sql_sqlite")},
        stores=(),
        default_kv="kv_default",
        default_sql="sql_default",
    )
    return replace(made, **changes)


def cases(ca: str, ca_path: str) -> Iterator[Case]:
    """Every case; `ca` is PEM text, which also stands in the file `ca_path`."""
    yield from _stores()
    yield from _providers()
    yield from _connections(ca, ca_path)
    yield from _texts()


def _case(name: str, made: ResolvedStack, **more: Any) -> Case:
    return Case(name, made, more.get("environ", {}), more.get("transparent", {}))


def _stores() -> Iterator[Case]:
    for kv in ("kv_sqlite", "kv_postgres"):
        for sql in ("sql_sqlite", "sql_postgres"):
            made = stack(backend(kv), backend(sql))
            yield _case(f"the required stores on {kv} and {sql}", made)
            for name, rule in NEWEST.stores.items():
                place = f"own::{name}" if rule.family == "kv" else f"own_{name}"
                placed = PlacedStore(name, rule.family, f"{rule.family}_default", place)
                where = kv if rule.family == "kv" else sql
                yield _case(
                    f"store {name} on {where} beside {sql if where == kv else kv}",
                    replace(made, stores=(placed,)),
                )
                if rule.queued:
                    queued = replace(placed, max_write_queue_size=500, num_writers=2)
                    yield _case(
                        f"store {name} on {where} beside {kv}, its queue bounded",
                        replace(made, stores=(queued,)),
                    )
    three = {
        "kv_default": SQLITE,
        "sql_default": backend("sql_postgres"),
        "1st_db": postgres("sql_postgres", current=login(host="other.db.svc", password="42")),
    }
    bound = PlacedStore("inference", "sql", "1st_db", "inference_store")
    yield _case("a backend whose name begins with a digit", stack(backends=three, stores=(bound,)))


def _providers() -> Iterator[Case]:
    for (api, field), rule in NEWEST.providers.items():
        for kind in rule.types:
            for type_ in (f"{rule.family}_sqlite", f"{rule.family}_postgres"):
                kv = backend(type_ if rule.family == "kv" else "kv_sqlite")
                sql = backend(type_ if rule.family == "sql" else "sql_sqlite")
                base, rest = _base(api, kind, field)
                placed = PlacedProvider(
                    api, "it", field, rule.family, f"{rule.family}_default", _place(rule, api)
                )
                yield _case(
                    f"{api} {kind} {field} on {type_}",
                    stack(kv, sql, providers=(placed,), base_config=base),
                    transparent={f"{api}/it": rest},
                )


def _place(rule: ProviderRule, api: str) -> str:
    return f"{api}::it" if rule.family == "kv" else f"{api}_it"


_REST: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("files", "inline::localfs"): {"storage_dir": "/var/lib/stack/files"},
    ("files", "remote::openai"): {"api_key": "none"},
    ("files", "remote::s3"): {"bucket_name": "b"},
    ("inference", "remote::vertexai"): {"project": "p", "location": "l"},
    ("vector_io", "inline::chromadb"): {"db_path": "/c"},
    ("vector_io", "inline::milvus"): {"db_path": "/m"},
    ("vector_io", "inline::qdrant"): {"path": "/q"},
    ("vector_io", "inline::sqlite-vec"): {"db_path": "/s"},
    ("vector_io", "remote::chromadb"): {"url": "http://c"},
    ("vector_io", "remote::elasticsearch"): {"elasticsearch_url": "http://e"},
    ("vector_io", "remote::milvus"): {"uri": "http://m", "token": "t"},
    ("vector_io", "remote::neo4j"): {"uri": "bolt://n", "password": "p"},
    ("vector_io", "remote::oci"): {
        "conn_str": "c",
        "user": "u",
        "password": "p",
        "tnsnames_loc": "/t",
        "ewallet_pem_loc": "/w",
        "ewallet_password": "p",
    },
    ("vector_io", "remote::pgvector"): {"db": "d", "user": "u", "password": "p"},
    ("vector_io", "remote::qdrant"): {"url": "http://q"},
}
"""What a provider type requires beside its references."""


def _base(api: str, kind: str, bound: str) -> tuple[str, dict[str, Any]]:
    """A base config with that provider, its other required references written out."""
    rest = dict(_REST.get((api, kind), {}))
    config: dict[str, Any] = dict(rest)
    for (of, field), rule in NEWEST.providers.items():
        if of == api and kind in rule.required and field != bound:
            config[field] = reference(rule.family, f"{rule.family}_default", f"{of}::other")
    entry = {"provider_id": "it", "provider_type": kind, "config": config}
    return yaml.safe_dump({"distro_name": "it", "providers": {api: [entry]}}), rest


def _connections(ca: str, ca_path: str) -> Iterator[Case]:
    kinds: tuple[tuple[Family, str], ...] = (("kv", "kv_postgres"), ("sql", "sql_postgres"))
    for family, kind in kinds:

        def case(what: str, *, _of: Family = family, _kind: str = kind, **changes: Any) -> Case:
            environ = changes.pop("environ", {})
            made = stack(**{_of: postgres(_kind, **changes)})
            return _case(f"{_kind}: {what}", made, environ=environ)

        for name, text in PASSWORDS.items():
            yield case(f"password: {name}", current=login(password=text))
        yield case("no password", current=login(password=None))
        for name, host in HOSTS.items():
            yield case(f"host: {name}", current=login(host=host, port=6432))
        for name in ("specials", "digits", "other scripts"):
            text = PASSWORDS[name]
            yield case(f"user and database: {name}", current=login(username=text, database=text))
        for mode in MODES:
            # The server's driver knows no "those of the system".
            environ = {"PGSSLROOTCERT": ca_path} if mode.startswith("Verify") else {}
            yield case(f"TLS: {mode}", tls=Tls(mode=mode), environ=environ)
            yield case(f"TLS: {mode}, with a CA", tls=Tls(mode=mode, ca=ca))
        for name, pool in POOLS.items():
            yield case(f"pool: {name}", pool=pool)
        yield case("a statement timeout", statement_timeout_seconds=7)


def _texts() -> Iterator[Case]:
    """Texts that a careless writer of YAML would turn into something else."""
    texts = ["1e5", "0123", "yes", "no", "y", "null", "~", "2026-01-01", "1:30", "0x10", "", " ", "a: b",
             "# no", "line\nline\n", "- x", "${env.X:=a: b}", "'", '"', "é🔑", "tab\there", "x" * 300,
             "word " * 60, "{x}", "[x]", "!x", "&x", "*x", "%x", "@x", "`x", "|", ">", "=", "<<"]  # fmt: skip
    values = {f"t{index}": text for index, text in enumerate(texts)}
    rest = {"storage_dir": "/x", "texts": values, "numbers": [1, 1.5, -7, True, None]}
    base = {
        "distro_name": "0123",
        "providers": {
            "files": [{"provider_id": "it", "provider_type": "inline::localfs", "config": rest}]
        },
    }
    placed = PlacedProvider("files", "it", "metadata_store", "sql", "sql_default", "files_metadata")
    yield _case(
        "texts that look like something else",
        stack(providers=(placed,), base_config=yaml.safe_dump(base)),
        transparent={"files/it": {**rest, "texts": {**values, "t16": "a: b"}}},
    )


def expected(backend: PostgresBackend | SqliteBackend) -> dict[str, Any]:
    """What the server should make of a backend, in the words of `inside.py`."""
    if isinstance(backend, SqliteBackend):
        return {"type": backend.type, "db_path": backend.path}
    current, tls, pool = backend.current, backend.tls, backend.pool
    socket = current.host.startswith("/")
    path = f"{current.host}/.s.PGSQL.{current.port}"
    found: dict[str, Any] = {
        "type": backend.type,
        "pool_size": pool.size,
        "max_overflow": pool.max_overflow,
        "own_tls": [None, None],
        "connection": {
            "address": path if socket else [current.host, current.port],
            "user": current.username,
            "password": current.password.get_secret_value() if current.password else None,
            "database": current.database,
            "encrypted": tls.mode != "Disable",
            "checks_chain": tls.mode.startswith("Verify"),
            "checks_host": tls.mode == "VerifyFull",
            "authorities": 1 if tls.mode.startswith("Verify") else 0,
            "falls_back": False,
        },
    }
    if backend.type == "kv_postgres":
        found["command_timeout"] = float(backend.statement_timeout_seconds or 30)
    else:
        found["pool_recycle"] = pool.recycle_seconds
    return found
