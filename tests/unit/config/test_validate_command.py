"""`stackstore validate`, as people run it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import stackstore
from stackstore.cli.main import app
from stackstore.credentials.snapshot import (
    Durability,
    Login,
    PostgresBackend,
    Snapshot,
    SqliteBackend,
    StoreSettings,
    Tls,
)
from stackstore.errors import ConfigError
from tests.unit.config.samples import CANARY, FULL, SMALL

runner = CliRunner()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(SMALL)
    return path


def test_a_good_config(config: Path) -> None:
    result = runner.invoke(app, ["validate", str(config)])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == [f"{config}:", "OK"]
    assert ["kv_default", "kv_sqlite", "/data/kv.db"] in lines
    assert ["sql_default", "sql_postgres", "db:5432/ogx", "(TLS", "Prefer)"] in lines
    assert ["metadata", "kv_default", "registry"] in lines
    assert ["inference", "sql_default", "inference_store"] in lines
    assert "not available: responses, conversations, prompts" in result.stdout
    assert CANARY not in result.output


def test_a_bad_config(config: Path) -> None:
    config.write_text(SMALL.replace("hots", "host").replace("host: db", "hots: db"))
    result = runner.invoke(app, ["validate", str(config)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"{config}:8: storage.backends.sql_default.hots: unknown key")
    assert CANARY not in result.output


def test_with_the_snapshot(config: Path, tmp_path: Path) -> None:
    config.write_text(
        'storage: {backends: {sql_default: {type: sql_postgres, connection_string: "${env.NOPE}"}}}'
    )
    login = Login(
        revision="3f9c2a1b", host="pg", port=6432, database="d", username="u", password=CANARY
    )
    snapshot = Snapshot(
        stack_id="9d2e41b0c7aa",
        revision="3f9c2a1b",
        backends={
            "sql_default": PostgresBackend(
                type="sql_postgres", current=login, tls=Tls(mode="Require")
            )
        },
    )
    directory = tmp_path / "storage"
    directory.mkdir()
    (directory / "stackstore.json").write_bytes(snapshot.to_bytes())
    arguments = ["validate", str(config)]
    assert runner.invoke(app, arguments).exit_code == 1
    result = runner.invoke(app, [*arguments, "--credentials", str(directory)])
    assert result.exit_code == 0, result.output
    assert "pg:6432/d (TLS Require)" in result.stdout
    assert CANARY not in result.output
    (directory / "stackstore.json").write_text(f"{{{CANARY}")
    result = runner.invoke(app, [*arguments, "--credentials", str(directory)])
    assert result.exit_code == 1
    assert "stackstore.json" in result.stderr
    assert CANARY not in result.output


def test_what_the_stores_do_and_what_is_asked_for_in_vain(config: Path, tmp_path: Path) -> None:
    snapshot = Snapshot(
        stack_id="9d2e41b0c7aa",
        revision="",
        backends={},
        stores={
            "inference": StoreSettings(
                num_writers=99,
                retention_seconds=3600,
                durability=Durability(mode="Journal", path="/journal"),
            ),
            "infernce": StoreSettings(num_writers=2),
        },
        providers={"responses/x/persistence.responses": StoreSettings(retention_seconds=5)},
    )
    directory = tmp_path / "storage"
    directory.mkdir()
    (directory / "stackstore.json").write_bytes(snapshot.to_bytes())
    plain = runner.invoke(app, ["validate", str(config)])
    assert ["inference", "10000", "4", "none", "kept"] in [
        line.split() for line in plain.stdout.splitlines()
    ]
    assert "note:" not in plain.stdout
    result = runner.invoke(app, ["validate", str(config), "--credentials", str(directory)])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["inference", "10000", "64", "/journal", "3600", "s"] in lines
    notes = [line for line in result.stdout.splitlines() if line.startswith("note: ")]
    assert len(notes) == 3
    assert "99 writers are asked for; 64 are made use of" in notes[0]
    assert "store 'infernce': the snapshot has settings for it" in notes[1]
    assert "provider field 'responses/x/persistence.responses': the snapshot has" in notes[2]


NO_PEM = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"


def test_what_open_refuses_is_refused_here_with_every_problem(tmp_path: Path) -> None:
    """A CA that only looks like one, types that differ; a pooler is fine."""
    (tmp_path / "ca.pem").write_text(NO_PEM)
    config = tmp_path / "config.yaml"
    config.write_text(f"""\
storage:
  backends:
    own: {{type: sql_postgres, host: h, user: u, ssl_mode: verify-ca, ca_cert_path: {tmp_path}/ca.pem}}
    pooled: {{type: sql_postgres, connection_string: "${{env.NOPE}}"}}
    broken: {{type: sql_postgres, connection_string: "${{env.NOPE}}"}}
    turned: {{type: kv_postgres, connection_string: "${{env.NOPE}}"}}
    good: {{type: sql_postgres, connection_string: "${{env.NOPE}}"}}
""")
    login = Login(host="pg", port=6432, database="d", username="u", password=CANARY)
    backend = PostgresBackend(type="sql_postgres", current=login)
    snapshot = Snapshot(
        stack_id="9d2e41b0c7aa",
        revision="3f9c2a1b",
        backends={
            "pooled": backend.model_copy(update={"pooler": "Transaction"}),
            "broken": backend.model_copy(update={"tls": Tls(mode="VerifyFull", ca=NO_PEM)}),
            "turned": SqliteBackend(type="sql_sqlite", path="/x"),
            "good": backend,
        },
    )
    directory = tmp_path / "storage"
    directory.mkdir()
    (directory / "stackstore.json").write_bytes(snapshot.to_bytes())
    result = runner.invoke(app, ["validate", str(config), "--credentials", str(directory)])
    assert (result.exit_code, result.stdout) == (1, "")
    told = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in told] == [
        "backend 'turned'",
        "backend 'own'",
        "backend 'broken'",
    ]
    assert f"kv_postgres in {config} but sql_sqlite in the snapshot" in told[0]
    assert "not a PEM certificate" in told[1]
    assert "not a PEM certificate" in told[2]
    assert CANARY not in result.output
    with pytest.raises(ConfigError) as failure:
        asyncio.run(stackstore.open(config, credentials=directory))
    assert str(failure.value).splitlines() == told


def test_providers_are_listed(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(FULL)
    monkeypatch.setenv("PG_PASSWORD", CANARY)
    monkeypatch.setenv("SQL_DEFAULT_URL", f"postgresql://u:{CANARY}@h/d")
    monkeypatch.setenv("SQL_DEFAULT_POOL_SIZE", "3")
    result = runner.invoke(app, ["validate", str(config)])
    assert result.exit_code == 0, result.output
    assert "vector_io/faiss persistence" in result.stdout
    assert "vector_io::faiss" in result.stdout
    assert "not available" not in result.stdout
    assert CANARY not in result.output


def test_the_installed_command(config: Path) -> None:
    command = [str(Path(sys.executable).with_name("stackstore"))]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "validate" in shown.stdout
    shown = subprocess.run(
        [*command, "validate", "--help"], capture_output=True, text=True, check=True
    )
    for word in ("CONFIG", "--credentials", "stackstore.json", "/etc/stack/config/config.yaml"):
        assert word in shown.stdout
    nothing = subprocess.run([*command, "validate"], capture_output=True, text=True, check=False)
    assert nothing.returncode == 2
    assert "CONFIG" in nothing.stderr
    done = subprocess.run(
        [*command, "validate", f"{config}.not"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"{config}.not: there is no such file\n"
