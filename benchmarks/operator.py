"""The operator with 1,000 bindings on a real API server: how soon, how many writes, how much memory.

1,000 stacks of one binding each in 100 namespaces, whose stores use two of 20 backends in a namespace of
their own. The operator is a process with the chart's rights and the command's own defaults, but for a
lease that nobody contends for. Backends are not verified: databases are another benchmark's subject.
Writes are counted in the API server's audit log. Times run until a watch of this process shows the last
object as it should be; CPU and memory are the operator's, from /proc. Linear: CPU a binding with 3,000
bindings beside that with 1,000. `--quick` takes a tenth of everything under the same bars.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from benchmarks.report import Row, progress
from stackstore_operator.api import crd
from tests.support.controlplane import ControlPlane
from tests.support.operator import DEFAULTS, OperatorProcess, binding, kv, sql

NAME = "operator"

QUICK = os.environ.get("STACKSTORE_BENCH_QUICK", "") not in ("", "0")
PART = 10 if QUICK else 1
BINDINGS = 1_000 // PART
NAMESPACES = 100 // PART
BACKENDS = 20 // (PART // 5 or 1)
FOREIGN_SECRETS = 10_000 // PART
FOREIGN_CONFIG_MAPS = 2_000 // PART
GRACE_SECONDS = 60
SECRET_BYTES = 32 * 1024
REST_SECONDS = 300 // PART
CHANGES = 100 // (2 if QUICK else 1)
AT_ONCE = 32
HOME = "platform"

Object = dict[str, Any]


class Cluster:
    """A control plane, and plain JSON access to it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        entry = yaml.safe_load(plane.kubeconfig().read_text())
        ca = entry["clusters"][0]["cluster"]["certificate-authority-data"]
        context = ssl.create_default_context(cadata=base64.b64decode(ca).decode())
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            headers={"Authorization": f"Bearer {entry['users'][0]['user']['token']}"},
            read_bufsize=2**24,
        )

    async def ask(self, method: str, path: str, body: Object | None = None, **query: str) -> Object:
        types = {"PATCH": "application/merge-patch+json"}
        async with self.session.request(
            method,
            f"{self.plane.url}/{path}",
            params=query,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": types.get(method, "application/json")},
        ) as answer:
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {await answer.text()}")
            found: Object = await answer.json()
            return found

    async def create(self, objects: Iterable[tuple[str, Object]]) -> None:
        """Make (path, object) pairs, many at once."""
        waiting = iter(objects)

        async def some() -> None:
            for path, obj in waiting:
                await self.ask("POST", path, obj)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))

    async def watch(self, path: str) -> AsyncIterator[tuple[float, Object]]:
        """Objects as they are now and as they change, each with the moment it was heard of."""
        listed = await self.ask("GET", path)
        for obj in listed["items"]:
            yield time.monotonic(), obj
        query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(
            f"{self.plane.url}/{path}", params=query, timeout=timeout
        ) as answer:
            async for line in answer.content:
                yield time.monotonic(), json.loads(line)["object"]


class Process:
    """What /proc says of the operator."""

    def __init__(self, pid: int) -> None:
        self._at = Path(f"/proc/{pid}")

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = (self._at / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """MiB that are resident."""
        line = next(
            line
            for line in (self._at / "status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
        return int(line.split()[1]) / 1024


def namespaces(first: int, count: int) -> list[str]:
    return [f"team-{number:03}" for number in range(first, first + count)]


def place(number: int, spread: Sequence[str]) -> str:
    return spread[number % len(spread)]


def stack(number: int, namespace: str) -> tuple[str, Object]:
    backend = {"namespace": HOME}
    stores = [kv("metadata", place=f"r{number}"), sql("inference", place=f"t{number}"),
              sql("conversations", place=f"c{number}")]  # fmt: skip
    for store in stores:
        family = "kv" if "namespace" in store else "sql"
        store["backendRef"] = {"name": f"{family}-{number % (BACKENDS // 2):02}", **backend}
    defaults = {
        family: {"name": f"{family}-{number % (BACKENDS // 2):02}", **backend}
        for family in DEFAULTS
    }
    made = binding(f"b{number:04}", f"s{number:04}", stores, defaults=defaults)
    made["metadata"]["namespace"] = namespace
    return f"apis/stackstore.dev/v1alpha1/namespaces/{namespace}/storebindings", made


def database(family: str, number: int) -> tuple[str, Object]:
    spec = {
        "type": f"{family}_postgres",
        "postgres": {
            "host": f"pg-{number}.db.svc",
            "database": "stack",
            "tls": {"mode": "Disable"},
        },
        "credentials": {"secretRef": {"name": "pg-app"}},
        "allowedNamespaces": {"from": "All"},
        "verification": {"mode": "None"},
        "rotation": {"graceSeconds": GRACE_SECONDS},
    }
    metadata = {"name": f"{family}-{number:02}", "namespace": HOME}
    api = {"apiVersion": "stackstore.dev/v1alpha1", "kind": "StorageBackend"}
    return (
        f"apis/stackstore.dev/v1alpha1/namespaces/{HOME}/storagebackends",
        {**api, "metadata": metadata, "spec": spec},
    )


def login(password: str) -> Object:
    text = {"username": "app", "password": password}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in text.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pg-app"}, "data": data}


def is_ready(obj: Object) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any((c["type"], c["status"]) == ("Ready", "True") for c in conditions)


async def until_all(
    cluster: Cluster, path: str, count: int, good: Callable[[Object], bool], seconds: float
) -> list[float]:
    """The moment at which each of `count` objects was first seen to be good."""
    when: dict[str, float] = {}
    async with asyncio.timeout(seconds):
        # A watch may end at any time, as when this machine is too busy to read it.
        while True:
            async for moment, obj in cluster.watch(path):
                if good(obj):
                    metadata = obj["metadata"]
                    when.setdefault(f"{metadata['namespace']}/{metadata['name']}", moment)
                    if len(when) >= count:
                        return list(when.values())


class Scene:
    """The cluster with its operator."""

    def __init__(self, cluster: Cluster, operator: OperatorProcess) -> None:
        self.cluster = cluster
        self.operator = operator
        self.rows: list[Row] = []
        self.password = "p-0"

    @property
    def process(self) -> Process:
        assert self.operator.process is not None
        return Process(self.operator.process.pid)

    def writes(self) -> Counter[str]:
        """By resource, what the operator has written so far."""
        return Counter(
            event["objectRef"]["resource"]
            + ("/status" if "subresource" in event["objectRef"] else "")
            for event in self.operator.writes()
            if event["responseStatus"]["code"] < 300
        )

    def say(self, row: Row) -> None:
        self.rows.append(row)
        progress(f"operator: {row.measure}: {row.ours:,.3g} {row.unit} (at most {row.limit:,.3g})")

    async def grow(self, first: int, count: int, spread: Sequence[str]) -> tuple[float, float]:
        """Make stacks; seconds until all are Ready from the first create on, and seconds of CPU."""
        began, cpu = time.monotonic(), self.process.cpu()
        watching = asyncio.create_task(
            until_all(
                self.cluster,
                "apis/stackstore.dev/v1alpha1/storebindings",
                first + count,
                is_ready,
                900,
            )
        )
        await self.cluster.create(stack(n, place(n, spread)) for n in range(first, first + count))
        moments = await watching
        return max(moments) - began, self.process.cpu() - cpu

    async def quiet(self, seconds: float = 3.0) -> None:
        """Wait until nothing was written for a while."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            now = sum(self.writes().values())
            if now != last:
                last, since = now, time.monotonic()
            await asyncio.sleep(0.5)

    async def rotate(self) -> tuple[list[float], Counter[str]]:
        """Another password; seconds until each stack's Secret has it, and what was written."""
        self.password = f"p-{time.monotonic_ns()}"
        wanted = base64.b64encode(self.password.encode()).decode()
        before = self.writes()

        def has(obj: Object) -> bool:
            data = obj.get("data") or {}
            return any(key.endswith("_PASSWORD") and value == wanted for key, value in data.items())

        watching = asyncio.create_task(
            until_all(self.cluster, "api/v1/secrets", BINDINGS, has, 300)
        )
        await asyncio.sleep(1)
        began = time.monotonic()
        await self.cluster.ask(
            "PATCH",
            f"api/v1/namespaces/{HOME}/secrets/pg-app",
            {"data": login(self.password)["data"]},
        )
        moments = await watching
        await self.quiet()
        return [moment - began for moment in moments], self.writes() - before

    async def change(self, number: int, spread: Sequence[str], turn: int) -> float:
        """One binding's spec; seconds until its run config has it."""
        namespace = place(number, spread)
        table = f"changed_{turn}"
        path = f"api/v1/namespaces/{namespace}/configmaps"
        name = f"s{number:04}-run-config"

        def has(obj: Object) -> bool:
            config = (obj.get("data") or {}).get("config.yaml", "")
            return bool(obj["metadata"]["name"] == name and table in config)

        watching = asyncio.create_task(until_all(self.cluster, path, 1, has, 60))
        await asyncio.sleep(0.1)
        _, made = stack(number, namespace)
        made["spec"]["stores"][1]["tableName"] = table
        began = time.monotonic()
        await self.cluster.ask(
            "PATCH",
            f"apis/stackstore.dev/v1alpha1/namespaces/{namespace}/storebindings/{made['metadata']['name']}",
            {"spec": {"stores": made["spec"]["stores"]}},
        )
        (moment,) = await watching
        return moment - began


async def run() -> list[Row]:
    """Everything on one control plane, from empty to crowded."""
    plane = ControlPlane.start()
    try:
        plane.kubectl("create", "-f", "-", stdin="---\n".join(crd.files().values()))
        for kind in ("storagebackends", "storebindings"):
            plane.kubectl("wait", "--for=condition=Established", f"crd/{kind}.stackstore.dev")
        with tempfile.TemporaryDirectory() as directory:
            operator = OperatorProcess(plane, Path(directory), plain=True, lease_seconds=15)
            cluster = Cluster(plane)
            try:
                scene = Scene(cluster, operator)
                await _run(scene)
            except BaseException:
                progress(operator.log()[-3000:])
                raise
            finally:
                operator.stop()
                await cluster.session.close()
                await asyncio.sleep(0.2)
            return scene.rows
    finally:
        plane.stop()


async def _run(scene: Scene) -> None:
    cluster, spread = scene.cluster, namespaces(0, NAMESPACES)
    names = [HOME, *spread]
    await cluster.create(("api/v1/namespaces", {"metadata": {"name": name}}) for name in names)
    await cluster.ask("POST", f"api/v1/namespaces/{HOME}/secrets", login(scene.password))
    await cluster.create(database(f, n) for f in ("kv", "sql") for n in range(BACKENDS // 2))
    scene.operator.start().wait_until_up()
    empty = scene.process.memory()
    progress(f"operator: {empty:.0f} MiB with {BACKENDS} backends alone")

    seconds, cpu = await scene.grow(0, BINDINGS, spread)
    scene.say(Row.within(
        f"{BINDINGS:,} bindings in {NAMESPACES} namespaces with {BACKENDS} backends, from empty to all Ready",
        seconds, 60, unit="s"))  # fmt: skip
    await scene.quiet()
    await _rotation(scene)
    await _changes(scene, spread)
    await _restart(scene)
    await _rest(scene)
    memory = scene.process.memory()
    scene.say(Row.within(f"memory with {BINDINGS:,} bindings", memory, 180, unit="MiB"))
    await _foreign(scene, memory)
    more, cpu_more = await scene.grow(BINDINGS, 2 * BINDINGS, spread)
    scene.say(
        Row.at_most(
            f"CPU a binding, the next {2 * BINDINGS:,} beside the first {BINDINGS:,}",
            1000 * cpu_more / (2 * BINDINGS), 1000 * cpu / BINDINGS, bar=1.5, unit="ms",
        )
    )  # fmt: skip
    scene.say(
        Row.at_most(
            f"time a binding, the next {2 * BINDINGS:,} beside the first {BINDINGS:,}",
            1000 * more / (2 * BINDINGS), 1000 * seconds / BINDINGS, bar=1.5, unit="ms",
        )
    )  # fmt: skip
    progress(f"operator: {scene.process.memory():.0f} MiB with {3 * BINDINGS:,} bindings")


async def _rotation(scene: Scene) -> None:
    times, written = await scene.rotate()
    p95 = statistics.quantiles(times, n=20)[-1]
    scene.say(
        Row.within(f"one Secret changed: in {BINDINGS:,} stacks' Secrets, p95", p95, 5, unit="s")
    )
    scene.say(
        Row.within("… writes of Secrets, a stack", written["secrets"] / BINDINGS, 1, unit="writes")
    )
    statuses = written["storebindings/status"] / BINDINGS
    scene.say(Row.within("… writes of statuses, a binding", statuses, 1, unit="writes"))
    scene.say(Row.within("… writes of ConfigMaps", written["configmaps"], 0, unit="writes"))


async def _changes(scene: Scene, spread: Sequence[str]) -> None:
    times = [await scene.change((7 * turn) % BINDINGS, spread, turn) for turn in range(CHANGES)]
    median, worst = statistics.median(times), statistics.quantiles(times, n=100)[-1]
    scene.say(
        Row.within(f"one binding changed, among {BINDINGS:,}, p50", 1000 * median, 150, unit="ms")
    )
    scene.say(Row.within(f"… p99 of {CHANGES}", 1000 * worst, 1000, unit="ms"))


async def _restart(scene: Scene) -> None:
    # What the rotation left for the end of its grace is over.
    await asyncio.sleep(GRACE_SECONDS + 5)
    await scene.quiet()
    assert scene.operator.stop() == 0, scene.operator.log()
    before = scene.writes()
    began = time.monotonic()
    scene.operator.start().wait_until_up()
    process = scene.process
    # Settled: it has looked at everything, and does nothing any more.
    last, since = process.cpu(), time.monotonic()
    while time.monotonic() - since < 2:
        await asyncio.sleep(0.25)
        cpu = process.cpu()
        if cpu - last > 0.02:
            last, since = cpu, time.monotonic()
    settled = since - began
    written = scene.writes() - before
    outputs = written["secrets"] + written["configmaps"]
    scene.say(
        Row.within(
            f"restarted among {BINDINGS:,} bindings: writes of outputs", outputs, 0, unit="writes"
        )
    )
    scene.say(Row.within("… settled", settled, 20, unit="s"))


async def _rest(scene: Scene) -> None:
    await scene.quiet()
    before, cpu = scene.writes(), scene.process.cpu()
    await asyncio.sleep(REST_SECONDS)
    written = sum((scene.writes() - before).values())
    used = 100 * (scene.process.cpu() - cpu) / REST_SECONDS
    scene.say(
        Row.within(
            f"at rest, {REST_SECONDS} s: writes besides the Lease", written, 0, unit="writes"
        )
    )
    scene.say(Row.within("… CPU", used, 2, unit="% of a core"))


async def _foreign(scene: Scene, memory: float) -> None:
    """Other people's Secrets, half of them with the copy that `kubectl apply` keeps, and a fresh start."""
    value = base64.b64encode(os.urandom(SECRET_BYTES)).decode()
    await scene.cluster.create(
        ("api/v1/namespaces", {"metadata": {"name": f"other-{n}"}}) for n in range(10)
    )

    def foreign() -> Iterable[tuple[str, Object]]:
        for number in range(FOREIGN_SECRETS):
            metadata: Object = {"name": f"foreign-{number}"}
            if number % 2:
                metadata["annotations"] = {
                    "kubectl.kubernetes.io/last-applied-configuration": json.dumps(
                        {"data": {"value": value}}
                    )
                }
            made = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": metadata,
                "data": {"value": value},
            }
            yield f"api/v1/namespaces/other-{number % 10}/secrets", made
        for number in range(FOREIGN_CONFIG_MAPS):
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"foreign-{number}"},
                    "data": {"value": "x" * 1000}}  # fmt: skip
            yield f"api/v1/namespaces/other-{number % 10}/configmaps", made

    await scene.cluster.create(foreign())
    await asyncio.sleep(5)
    watched = scene.process.memory()
    assert scene.operator.stop() == 0
    scene.operator.start().wait_until_up()
    await asyncio.sleep(20 if QUICK else 60)
    listed = scene.process.memory()
    what = f"{FOREIGN_SECRETS:,} foreign Secrets of 32 KB and {FOREIGN_CONFIG_MAPS:,} ConfigMaps"
    scene.say(
        Row.within(f"{what}: memory that they add as they come", watched - memory, 10, unit="MiB")
    )
    scene.say(
        Row.within("… and to an operator that begins among them", listed - memory, 10, unit="MiB")
    )
