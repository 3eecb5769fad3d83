"""The worked examples of docs/budget.md are what the code computes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from stackstore_operator.kube.workloads import NONE, Workload, Workloads
from stackstore_operator.reconcile.budget.shares import Claim, hand_out
from stackstore_operator.reconcile.plan import prepare
from tests.unit.reconcile.samples import (
    DEFAULTS,
    binding,
    inputs,
    judged,
    message,
    postgres,
    sqlite,
    store,
)

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "budget.md").read_text()


def rows(heading: str) -> list[list[str]]:
    table = PAGE.split(heading, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line]


def workload(said: dict[str, Any]) -> Workloads:
    name = (said["kind"], "chat")
    strategy = {"type": "Recreate"} if said.get("recreate") else {}
    if "maxSurge" in said:
        strategy = {"rollingUpdate": {"maxSurge": said["maxSurge"]}}
    obj = {
        "metadata": {"name": "chat"},
        "spec": {"replicas": said.get("replicas"), "strategy": strategy},
        "status": {"desiredNumberScheduled": said.get("nodes")},
    }
    target = {"apiVersion": "apps/v1", "kind": said["kind"], "name": "chat"}
    scaler = {
        "metadata": {"name": "chat"},
        "spec": {"scaleTargetRef": target, "maxReplicas": said.get("autoscaler")},
    }
    return Workloads({name: Workload(obj)}, (scaler,) if "autoscaler" in said else ())


def test_what_a_stack_asks() -> None:
    examples = rows("| workload | workers | pool | asks |")
    assert len(examples) == 8
    for text, workers, pool, asks in examples:
        said = None if text == "none named" else yaml.safe_load(text.strip("`"))
        size, overflow = (int(part) for part in pool.split(" + "))
        consumers = []
        if said is not None:
            consumers = [{"kind": said["kind"], "name": "chat", "workers": int(workers)}]
        settings = {"pool": {"size": size, "maxOverflow": overflow}}
        found = inputs(
            binding(stores=[store("inference")], defaults=DEFAULTS, consumers=consumers),
            backends=(postgres(postgres=settings, maxConnections=10_000), sqlite()),
            workloads=NONE if said is None else workload(said),
        )
        (claim,) = prepare(found).demand.claims
        assert f"{claim.terms} = {claim.ask}" == asks
        assert message(judged(found), "WithinBudget").endswith(asks)


def test_who_gets_what() -> None:
    examples = rows("| binding, oldest first | asks | had | gets |")
    claims = [
        Claim(("a", name), name, ("a", "sql"), name, int(asks), held=int(had))
        for name, asks, had, _ in examples
    ]
    assert [str(grant) for grant in hand_out(claims, 199).grants] == [row[3] for row in examples]


def test_the_refusal_it_shows() -> None:
    from tests.unit.reconcile.test_budget import deployment, full, stack

    told = message(judged(stack(workloads=deployment(2)), full()), "WithinBudget")
    shown = PAGE.split("```\n", 1)[1].split("\n```", 1)[0]
    assert re.sub(r"\s+", " ", shown) == told
