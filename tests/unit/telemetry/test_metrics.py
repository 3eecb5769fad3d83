"""docs/operator-metrics.md names each metric with its type and labels, and none besides."""

from __future__ import annotations

import re
from pathlib import Path

from stackstore_operator.probe.prober import Prober
from stackstore_operator.reconcile.cache import Cache
from stackstore_operator.reconcile.looks import Look
from stackstore_operator.reconcile.queue import Queue
from stackstore_operator.reconcile.shown import Shown
from stackstore_operator.telemetry import metrics

DOCS = Path(__file__).resolve().parents[3] / "docs" / "operator-metrics.md"
PREFIX = "stackstore_operator_"


async def _nothing(_: Look) -> None:
    return None


def shown() -> dict[str, tuple[str, set[str]]]:
    """By name: type and labels."""
    found = {}
    for metric in vars(metrics).values():
        if hasattr(metric, "_labelnames"):
            suffix = "_total" if metric._type == "counter" else ""
            found[metric._name + suffix] = (metric._type, set(metric._labelnames))
    collector = Shown(Cache(), Queue(_nothing), Prober(), dict, dict)
    for family in collector.describe():
        found[family.name] = (family.type, set(family._labelnames))
    return {name.removeprefix(PREFIX): value for name, value in found.items()}


def documented() -> dict[str, tuple[str, set[str]]]:
    found = {}
    for line in DOCS.read_text().splitlines():
        row = re.fullmatch(r"\| `([a-z_]+)` \| (counter|gauge|histogram) \| ([^|]*)\|[^|]*\|", line)
        if row:
            labels = re.sub(r"\(.*?\)", "", row[3])
            found[row[1]] = (row[2], {part.strip() for part in labels.split(",") if part.strip()})
    return found


def test_the_docs_name_what_there_is():
    assert documented() == shown()


def test_alerts_in_the_docs_name_what_there_is():
    text = DOCS.read_text()
    named = set(re.findall(r"stackstore_operator_([a-z_]+)", text)) - {""}
    assert named - {""} <= shown().keys()


def test_everything_has_a_text_and_no_label_could_name_an_object():
    for name, (_, labels) in shown().items():
        assert labels <= {"kind", "result", "verb", "code", "type", "status", "reason", "state"}, (
            name
        )
