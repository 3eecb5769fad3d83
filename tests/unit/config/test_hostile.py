"""Configs that are wrong, each with where and how that is said. None may speak of the canary."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from stackstore.config import InvalidConfigError, load
from tests.unit.config.samples import CANARY, SMALL, refused


@dataclass(frozen=True)
class Case:
    """`old` in the small config becomes `new`; without `old`, `new` is the whole file."""

    name: str
    path: str
    line: int
    fragment: str
    new: str | bytes
    old: str = ""
    environ: tuple[tuple[str, str], ...] = ()


KV = "{type: kv_sqlite, db_path: /data/kv.db}"
PG = f"""\
      type: sql_postgres
      host: db
      user: app
      password: {CANARY}
"""
META = "{backend: kv_default, namespace: registry}"
INFERENCE = "{backend: sql_default, table_name: inference_store}"
SQL = "storage.backends.sql_default"
URL = f"{SQL}.connection_string"


def url(value: str, name: str, fragment: str, path: str = URL, extra: str = "") -> Case:
    """A connection_string in place of the components."""
    new = f'      type: sql_postgres\n      connection_string: "{value}"\n{extra}'
    return Case(f"uri: {name}", path, 8, fragment, new, PG)


def metadata(new: str, name: str, leaf: str, fragment: str) -> Case:
    return Case(f"metadata: {name}", f"storage.stores.metadata{leaf}", 12, fragment, new, META)


def inference(new: str, name: str, leaf: str, fragment: str) -> Case:
    return Case(
        f"inference: {name}", f"storage.stores.inference{leaf}", 13, fragment, new, INFERENCE
    )


def kv(new: str, name: str, leaf: str, fragment: str) -> Case:
    return Case(f"kv: {name}", f"storage.backends.kv_default{leaf}", 5, fragment, new, KV)


def field(line: str, name: str, leaf: str, fragment: str) -> Case:
    """One more line in the Postgres backend."""
    return Case(
        f"field: {name}", f"{SQL}.{leaf}", 8, fragment, f"{line}\n      host: db", "host: db"
    )


def provider(text: str, name: str, path: str, fragment: str) -> Case:
    return Case(f"provider: {name}", path, 2, fragment, "providers: " + text, "providers: {}")


CASES = [
    # the file
    Case("empty", "", 0, "the file is empty", ""),
    Case("only comments", "", 0, "the file is empty", "# nothing\n"),
    Case("null", "", 1, "not a mapping", "null"),
    Case("a list", "", 1, "not a mapping", f"- {CANARY}"),
    Case("a word", "", 1, "not a mapping", CANARY),
    Case("a number", "", 1, "not a mapping", "42"),
    Case("two documents", "", 3, "not valid YAML", f"a: 1\nb: {CANARY}\n---\nc: 1\n"),
    Case("a tab", "", 2, "not valid YAML", f"a:\n\tb: {CANARY}\n"),
    Case("an open bracket", "", 2, "not valid YAML", f"a: [{CANARY}\n"),
    Case("an open quote", "", 2, "not valid YAML", f'a: "{CANARY}\n'),
    Case("bad indentation", "", 2, "not valid YAML", f"  a: 1\n b: {CANARY}\n"),
    Case("a colon in a value", "", 1, "not valid YAML", f"a: b: {CANARY}"),
    Case("JSON with a trailing word", "", 1, "not valid YAML", '{"a": 1} ' + CANARY),
    Case("an alias that is a password", "", 1, "not valid YAML", f"password: *{CANARY}"),
    Case("a tag that is a password", "password", 1, "tagged", f"password: !{CANARY} x"),
    Case("a tag that is a class", "a", 1, "tagged", f"a: !!python/object/apply:os.system [{CANARY}]"),
    Case("a value with a %", "", 1, "not valid YAML", f"password: %{CANARY}"),
    Case("a bare placeholder in braces", "", 1, "expected ',' or '}', but got '{'; ", "a: {b: ${env.X}}"),
    Case("a value with an @", "", 1, "not valid YAML", f"password: @{CANARY}"),
    Case("an anchor twice is fine, its alias in itself is not", "", 0, "contains the alias", "a: &x [*x]"),
    Case("a NUL", "", 2, "does not allow", f"a: 1\nb: \0{CANARY}"),
    Case("an escape", "", 2, "does not allow", f"a: 1\nb: \x1b[31m{CANARY}"),
    Case("a surrogate", "", 1, "not text in UTF-8", f"a: \ud800{CANARY}"),
    Case("Latin-1", "", 2, "not text in UTF-8", b"a: 1\nb: caf\xe9"),
    Case("UTF-16", "", 1, "not text in UTF-8", SMALL.encode("utf-16")),
    Case("binary", "", 2, "not text in UTF-8", bytes(range(256)) * 8),
    Case("an image", "", 1, "not text in UTF-8", b"\x89PNG\r\n\x1a\n\0\0\0"),
    Case("a broken escape", "", 1, "broken escape", f'a: "\\U00110000{CANARY}"'),
    Case("an escape beyond every number", "", 1, "broken escape", f'a: "\\U99999999{CANARY}"'),
    Case("deep nesting", "", 0, "nested too deeply", "a: " + "[" * 1500),
    Case("deep nesting in blocks", "", 0, "nested too deeply", "".join(" " * n + "a:\n" for n in range(1000))),
    Case("a bomb", "", 0, "once aliases are expanded",
         "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
             f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9))),
    Case("a bomb of merges", "", 0, "once aliases are expanded",
         "a: &a {k: v}\n" + "".join(
             f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{','.join(['*' + chr(97 + n)] * 9)}]}}\n" for n in range(9))),
    Case("too large", "", 0, "larger than", "#" * (1024 * 1024 + 1)),
    Case("a merge of a word", "", 1, "not valid YAML", f"a: {{<<: {CANARY}}}"),
    Case("a key twice", "distro_name", 2, "twice, first in line 1", f"distro_name: a\ndistro_name: {CANARY}"),
    Case("a key twice, deep", "storage.backends.kv_default.db_path", 5, "twice",
         "{type: kv_sqlite, db_path: /a, db_path: /b}", KV),
    Case("a key that is a list", "", 1, "a key here is not text", "? [a, b]\n: c"),
    Case("a key that is null", "", 1, "a key here is not text", "~: c"),
    Case("a date that is none", "a", 1, "looks, like what it is not", "a: 2020-13-45"),
    Case("an int that is none", "a", 1, "looks, like what it is not", f"a: !!int {CANARY}"),
    Case("a number of 5000 digits", "a", 1, "looks, like what it is not", "a: " + "9" * 5000),
    # the section
    Case("no storage", "storage", 1, "never falls back", "distro_name: x"),
    Case("a misspelt storage", "storage", 1, "is it misspelt as 'stroage'?", SMALL.replace("storage:", "stroage:")),
    Case("storage null", "storage", 1, "is empty", "storage:"),
    Case("storage a list", "storage", 1, "must be a mapping", f"storage: [{CANARY}]"),
    Case("storage a placeholder", "storage", 1, "must be a mapping", "storage: ${env.STORAGE}"),
    Case("storage empty", "storage.backends", 1, "never falls back", "storage: {}"),
    Case("no backends", "storage.backends", 1, "never falls back", "storage: {stores: {}}"),
    Case("backends null", "storage.backends", 2, "never falls back", "storage:\n  backends:\n"),
    Case("backends empty", "storage.backends", 1, "never falls back", "storage: {backends: {}}"),
    Case("backends a list", "storage.backends", 2, "must be a mapping",
         "storage:\n  backends: [{type: kv_sqlite, db_path: /x}]"),
    Case("an unknown key", "storage.backend", 4, "did you mean 'backends'?",
         "storage:\n  backend: {}\n", "storage:\n"),
    Case("stores null", "storage.stores", 2, "is empty",
         f"storage:\n  stores:\n  backends: {{a: {KV}}}"),
    Case("stores a list", "storage.stores", 2, "must be a mapping",
         f"storage:\n  stores: []\n  backends: {{a: {KV}}}"),
    # backends
    Case("a backend's name with blanks", "storage.backends.<key>", 5, "no name for a backend",
         f"? {CANARY} x\n    : {KV}", f"kv_default: {KV}"),
    Case("an empty name", "storage.backends.<key>", 5, "no name for a backend", '"": ', "kv_default: "),
    kv("null", "null", "", "is empty"),
    kv(CANARY, "a word", "", "must be a mapping"),
    kv("[]", "a list", "", "must be a mapping"),
    kv("{}", "no type", "", "has no type; allowed: kv_sqlite, sql_sqlite, kv_postgres, sql_postgres"),
    kv("{type: null}", "null type", ".type", "unknown type"),
    kv("{type: 7}", "numeric type", ".type", "unknown type"),
    kv("{type: [kv_sqlite]}", "type a list", ".type", "unknown type"),
    kv("{type: kv_sqlit, db_path: /x}", "misspelt type", ".type", "did you mean 'kv_sqlite'?"),
    kv("{type: KV-SQLITE, db_path: /x}", "shouted type", ".type", "did you mean 'kv_sqlite'?"),
    kv("{type: sql_mysql}", "foreign type", ".type", "unknown type 'sql_mysql'"),
    kv(f'{{type: "postgresql://u:{CANARY}@h/d"}}', "a URI for a type", ".type", "unknown type; allowed"),
    kv("{type: kv_redis, host: h}", "redis", ".type", "kv_redis is not supported by Stackstore"),
    kv("{type: kv_mongodb, host: h}", "mongodb", ".type", "kv_mongodb is not supported by Stackstore"),
    kv("{type: sqlite, db_path: /x}", "legacy type", ".type", "before 0.3"),
    kv('{type: "${env.NOPE}"}', "unset type", ".type", "NOPE is unset or empty"),
    kv("{type: kv_sqlite}", "no db_path", ".db_path", "is missing"),
    kv("{type: kv_sqlite, db_path: null}", "null db_path", ".db_path", "must be text"),
    kv("{type: kv_sqlite, db_path: 5}", "numeric db_path", ".db_path", "needs quotes"),
    kv('{type: kv_sqlite, db_path: ""}', "empty db_path", ".db_path", "must not be empty"),
    kv('{type: kv_sqlite, db_path: "${env.NOPE:=}"}', "db_path empty from env", ".db_path", "must be text"),
    kv("{type: kv_sqlite, db_path: /data/}", "db_path a directory", ".db_path", "ends like a directory"),
    kv("{type: kv_sqlite, db_path: 'file:x?mode=memory'}", "db_path a URI", ".db_path", "is a URI"),
    kv('{type: kv_sqlite, db_path: "a\\0b"}', "db_path with NUL", ".db_path", "control character"),
    kv('{type: kv_sqlite, db_path: "a\\ud800"}', "db_path with half a pair", ".db_path", "UTF-8 can hold"),
    kv("{type: kv_sqlite, dbpath: /x}", "misspelt db_path", ".dbpath", "did you mean 'db_path'?"),
    kv("{type: kv_sqlite, db_path: /x, namespace: n}", "namespace", ".namespace", "has no meaning here"),
    kv("{type: kv_sqlite, db_path: /x, host: h}", "host of a file", ".host", "unknown key"),
    kv("{type: kv_sqlite, db_path: /x, pool_pre_ping: true}", "pre_ping on kv", ".pool_pre_ping", "unknown key"),
    field("port: 0", "port 0", "port", "greater than or equal to 1"),
    field("port: 65536", "port too high", "port", "less than or equal to 65535"),
    field("port: abc", "port a word", "port", "valid integer"),
    field("port: true", "port true", "port", "not true or false"),
    field("port: 5432.5", "half a port", "port", "valid integer"),
    field("port: [5432]", "port a list", "port", "valid integer"),
    field("port: null", "port null", "port", "valid integer"),
    field("port: 9999999999999999999999", "port huge", "port", "less than or equal to 65535"),
    field("pool_size: 0", "pool 0", "pool_size", "greater than or equal to 1"),
    field("pool_size: -1", "pool -1", "pool_size", "greater than or equal to 1"),
    field("pool_size: 1000000", "pool huge", "pool_size", "less than or equal"),
    field("pool_size: .inf", "pool infinite", "pool_size", "finite"),
    field("max_overflow: -1", "overflow -1", "max_overflow", "greater than or equal to 0"),
    field("pool_recycle: -2", "recycle -2", "pool_recycle", "greater than or equal to -1"),
    field("pool_pre_ping: perhaps", "pre_ping perhaps", "pool_pre_ping", "valid boolean"),
    field("ssl_mode: verify_full", "ssl_mode misspelt", "ssl_mode", "did you mean 'verify-full'?"),
    field("ssl_mode: VerifyFull", "ssl_mode foreign", "ssl_mode", "allowed: disable, allow, prefer"),
    field("ssl_mode: no", "ssl_mode no", "ssl_mode", "unknown value"),
    field(f"ssl_mode: '{CANARY}!'", "ssl_mode a secret", "ssl_mode", "unknown value;"),
    field("ca_cert_path: /ca.crt", "CA without a mode", "ca_cert_path", "would not check it"),
    field("command_timeout: 5", "timeout of kv", "command_timeout", "unknown key"),
    field("table_name: t", "table of kv", "table_name", "unknown key"),
    field("db: 5", "numeric db", "db", "needs quotes"),
    field('db: ""', "empty db", "db", "must not be empty"),
    field(f'db: "x\\n{CANARY}"', "db with a line break", "db", "control character"),
    field("pasword: x", "misspelt password", "pasword", "did you mean 'password'?"),
    field("hots: x", "misspelt host", "hots", "did you mean 'host'?"),
    field(f"connection_string: postgresql://u:{CANARY}@h/d", "both ways", "connection_string",
          "excludes host, user, password"),
    Case("no user", SQL, 6, "neither a connection_string nor a user", "password: x", f"user: app\n      password: {CANARY}"),
    Case("an empty user", f"{SQL}.user", 9, "must not be empty", 'user: ""', "user: app"),
    Case("a numeric user", f"{SQL}.user", 9, "needs quotes", "user: 5", "user: app"),
    Case("a numeric password", f"{SQL}.password", 10, "needs quotes", "password: 8675309", f"password: {CANARY}"),
    Case("a password list", f"{SQL}.password", 10, "must be text", f"password: [{CANARY}]", f"password: {CANARY}"),
    Case("a password with a NUL", f"{SQL}.password", 10, "NUL", f'password: "\\0{CANARY}"', f"password: {CANARY}"),
    Case("an unset password", f"{SQL}.password", 10, "PW is unset or empty; set it, or give a default: ${env.PW:=…}",
         "password: ${env.PW}", f"password: {CANARY}"),
    Case("an empty password", f"{SQL}.password", 10, "PW is unset or empty",
         "password: ${env.PW}", f"password: {CANARY}", (("PW", ""),)),
    Case("a port from the environment", f"{SQL}.port", 8, "valid integer", "port: ${env.P}", "host: db", (("P", CANARY),)),
    Case("true from the environment", f"{SQL}.pool_size", 8, "not true or false",
         "pool_size: ${env.P}", "host: db", (("P", "true"),)),
    # connection_string
    url("", "empty", "not a Postgres URI"),
    url(CANARY, "a word", "not a Postgres URI"),
    url(f"host=h user=u password={CANARY}", "key=value", "holds a blank"),
    url(f"postgresql+asyncpg://u:{CANARY}@h/d", "a driver", "not a Postgres URI"),
    url(f"mysql://u:{CANARY}@h/d", "MySQL", "not a Postgres URI"),
    url(f"postgresql://u:{CANARY}@h/d\\n", "a line break", "ends with a line break"),
    url(f"postgresql://u:{CANARY}@h", "no database", "names no database"),
    url(f"postgresql://u:{CANARY}@h/", "an empty database", "names no database"),
    url(f"postgresql://u:{CANARY}@/d", "no host", "names no host"),
    url("postgresql:///d?host=/sock", "a socket option", "names no host"),
    url("postgresql://h/d", "no user", "names no user"),
    url(f"postgresql://:{CANARY}@h/d", "an empty user", "names no user"),
    url(f"postgresql://u:{CANARY}@h:0/d", "port 0", "1 to 65535"),
    url(f"postgresql://u:{CANARY}@h:99999/d", "port too high", "1 to 65535"),
    url(f"postgresql://u:{CANARY}@h:x/d", "port a word", "1 to 65535"),
    url(f"postgresql://u:{CANARY}@h1,h2/d", "two hosts", "several hosts"),
    url(f"postgresql://u:{CANARY}@2001:db8::1/d", "bare IPv6", "goes into brackets"),
    url(f"postgresql://u:{CANARY}@[2001:db8::zz]/d", "broken IPv6", "broken IPv6"),
    url(f"postgresql://u:{CANARY}@[::1/d", "open IPv6", "broken IPv6"),
    url(f"postgresql://u:{CANARY}@[::1]5432/d", "IPv6 without a colon", "broken IPv6"),
    url(f"postgresql://u:{CANARY}/x@h/d", "a raw slash", "percent-encode"),
    url(f"postgresql://u:12/{CANARY}@h/d", "a raw slash after digits", "percent-encode"),
    url(f"postgresql://u:{CANARY}#x@h/d", "a raw hash", "raw '#'"),
    url(f"postgresql://u:{CANARY}?x@h/d", "a raw question mark", "percent-encode"),
    url(f"postgresql://u:{CANARY}%@h/d", "a raw percent", "raw '%' in its password"),
    url(f"postgresql://u:{CANARY}%ff@h/d", "no UTF-8", "not UTF-8 once decoded"),
    url(f"postgresql://u:{CANARY}%00@h/d", "an encoded NUL", "has a NUL"),
    url(f"postgresql://u:{CANARY}@h/d/e", "a path", "raw '/'"),
    url("postgresql://u@h/d?sslmode=full", "sslmode", "allowed: disable, allow, prefer"),
    url("postgresql://u@h/d?sslmode=require&sslmode=disable", "sslmode twice", "twice"),
    url("postgresql://u@h/d?sslrootcert=", "an empty CA", "empty sslrootcert"),
    url("postgresql://u@h/d?sslrootcert=/ca", "a CA without a mode", "would not check it"),
    url("postgresql://u@h/d?sslmode=verify-full&sslrootcert=/nosuch/ca.crt", "a CA that isn't there",
        "not a readable PEM file"),
    url("postgresql://u@h/d?search_path=x", "an option", "the option 'search_path'"),
    url("postgresql://u@h/d?options=-c%20search_path%3Dx", "other options", "statement_timeout%3D<milliseconds>"),
    url("postgresql://u@h/d?options=-c%20statement_timeout%3D0", "no timeout", "statement_timeout%3D<milliseconds>"),
    url(f"postgresql://u@h/d?{CANARY}=x", "a strange option", "has an option, which"),
    url(f"postgresql://u@h/d?password={CANARY}", "a password option", "the option 'password'"),
    url("postgresql://u@h/d?sslmode=require", "TLS twice", "say it in one place", extra="      ssl_mode: require\n"),
    # stores
    Case("an unknown store", "storage.stores.metdata", 12, "did you mean 'metadata'?", "metdata:", "metadata:"),
    Case("a foreign store", "storage.stores.sessions", 12, "allowed: connectors, conversations",
         f"sessions: {META}\n    metadata:", "metadata:"),
    metadata("[]", "a list", "", "must be a mapping"),
    metadata("kv_default", "a word", "", "must be a mapping"),
    metadata("{}", "nothing", ".backend", "is missing"),
    metadata("{namespace: n}", "no backend", ".backend", "is missing"),
    metadata("{backend: kv_default}", "no namespace", ".namespace", "is missing"),
    metadata('{backend: kv_default, namespace: ""}', "empty namespace", ".namespace", "must not be empty"),
    metadata('{backend: kv_default, namespace: "a\\nb"}', "namespace of lines", ".namespace", "line break"),
    metadata("{backend: kv_default, namespace: 5}", "numeric namespace", ".namespace", "needs quotes"),
    metadata("{backend: kv_default, namespace: " + "n" * 300 + "}", "long namespace", ".namespace", "at most 256 characters"),
    metadata("{backend: kv_default, namespace: n, table_name: t}", "a table", ".table_name", "unknown key"),
    metadata("{backend: null, namespace: n}", "null backend", ".backend", "must be text"),
    metadata("{backend: [kv_default], namespace: n}", "backend a list", ".backend", "must be text"),
    metadata("{backend: kv_defualt, namespace: n}", "misspelt backend", ".backend",
             "unknown backend 'kv_defualt'; allowed: kv_default; did you mean 'kv_default'?"),
    metadata("{backend: kv-default, namespace: n}", "dashed backend", ".backend", "did you mean 'kv_default'?"),
    metadata(f'{{backend: "postgresql://u:{CANARY}@h/d", namespace: n}}', "a URI for a backend", ".backend",
             "unknown backend; allowed"),
    metadata("{backend: sql_default, namespace: n}", "wrong family", ".backend",
             "needs a kv backend, and this is a sql backend; allowed: kv_default"),
    metadata('{backend: "${env.NOPE}", namespace: n}', "unset backend", ".backend", "NOPE is unset"),
    metadata("{backend: kv_defualt, namspace: n}", "two mistakes", ".backend", "did you mean 'kv_default'?"),
    inference("{backend: sql_default}", "no table", ".table_name", "is missing"),
    inference("{backend: sql_default, table_name: 'x; drop table y'}", "injection", ".table_name", "not a safe table name"),
    inference("{backend: sql_default, table_name: public.t}", "a schema", ".table_name", "not a safe table name"),
    inference("{backend: sql_default, table_name: 1t}", "a digit first", ".table_name", "not a safe table name"),
    inference('{backend: sql_default, table_name: ""}', "an empty table", ".table_name", "not a safe table name"),
    inference('{backend: sql_default, table_name: "t\\n"}', "a line break", ".table_name", "not a safe table name"),
    inference("{backend: sql_default, table_name: " + "t" * 64 + "}", "64 letters", ".table_name", "at most 63"),
    inference("{backend: sql_default, table_name: täble}", "an umlaut", ".table_name", "not a safe table name"),
    *(inference(f"{{backend: sql_default, table_name: {name}}}", f"our own {name}", ".table_name",
                "a table of Stackstore's own; allowed: any name but cursor_keys, dead_letters")
      for name in ("kv", "KV", "schema_versions", "cursor_keys", "queue_marks", "Dead_Letters", "owners",
                   "instances", "kv_expires_at", "owners__person")),
    Case("our own for the responses", "storage.stores.responses.table_name", 12, "Stackstore's own",
         "responses: {backend: sql_default, table_name: kv}\n    metadata:", "metadata:"),
    inference("{backend: kv_default, table_name: t}", "wrong family", ".backend", "needs a sql backend"),
    inference("{backend: sql_default, table_name: t, namespace: n}", "a namespace", ".namespace", "unknown key"),
    inference("{backend: sql_default, table_name: t, num_writers: 0}", "no writers", ".num_writers", "equal to 1"),
    inference("{backend: sql_default, table_name: t, num_writers: -1}", "less than none", ".num_writers", "equal to 1"),
    inference("{backend: sql_default, table_name: t, max_write_queue_size: 0}", "no queue",
              ".max_write_queue_size", "equal to 1"),
    inference("{backend: sql_default, table_name: t, max_write_queue: 5}", "misspelt queue",
              ".max_write_queue", "did you mean 'max_write_queue_size'?"),
    inference("{backend: sql_default, table_name: t, enabled: perhaps}", "enabled perhaps", ".enabled", "valid boolean"),
    Case("enabled elsewhere", "storage.stores.prompts.enabled", 12, "unknown key",
         "prompts: {backend: sql_default, table_name: t, enabled: true}\n    metadata:", "metadata:"),
    Case("two stores on one table", "storage.stores.inference.table_name", 13,
         "storage.stores.prompts (line 12) has this table",
         f"prompts: {{backend: sql_default, table_name: Inference_Store}}\n    inference: {INFERENCE}\n    metadata: {META}",
         f"metadata: {META}\n    inference: {INFERENCE}"),
    Case("two stores on one table by two names", "storage.stores.prompts.table_name", 15,
         "storage.stores.inference (line 14) has this table",
         "    other: {type: sql_postgres, host: DB, user: x}\n  stores:\n"
         f"    metadata: {META}\n    inference: {INFERENCE}\n"
         "    prompts: {backend: other, table_name: inference_store}\n",
         f"  stores:\n    metadata: {META}\n    inference: {INFERENCE}\n"),
    # providers
    provider("[]", "a list", "providers", "must be a mapping"),
    provider(CANARY, "a word", "providers", "must be a mapping"),
    provider("{files: {a: b}}", "an API of a mapping", "providers.files", "must be a list"),
    provider(f"{{files: [{CANARY}]}}", "a word for one", "providers.files[0]", "must be a mapping"),
    provider("{files: [{provider_id: f, config: {metadata_store: {backend: sql_defualt, table_name: t}}}]}",
             "misspelt", "providers.files[0].config.metadata_store.backend", "did you mean 'sql_default'?"),
    provider("{files: [{provider_id: f, config: {metadata_store: {backend: kv_default, table_name: t}}}]}",
             "wrong family", "providers.files[0].config.metadata_store.backend", "needs a sql backend"),
    provider("{files: [{provider_id: f, config: {metadata_store: {backend: sql_default, namespace: t}}}]}",
             "a namespace on sql", "providers.files[0].config.metadata_store.namespace", "unknown key"),
    provider("{files: [{provider_id: '${env.NOPE}', config: {metadata_store: {backend: sql_default, table_name: t}}}]}",
             "unset id", "providers.files[0].provider_id", "NOPE is unset"),
    provider(f"{{skills: [{{provider_id: f, config: {{persistence: {CANARY}}}}}]}}",
             "a word for a reference", "providers.skills[0].config.persistence", "must be a mapping"),
    provider("{skills: [{provider_id: f, config: {persistence: {backend: kv_default, namespace: registry}}}]}",
             "a namespace that is taken", "storage.stores.metadata.namespace",
             "providers.skills[0].config.persistence (line 2) has this namespace"),
    provider("{files: [{provider_id: f, config: {metadata_store: {backend: sql_default, table_name: kv}}}]}",
             "our own", "providers.files[0].config.metadata_store.table_name", "Stackstore's own"),
    provider("{responses: [{provider_id: f, config: {persistence: {responses: {backend: nope}}}}]}",
             "nested", "providers.responses[0].config.persistence.responses.backend", "unknown backend 'nope'"),
    provider("{vector_io: [{}, {provider_id: f, config: {persistence: {backend: kv_default}}}]}",
             "the second", "providers.vector_io[1].config.persistence.namespace", "is missing"),
]  # fmt: skip


def test_there_are_many() -> None:
    assert len(CASES) >= 110
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(case: Case, tmp_path: Path) -> None:
    text = case.new
    if case.old:
        assert isinstance(text, str)
        assert SMALL.count(case.old) == 1
        text = SMALL.replace(case.old, text)
    error = refused(tmp_path, text, dict(case.environ))
    told = str(error)
    source = str(tmp_path / "config.yaml")
    where = f"{source}:{case.line}: " if case.line else f"{source}: "
    where += f"{case.path}: " if case.path else ""
    hits = [line for line in told.splitlines() if line.startswith(where) and case.fragment in line]
    if case.name == "provider: a namespace that is taken":
        hits = [line for line in told.splitlines() if case.path in line and case.fragment in line]
    assert hits, told
    for secret in (CANARY, "8675309", "\x1b", "\0"):
        assert secret not in told
        assert secret not in repr(error)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_all_problems_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        SMALL.replace("host: db", "hots: db")
        .replace("kv_default, namespace", "sql_default, namspace")
        .replace("/data/kv.db", "/data/")
        .replace("table_name: inference_store", "table_name: a b")
    )
    error = refused(tmp_path, text)
    assert [(problem.path, problem.line) for problem in error.problems] == [
        ("storage.backends.kv_default.db_path", 5),
        ("storage.backends.sql_default.hots", 8),
        ("storage.stores.metadata.namespace", 12),
        ("storage.stores.metadata.namspace", 12),
        ("storage.stores.metadata.backend", 12),
        ("storage.stores.inference.table_name", 13),
    ]
    assert len(str(error).splitlines()) == 6


def test_a_reference_to_a_broken_backend_is_not_reported_as_well(tmp_path: Path) -> None:
    error = refused(tmp_path, SMALL.replace("type: sql_postgres", "type: sql_postgrse"))
    assert [problem.path for problem in error.problems] == ["storage.backends.sql_default.type"]


@pytest.mark.parametrize(
    ("name", "fragment"),
    [("missing.yaml", "there is no such file"), ("", "is a directory"), ("a\0b", "is not a file name"),
     ("x" * 5000, "can't be read"), ("pipe", "is not a regular file"), ("config/x", "can't be read")],
)  # fmt: skip
def test_paths_that_are_no_files(tmp_path: Path, name: str, fragment: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "config").write_text("a file")
    with pytest.raises(InvalidConfigError, match=fragment):
        load(str(tmp_path / name) if name else str(tmp_path), {})


def test_every_refused_uri_has_a_way_out(tmp_path: Path) -> None:
    for case in CASES:
        if case.name.startswith("uri: "):
            assert isinstance(case.new, str)
            (problem,) = refused(tmp_path, SMALL.replace(case.old, case.new)).problems
            assert problem.allowed or problem.hint or "twice" in problem.message
