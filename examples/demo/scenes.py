"""The scenes, in their order: what is done, what is shown, what is claimed."""

from __future__ import annotations

import asyncio
import json
import time

import httpx

from examples.demo import counting
from examples.demo.claims import Claims
from examples.demo.environment import (
    KUBELET_DELAY_SECONDS,
    REPOSITORY,
    RULES,
    DemoError,
    Environment,
)
from examples.demo.load import Report
from examples.demo.rotation import AROUND_SECONDS, GAP_SECONDS, HEAD, Rotation, rotate
from examples.demo.sampler import Sampler
from examples.demo.story import Story, quoted

CLIENTS = 16
LOAD_SECONDS = 30.0
READY_WITHIN = "30s"
FIRST_WITHIN_SECONDS = 3.0
"""From when a new login can work at all to the first connection that uses it."""


class Scenes:
    """All of the demo but its end."""

    def __init__(self, environment: Environment, story: Story, claims: Claims) -> None:
        self.environment = environment
        self.story = story
        self.claims = claims
        self.own_ids: list[str] = []

    def play(self) -> None:
        """From the first to the last."""
        self.start_servers()
        self.apply()
        self.operate()
        self.serve()
        self.load_and_rotate()

    def start_servers(self) -> None:
        self.story.scene("etcd, kube-apiserver and Postgres start on free loopback ports")
        environment = self.environment
        environment.start_plane()
        environment.start_postgres()
        self.story.text(f"API server {environment.plane.url}")
        server = environment.postgres
        self.story.text(f"Postgres   {server.host}:{server.port}, database {environment.database}")

    def apply(self) -> None:
        self.story.scene("The CRDs and the quickstart are applied")
        environment = self.environment
        self._kubectl("apply", "-f", "crds/")
        environment.kubectl(
            "wait", "--for=condition=Established", "--timeout=15s", "crd",
            "storagebackends.stackstore.dev", "storebindings.stackstore.dev",
        )  # fmt: skip
        self._kubectl("apply", "-f", "examples/quickstart/")
        self.story.say("The quickstart's Secret is a form to fill in. Here, with what runs here:")
        login = {
            "username": environment.user,
            "password": environment.password,
            "host": environment.postgres.host,
            "port": str(environment.postgres.port),
            "database": environment.database,
        }
        self._kubectl(
            "patch", "secret", "pg-app", "--type=merge", "--patch-file=/dev/stdin",
            stdin=json.dumps({"stringData": login}),
        )  # fmt: skip
        self.story.say(
            "In a pod the SQLite file is on a volume. Here it is in the demo's directory:"
        )
        self._kubectl(
            "patch", "sbe", "kv-default", "--type=merge",
            "--patch", json.dumps({"spec": {"sqlite": {"path": str(environment.kv_path)}}}),
        )  # fmt: skip

    def operate(self) -> None:
        self.story.scene("The operator starts, and may do what the chart's rules say, no more")
        environment = self.environment
        self._kubectl("create", "namespace", "stackstore-system")
        self.story.text(f"RBAC: {RULES.relative_to(REPOSITORY)}")
        environment.start_operator()
        began = time.monotonic()
        try:
            self._kubectl(
                "wait", "--for=condition=Ready", f"--timeout={READY_WITHIN}",
                "sbe/sql-default", "sbe/kv-default", "sbn/chat",
            )  # fmt: skip
        except RuntimeError as error:
            seen = environment.kubectl("get", "sbe,sbn", "--output=wide")
            raise DemoError(
                f"{error}\n{seen}\n{environment.children['operator'].output()}"
            ) from None
        self._kubectl("get", "sbe,sbn")
        self.claims.add(
            "With the chart's rules alone the operator makes all objects Ready",
            not environment.dead(),
            f"{time.monotonic() - began:.1f} s after it was started",
        )
        self.story.say("The run config that was rendered: shape only, no host, no secret.")
        self._kubectl(
            "get", "configmap", "chat-run-config", r"--output=jsonpath={.data.config\.yaml}"
        )
        self.story.say("The Secret beside it, its keys without their values:")
        self._kubectl("describe", "secret", "chat-storage")

    def serve(self) -> None:
        self.story.scene("The stack starts: it knows the stackstore package and one directory")
        environment = self.environment
        environment.start_kubelet()
        self.story.say(
            "There is no kubelet here. A stand-in (tests/support/kubelet.py) lays the Secret and the\n"
            "ConfigMap out as one would, and swaps them "
            f"{KUBELET_DELAY_SECONDS:g} s after a change (a real one: up to 90 s)."
        )
        environment.start_stack()
        body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
        with httpx.Client(base_url=environment.stack_url, timeout=30, trust_env=False) as client:
            made = client.post("/v1/chat/completions", json=body).raise_for_status().json()
            self.own_ids.append(made["id"])
            self.story.text(f"POST {environment.stack_url}/v1/chat/completions {json.dumps(body)}")
            self.story.text(f"200 {json.dumps(made)}")
            path = f"/v1/chat/completions/{made['id']}"
            read = client.get(path)
            self.story.text(f"GET {environment.stack_url}{path}")
            self.story.text(f"{read.status_code} {read.text}")
        self.claims.add(
            "A completion is read back as it was given",
            read.json() == made,
            f"id {made['id'][:17]}…",
        )

    def load_and_rotate(self) -> None:
        self.story.scene(
            f"{CLIENTS} clients for {LOAD_SECONDS:g} s; meanwhile the password is rotated twice"
        )
        self.story.text(
            "kubectl patch secret pg-app --type=merge --patch-file=/dev/stdin\n"
            "ALTER ROLE app PASSWORD '…'\n"
            f"the two of them {GAP_SECONDS:g} s apart, in this order and then in the other"
        )
        rotations, report, found = asyncio.run(self._load_and_rotate())
        self.story.say("Seconds count from `kubectl patch secret`; - is before it.")
        self.story.table([HEAD, *(rotation.row() for rotation in rotations)])
        self.story.say(
            "With the Secret first, the old login works until the role changes, and is kept until then."
        )
        self.story.table(
            [
                (
                    "REQUESTS",
                    "FAILED",
                    "A SECOND",
                    "MEDIAN",
                    "SLOWEST",
                    "ROWS WRITTEN",
                    "ROWS FOUND",
                ),
                (
                    str(report.requests),
                    str(report.failures),
                    f"{report.requests / report.seconds:.0f}",
                    f"{report.median * 1000:.1f} ms",
                    f"{report.slowest * 1000:.0f} ms",
                    str(len(report.acknowledged) + len(self.own_ids)),
                    str(len(found)),
                ),
            ]
        )
        self._kubectl("get", "sbe,sbn")
        self._claim_rotations(rotations)
        self._claim_requests(report, found)

    async def _load_and_rotate(self) -> tuple[list[Rotation], Report, set[str]]:
        environment = self.environment
        async with Sampler(environment.postgres, environment.user) as sampler:
            load = environment.start_load(CLIENTS, LOAD_SECONDS)
            await asyncio.sleep(AROUND_SECONDS + 1)
            rotations = [
                await rotate(environment, sampler, secret_first=secret_first)
                for secret_first in (True, False)
            ]
            in_time = load.returncode is None
            while load.returncode is None:  # noqa: ASYNC110 - a process has no event to wait for
                await asyncio.sleep(0.1)
        if load.returncode != 0:
            raise DemoError(f"the load ended with {load.returncode}:\n{load.output()[-2000:]}")
        self.claims.add(
            "Both rotations happen under load", in_time, f"{CLIENTS} clients, {LOAD_SECONDS:g} s"
        )
        return rotations, Report(**json.loads(load.output())), await counting.rows(environment)

    def _claim_rotations(self, rotations: list[Rotation]) -> None:
        for rotation in rotations:
            delay = None
            if rotation.first_at is not None and rotation.possible_at is not None:
                delay = rotation.first_at - rotation.possible_at
            self.claims.add(
                f"{rotation.order}: connections move to the new login, the old one is refused",
                rotation.complete and delay is not None and delay < FIRST_WITHIN_SECONDS,
                "they did not move"
                if delay is None
                else f"first one {delay:.2f} s after file and role had both changed",
            )
        capacity = self._capacity()
        most = max(max(rotation.connections) for rotation in rotations)
        self.claims.add(
            "Never more connections than the pool allows, rotations included",
            most <= capacity,
            f"at most {most} of {capacity}",
        )

    def _claim_requests(self, report: Report, found: set[str]) -> None:
        written = {*report.acknowledged, *self.own_ids}
        registered = counting.registrations(self.environment)
        self.claims.add(
            "No request failed",
            report.failures == 0 and report.requests > 0,
            "; ".join([f"{report.failures} of {report.requests}", *report.first_failures[:1]]),
        )
        self.claims.add(
            "Every completion that was acknowledged is in Postgres, and no other",
            found == written,
            f"{len(written)} written, {len(found)} found, {len(written - found)} missing",
        )
        self.claims.add(
            "Each is registered in SQLite",
            registered == len(written),
            f"{registered} of {len(written)}",
        )
        exposed = counting.exposures(self.environment)
        self.claims.add(
            "No password in a log, ConfigMap, event, status or annotation",
            not exposed,
            ", ".join(exposed) or f"{len(self.environment.passwords)} looked for",
        )
        dead = self.environment.dead()
        self.claims.add("Operator and stack ran all the time", not dead, "; ".join(dead) or "yes")

    def _capacity(self) -> int:
        backend = self.environment.kubectl("get", "sbe", "sql-default", "--output=json")
        pool = json.loads(backend)["spec"]["postgres"]["pool"]
        return int(pool["size"]) + int(pool["maxOverflow"])

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it and show it."""
        places = [
            str(REPOSITORY / argument) if argument.endswith("/") else argument
            for argument in arguments
        ]
        shown = self.environment.kubectl(*places, stdin=stdin)
        line = " ".join(quoted(argument) for argument in arguments)
        self.story.command(f"kubectl {line}", shown)
        return shown
