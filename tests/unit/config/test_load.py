"""Good configs, and what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackstore.config import InvalidConfigError, load
from stackstore.credentials.snapshot import PostgresBackend, SqliteBackend
from tests.unit.config.samples import CANARY, FULL, FULL_ENVIRON, SMALL, load_text


def postgres(backend: object) -> PostgresBackend:
    assert isinstance(backend, PostgresBackend)
    return backend


def test_the_smallest(tmp_path: Path) -> None:
    config = load_text(tmp_path, SMALL)
    assert config.file == str(tmp_path / "config.yaml")
    assert dict(config.types) == {"kv_default": "kv_sqlite", "sql_default": "sql_postgres"}
    kv = config.backends["kv_default"]
    assert isinstance(kv, SqliteBackend)
    assert kv.path == "/data/kv.db"
    sql = postgres(config.backends["sql_default"])
    login = sql.current
    assert (login.host, login.port, login.database, login.username) == ("db", 5432, "ogx", "app")
    assert login.password is not None
    assert login.password.get_secret_value() == CANARY
    assert sql.tls.mode == "Prefer"
    assert (sql.pool.size, sql.pool.max_overflow, sql.pool.recycle_seconds) == (10, 20, 3600)
    assert sql.statement_timeout_seconds is None
    assert set(config.stores) == {"metadata", "inference"}
    assert config.stores["metadata"].place == "registry"
    assert config.stores["metadata"].family == "kv"
    inference = config.stores["inference"]
    assert (inference.family, inference.place) == ("sql", "inference_store")
    assert (inference.max_write_queue_size, inference.num_writers) == (10_000, 4)
    assert config.absent_stores == (
        "responses",
        "conversations",
        "prompts",
        "connectors",
        "vector_stores",
    )
    assert CANARY not in repr(config)


def test_everything_that_the_server_has(tmp_path: Path) -> None:
    config = load_text(tmp_path, FULL, FULL_ENVIRON)
    sql = postgres(config.backends["sql_default"])
    login = sql.current
    assert (login.host, login.port, login.database) == ("2001:db8::7", 6432, "stack")
    assert login.password is not None
    assert login.password.get_secret_value() == "p@ss/w:rd#1?%"
    assert sql.tls.mode == "Require"
    assert (sql.pool.size, sql.pool.max_overflow) == (3, 7)
    kv = postgres(config.backends["kv_pg"])
    assert kv.current.port == 5433
    assert kv.current.password is not None
    assert kv.current.password.get_secret_value() == "0123"
    assert kv.tls.mode == "Disable"
    assert (kv.pool.size, kv.pool.max_overflow) == (5, 10)
    assert kv.statement_timeout_seconds == 3
    file = config.backends["sql_file"]
    assert isinstance(file, SqliteBackend)
    assert file.path == "/data/sql.db"
    assert config.absent_stores == ()
    assert config.stores["responses"].table_name == "openai_responses"
    assert config.stores["inference"].num_writers == 2
    assert config.stores["prompts"].max_write_queue_size is None
    found = {(ref.api, ref.provider_id, ref.field): ref for ref in config.providers}
    assert set(found) == {
        ("inference", "vertex", "thought_signature_store"),
        ("files", "localfs", "metadata_store"),
        ("batches", "ref", "sqlstore"),
        ("messages", "builtin", "kvstore"),
        ("interactions", "other", "store"),
        ("skills", "builtin", "persistence"),
        ("responses", "builtin", "persistence.responses"),
        ("vector_io", "faiss", "persistence"),
        ("vector_io", "faiss", "metadata_store"),
        ("vector_io", "milvus", "persistence"),
        ("vector_io", "milvus", "metadata_store"),
    }
    faiss = found["vector_io", "faiss", "persistence"]
    assert (faiss.family, faiss.place, faiss.provider_type) == (
        "kv",
        "vector_io::faiss",
        "inline::faiss",
    )


def test_a_disabled_provider_comes_to_life_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        load_text(tmp_path, FULL, {**FULL_ENVIRON, "WITH_CHROMA": "chroma"})
    assert "unknown backend 'nothing_like_it'" in str(caught.value)


def test_the_snapshot_supplies_a_backend(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        FULL.replace('"${env.DATA:=/data}/sql.db"', '"${env.SQL_FILE_PATH}"'),
        {},
        frozenset({"sql_default", "kv_pg", "sql_file"}),
    )
    assert config.types["sql_default"] == "sql_postgres"
    assert set(config.backends) == {"kv_default"}
    assert config.stores["inference"].backend == "sql_default"


def test_a_snapshot_backend_is_still_checked(tmp_path: Path) -> None:
    text = FULL.replace("pool_size:", "pool_sise:").replace("port: ", "prot: ")
    with pytest.raises(InvalidConfigError) as caught:
        load_text(tmp_path, text, {}, frozenset({"sql_default", "kv_pg"}))
    assert {problem.path for problem in caught.value.problems} == {
        "storage.backends.sql_default.pool_sise",
        "storage.backends.kv_pg.prot",
    }


@pytest.mark.parametrize("value", ["0123", "1e5", "true", "nan", "~/x", "null", " 7 ", "1_000"])
def test_a_password_from_the_environment_stays_as_it_is(tmp_path: Path, value: str) -> None:
    text = SMALL.replace(f"password: {CANARY}", 'password: "${env.PW}"').replace(
        "user: app", 'user: "${env.USER_NAME}"'
    )
    config = load_text(tmp_path, text, {"PW": value, "USER_NAME": "007"})
    login = postgres(config.backends["sql_default"]).current
    assert login.password is not None
    assert login.password.get_secret_value() == value
    assert login.username == "007"


@pytest.mark.parametrize(
    ("written", "variable", "size"),
    [('"${env.N}"', "0007", 7), ('"${env.N}"', "1e1", 10), ('"12"', "", 12), ("12.0", "", 12)],
)
def test_numbers_are_read_as_the_server_reads_them(
    tmp_path: Path, written: str, variable: str, size: int
) -> None:
    text = SMALL.replace("host: db", f"pool_size: {written}")
    config = load_text(tmp_path, text, {"N": variable})
    assert postgres(config.backends["sql_default"]).pool.size == size


def test_home_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for written in ("~/kv.db", '"${env.P}"', '"${env.NOPE:=~/kv.db}"'):
        text = SMALL.replace("/data/kv.db", written)
        backend = load_text(tmp_path, text, {"P": "~/kv.db"}).backends["kv_default"]
        assert isinstance(backend, SqliteBackend)
        assert backend.path == "/home/someone/kv.db"


def test_an_empty_placeholder_is_no_value(tmp_path: Path) -> None:
    text = SMALL.replace("host: db", 'host: db\n      connection_string: "${env.URL:=}"')
    assert postgres(load_text(tmp_path, text).backends["sql_default"]).current.host == "db"
    with pytest.raises(InvalidConfigError, match="excludes host, user, password"):
        load_text(tmp_path, text, {"URL": "postgresql://u@h/d"})
    text = SMALL.replace(f"password: {CANARY}", 'password: "${env.PW:=}"')
    assert postgres(load_text(tmp_path, text).backends["sql_default"]).current.password is None


def test_stores_that_are_switched_off_are_absent(tmp_path: Path) -> None:
    for inference in (
        "inference: null",
        "inference: {backend: sql_default, table_name: t, enabled: false}",
        'inference: {backend: sql_default, table_name: t, enabled: "${env.ON:=false}"}',
    ):
        text = SMALL.replace(
            "inference: {backend: sql_default, table_name: inference_store}", inference
        )
        config = load_text(tmp_path, text)
        assert "inference" in config.absent_stores
        assert "inference" not in config.stores


def test_merge_keys_aliases_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = """\
\ufeffcommon: &pg {host: db, user: app, pool_size: 3}
storage:
  backends:
    one: {type: sql_postgres, <<: *pg}
    two: {type: sql_postgres, <<: *pg, pool_size: 4}
"""
    config = load_text(tmp_path, text)
    assert postgres(config.backends["one"]).pool.size == 3
    assert postgres(config.backends["two"]).pool.size == 4


def test_a_ca_is_read(tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    text = SMALL.replace(
        "host: db", f"host: db\n      ssl_mode: verify-full\n      ca_cert_path: {ca}"
    )
    tls = postgres(load_text(tmp_path, text).backends["sql_default"]).tls
    assert (tls.mode, tls.ca) == ("VerifyFull", ca.read_text())
    url = f"postgresql://u@h/d?sslmode=verify-ca&sslrootcert={ca}"
    text = FULL.replace(
        "kv_pg: {", f'unused: {{type: sql_postgres, connection_string: "{url}"}}\n    kv_pg: {{'
    )
    tls = postgres(load_text(tmp_path, text, FULL_ENVIRON).backends["unused"]).tls
    assert (tls.mode, tls.ca) == ("VerifyCA", ca.read_text())


def test_the_environment_of_the_process_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACKSTORE_TEST_HOST", "elsewhere")
    path = tmp_path / "config.yaml"
    path.write_text(SMALL.replace("host: db", "host: ${env.STACKSTORE_TEST_HOST}"))
    assert postgres(load(path).backends["sql_default"]).current.host == "elsewhere"
    assert postgres(load(str(path)).backends["sql_default"]).current.host == "elsewhere"


def test_no_backend_is_invented(tmp_path: Path) -> None:
    for text in ("providers: {}", "storage: {}", "storage: {stores: {}}", "storage: null"):
        with pytest.raises(InvalidConfigError):
            load_text(tmp_path, text)


def test_a_servers_table_name_does_not_part_two_namespaces(tmp_path: Path) -> None:
    def text(namespace: str) -> str:
        kv = "{type: kv_postgres, host: db, user: app, password: x, db: d, table_name: %s}"
        return f"""\
providers:
  messages:
  - {{provider_id: m, provider_type: t, config: {{kvstore: {{backend: two, namespace: {namespace}}}}}}}
storage:
  backends:
    one: {kv % "first"}
    two: {kv % "second"}
  stores:
    metadata: {{backend: one, namespace: registry}}
"""

    with pytest.raises(InvalidConfigError, match="has this namespace of this database already"):
        load_text(tmp_path, text("registry"))
    assert load_text(tmp_path, text("other")).providers


def test_the_servers_own_kv_table_may_be_called_as_one_of_ours(tmp_path: Path) -> None:
    """It is where the server has its tables, not where ours are."""
    pg = "{type: kv_postgres, host: pg, user: app, table_name: kv}"
    loaded = load_text(tmp_path, SMALL.replace("{type: kv_sqlite, db_path: /data/kv.db}", pg))
    assert loaded.types["kv_default"] == "kv_postgres"
