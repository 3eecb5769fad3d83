"""Every benchmark can be found and begun, without running one whole."""

from __future__ import annotations

import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks.catalogue import find
from benchmarks.report import Result, Row, as_json

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_every_module_that_measures_is_found_under_its_own_name():
    found = find()
    assert {"kv", "connections", "rotation"} <= found.keys()
    assert list(found) == sorted(found)
    sources = {
        entry.name: (ROOT / "benchmarks" / f"{entry.name}.py").read_text()
        for entry in pkgutil.iter_modules(benchmarks.__path__)
    }
    assert found.keys() == {name for name, text in sources.items() if "\nNAME = " in text}
    for name, module in found.items():
        assert module.__name__ == f"benchmarks.{name}"
        assert inspect.iscoroutinefunction(module.run), name
        assert not inspect.signature(module.run).parameters, name
        # What `--list` shows of it.
        assert len((module.__doc__ or "").splitlines()[0]) > 20, name


def test_list_shows_each_with_what_it_measures():
    done = run("--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(find())
    assert "KVStore: get and set by 16 tasks" in done.stdout


def test_an_unknown_name_runs_nothing_and_says_which_there_are():
    done = run("connections", "kv2")
    assert done.returncode == 2
    assert done.stdout == ""
    said = " ".join(done.stderr.replace("│", " ").split())
    assert "there is no benchmark 'kv2'; there are " + ", ".join(find()) in said
    assert "begins" not in done.stderr


def test_help_shows_every_option():
    done = run("--help")
    assert done.returncode == 0
    for word in ("NAME", "--json", "--check", "--list"):
        assert word in done.stdout


ROWS = [
    (Row.beside("x", 90.0, 100.0, bar=0.9, unit="op/s"), True, 0.9),
    (Row.beside("x", 89.0, 100.0, bar=0.9, unit="op/s"), False, 0.89),
    (Row.within("x", 10.0, 10.0, unit="ms"), True, 1.0),
    (Row.within("x", 11.0, 10.0, unit="ms"), False, 1.1),
    (Row.within("x", 0.0, 0.0, unit="failures"), True, None),
    (Row.within("x", 1.0, 0.0, unit="failures"), False, None),
]


@pytest.mark.parametrize(("row", "holds", "ratio"), ROWS)
def test_a_row_holds_when_its_bar_is_reached(row, holds, ratio):
    assert (row.holds, row.ratio) == (holds, ratio)
    assert Result("r", [row]).holds is holds
    shown = json.loads(as_json([Result("r", [row])]))
    assert shown["name"] == "r"
    assert [sorted(one) for one in shown["rows"]] == [
        ["bar", "holds", "limit", "measure", "ours", "ratio"]
    ]
    assert shown["rows"][0]["measure"] == f"x ({row.unit})"


def test_a_result_without_rows_holds_nothing():
    assert not Result("r", []).holds
