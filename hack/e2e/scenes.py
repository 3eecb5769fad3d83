"""The steps, in their order: what is done, what is shown, what is claimed."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import yaml

from examples.demo.claims import Claims
from examples.demo.story import Story
from hack.e2e import rotations
from hack.e2e.cluster import Cluster, ClusterError, Pod
from hack.e2e.environment import SPACE, SYSTEM, Environment
from hack.e2e.images import Image
from hack.e2e.rotations import Rotation, Rotations
from hack.tools import ROOT

OPERATOR = "app.kubernetes.io/name=stackstore"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
READY = "120s"
HANDED_OVER_SECONDS = 12.0
"""Who ends in order gives the lease back; who doesn't is waited for for 15 s."""
TOLD_SECONDS = 40.0
"""Within a minute everything is listed anew: what takes as long was not heard of by a watch."""


class Scenes:
    """All of the story but its end."""

    cluster: Cluster

    def __init__(self, environment: Environment, story: Story, claims: Claims) -> None:
        self.environment = environment
        self.story = story
        self.claims = claims
        self.images: dict[str, Image] = {}

    def play(self) -> None:
        """Up to what KEEP=1 keeps."""
        self.build()
        self.start()
        self.install()
        self.apply()
        self.serve()
        self.rotate()
        self.upgrade()
        self.lose_the_leader()

    def end(self) -> None:
        """After that."""
        self.drain()
        self.delete()
        self.uninstall()

    # -- the machine

    def build(self) -> None:
        """Both images."""
        self.story.scene("The images: the two targets of the Dockerfile")
        made = self.images = self.environment.images(self._say)
        rows = [(one.name, "built now" if one.built else "from the cache") for one in made.values()]
        self.story.table([("IMAGE", ""), *rows])

    def start(self) -> None:
        """A cluster and a Postgres."""
        self.story.scene("A cluster, with the images loaded, and Postgres")
        self.environment.start(self.images, self._say)
        self.cluster = self.environment.cluster
        shown = self._kubectl("get", "nodes", "--output=wide")
        self.claims.add(
            "A node is Ready, with the images loaded",
            self.environment.node in shown,
            f"node {self.environment.node}",
        )

    # -- the product

    def install(self) -> None:
        """The chart, with nothing set but what this node needs."""
        self.story.scene("helm install, where pod security is enforced as `restricted`")
        operator = self.images["operator"]
        for namespace in (SYSTEM, SPACE):
            self._kubectl("create", "namespace", namespace)
            self._kubectl("label", "namespace", namespace, RESTRICTED)
        self._helm(
            "install", "stackstore", "charts/stackstore", f"--namespace={SYSTEM}",
            f"--set=image.repository={operator.repository}", f"--set=image.tag={operator.tag}",
            *self.environment.settings(),
            "--wait", f"--timeout={READY}",
        )  # fmt: skip
        self._kubectl("get", "pods", f"--namespace={SYSTEM}", "--output=wide")
        seconds = self.cluster.until("one of the operators leads", self._leader)
        pods = self._operators()
        self.claims.add(
            "Two operators run with the chart's defaults, and one leads",
            len(pods) == 2 and all(pod.ready and pod.restarts == 0 for pod in pods),
            f"{len(pods)} pods; a leader {seconds:.1f} s after they were ready",
        )

    def apply(self) -> None:
        """The quickstart's objects, and a Deployment that reads what is rendered."""
        self.story.scene("The quickstart, and a stack in a Deployment")
        environment = self.environment
        host, port = environment.address
        self._kubectl("apply", "-f", "examples/quickstart/")
        login = {
            "username": environment.user, "password": environment.password, "host": host,
            "port": str(port), "database": environment.database,
        }  # fmt: skip
        self._kubectl(
            "patch", "secret", "pg-app", "--type=merge", "--patch-file=/dev/stdin",
            stdin=json.dumps({"stringData": login}),
        )  # fmt: skip
        consumer = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat", "workers": 1}
        self._kubectl(
            "patch", "sbn", "chat", "--type=merge",
            "--patch", json.dumps({"spec": {"consumers": [consumer]}}),
        )  # fmt: skip
        deployment = yaml.safe_load((ROOT / "examples" / "deployment.yaml").read_text())
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container |= {"image": self.images["stack-example"].name, "imagePullPolicy": "IfNotPresent"}
        began = time.monotonic()
        # By then it is most likely rendered. Where it isn't, kubelet waits for Secret and ConfigMap.
        self._kubectl("apply", "-f", "-", stdin=yaml.safe_dump(deployment))
        self._kubectl(
            "wait", "--for=condition=Ready", f"--timeout={READY}",
            "sbe/sql-default", "sbe/kv-default", "sbn/chat",
        )  # fmt: skip
        rendered = time.monotonic() - began
        self._kubectl("rollout", "status", "deployment/chat", f"--timeout={READY}")
        self._kubectl("get", "sbe,sbn,pods", "--output=wide")
        self.claims.add(
            "All objects and the stack's pod become Ready",
            rendered < TOLD_SECONDS,
            f"objects {rendered:.1f} s, pod {time.monotonic() - began:.1f} s after all was applied",
        )

    def serve(self) -> None:
        """The mounts, the user, the first completion."""
        self.story.scene("What the pod sees, and what it serves")
        pod = self._chat()
        shown = self._exec(pod, "ls", "-l", "/etc/stack/config", "/etc/stack/storage")
        links = [line for line in shown.splitlines() if " -> " in line]
        self.claims.add(
            "Secret and ConfigMap are mounted as whole directories that kubelet can swap",
            len(links) >= 2
            and all(" -> ..data/" in line for line in links)
            and "config.yaml" in shown
            and "stackstore.json" in shown,
            f"{len(links)} files, each a link into ..data",
        )
        user = self._exec(pod, "id", "-u").strip()
        wrote = self._exec(pod, "sh", "-c", "touch /app/x /x 2>&1 || true")
        self.claims.add(
            "It runs as 65532, and its root is read-only",
            user == "65532" and wrote.count("Read-only file system") == 2,
            f"user {user}",
        )
        body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
        with httpx.Client(
            base_url=self.environment.url(pod), timeout=60, trust_env=False
        ) as client:
            made = client.post("/v1/chat/completions", json=body).raise_for_status().json()
            read = client.get(f"/v1/chat/completions/{made['id']}").raise_for_status().json()
        self.environment.traffic.acknowledged.append(made["id"])
        self.claims.add("A completion is read back as it was given", read == made, made["id"])

    # -- rotations

    def rotate(self) -> None:
        """Both orders."""
        environment = self.environment
        of = Rotations(
            self.cluster, environment.postgres, environment.traffic, user=environment.user,
            url=environment.url,
        )  # fmt: skip
        self.story.scene(
            "A rotation under load, the Secret first; kubelet's own sync period, up to 90 s"
        )
        first = asyncio.run(of.secret_first())
        self._tell("Secret, then role", first)
        self.claims.add(
            "Secret first: no request failed",
            first.failures == 0 and first.requests > 0,
            "; ".join([f"{first.failures} of {first.requests}", *first.report.first_failures[:1]]),
        )
        self.claims.add(
            "Secret first: a pod that starts before the role has changed is Ready",
            first.late_ready_at < first.role_at,
            f"Ready {first.late_ready_at - first.late_started_at:.1f} s after it was asked for",
        )
        self._claim_moved("Secret first", first)
        self.story.scene("And the role first")
        second = asyncio.run(of.role_first())
        self._tell("role, then Secret", second)
        slowest = max(second.report.slowest, second.more.slowest)
        words = f"the slowest request took {slowest:.2f} s; {second.failures} of {second.requests} failed"
        self.story.say(f"With the role first: {words}.")
        for text in [*second.report.first_failures, *second.more.first_failures][:3]:
            self.story.text(text)
        self._claim_moved("Role first", second)
        self.claims.add(
            "Role first: a pod that started in the middle became Ready",
            second.late.ready,
            f"{second.late_ready_at - max(second.secret_at, second.late_started_at):.1f} s "
            f"after the Secret; {words}",
        )
        seconds = self.cluster.until("all processes have adopted the new login", self._adopted)
        self._kubectl("get", "sbe,sbn", "--output=wide")
        self.claims.add("kubectl get sbe shows Adopted", True, f"{seconds:.1f} s later")
        self._claim_rows()

    def _tell(self, order: str, rotation: Rotation) -> None:
        self.story.say("Seconds count from the first of the two changes.")
        self.story.table([rotations.HEAD, rotation.row(order)])

    def _claim_moved(self, order: str, rotation: Rotation) -> None:
        self.claims.add(
            f"{order}: every connection moved to the new login, and no pod was restarted",
            rotation.moved_at is not None
            and rotation.before.restarts == rotation.late.restarts == 0
            and rotation.before.ready,
            "they did not move"
            if rotation.moved_at is None
            else f"{rotation.moved_at - max(rotation.swapped_at, rotation.role_at):.1f} s "
            "after file and role had both changed",
        )

    def _claim_rows(self) -> None:
        rows = self.environment.postgres.execute(
            "SELECT id FROM stackstore.inference_store", self.environment.database
        )
        found, promised = {row["id"] for row in rows}, set(self.environment.traffic.acknowledged)
        self.claims.add(
            "Every completion that was acknowledged is in Postgres",
            promised <= found,
            f"{len(promised)} acknowledged, {len(promised - found)} missing",
        )

    # -- the operator

    def upgrade(self) -> None:
        """A new release of the operator, while the stack serves."""
        self.story.scene("helm upgrade under load")
        pod, outputs = self._chat(), self._outputs()
        operators = {one.uid for one in self._operators()}
        load = self.environment.traffic.start(self.environment.url(pod), rotations.CLIENTS)
        self._helm(
            "upgrade", "stackstore", "charts/stackstore", f"--namespace={SYSTEM}",
            "--reuse-values", "--set=logFormat=text", "--wait", f"--timeout={READY}",
        )  # fmt: skip
        self.cluster.until("only new operators are there", lambda: len(self._operators()) == 2)
        seconds = self.cluster.until("one of the operators leads", self._leader)
        time.sleep(rotations.AROUND_SECONDS)
        report = self.environment.traffic.end(load)
        fresh = self._operators()
        self._kubectl("get", "pods", f"--namespace={SYSTEM}")
        self.claims.add(
            "helm upgrade replaces both operators, one leads",
            not operators & {one.uid for one in fresh}
            and all(one.ready for one in fresh)
            and seconds < HANDED_OVER_SECONDS,
            f"a leader {seconds:.1f} s after helm said so",
        )
        self.claims.add(
            "… and touches neither the stack nor what it reads; no request failed",
            self._chat() == pod and self._outputs() == outputs and report.failures == 0,
            f"{report.failures} of {report.requests} failed",
        )

    def lose_the_leader(self) -> None:
        """One of two goes, and the other acts."""
        self.story.scene("The pod of the operator that leads is deleted")
        leader, outputs = self._leader(), self._outputs()
        assert leader is not None  # noqa: S101 - waited for above
        self._kubectl(
            "delete", "pod", leader, f"--namespace={SYSTEM}", "--wait=false",
        )  # fmt: skip
        seconds = self.cluster.until(
            "another operator leads", lambda: self._leader() not in (leader, None)
        )
        began = time.monotonic()
        self._kubectl(
            "patch", "sbe", "sql-default", "--type=merge",
            "--patch", '{"spec": {"postgres": {"pool": {"maxOverflow": 9}}}}',
        )  # fmt: skip
        self.cluster.until("what it is told arrives", lambda: self._outputs() != outputs)
        acted = time.monotonic() - began
        self.claims.add(
            "The other operator takes over",
            seconds < HANDED_OVER_SECONDS and acted < TOLD_SECONDS,
            f"leads after {seconds:.1f} s, and acted {acted:.1f} s after a change",
        )

    # -- the end

    def drain(self) -> None:
        """First as the disruption budget allows, then without regard."""
        self.story.scene("The node is drained, and comes back")
        self._kubectl("cordon", self.environment.node)
        try:
            self._kubectl(
                "drain", self.environment.node, "--ignore-daemonsets", "--delete-emptydir-data",
                "--timeout=20s",
            )  # fmt: skip
            held = False
        except ClusterError as error:
            held = "disruption budget" in str(error)
            if not held:
                raise
            self.story.text(
                next(line for line in str(error).splitlines() if "disruption budget" in line)
            )
        ready = [pod for pod in self._operators() if pod.ready]
        self.claims.add(
            "The disruption budget keeps one operator when the only node is drained",
            held and len(ready) == 1,
            f"{len(ready)} ready",
        )
        self._kubectl(
            "drain", self.environment.node, "--ignore-daemonsets", "--delete-emptydir-data",
            "--disable-eviction", f"--timeout={READY}",
        )  # fmt: skip
        self._kubectl("uncordon", self.environment.node)
        began = time.monotonic()
        self._kubectl("rollout", "status", "deployment/chat", f"--timeout={READY}")
        self.cluster.until(
            "the operators are back", lambda: sum(pod.ready for pod in self._operators()) == 2
        )
        self.claims.add(
            "After a drain without regard everything comes back",
            True,
            f"{time.monotonic() - began:.1f} s after the node did",
        )

    def delete(self) -> None:
        """The stack, its bindings and backends."""
        self.story.scene("Everything is deleted, with the operator running")
        self._kubectl("delete", "deployment", "chat", f"--timeout={READY}")
        self._kubectl("delete", "-f", "examples/quickstart/", f"--timeout={READY}")
        outputs = ("configmap/chat-run-config", "secret/chat-storage")
        seconds = self.cluster.until(
            "the outputs are gone",
            lambda: not self.cluster.kubectl("get", *outputs, "--ignore-not-found"),
        )
        self.claims.add(
            "Nothing hangs, and the outputs go with their binding", True, f"{seconds:.1f} s"
        )

    def uninstall(self) -> None:
        """The chart; its CRDs stay until they are deleted."""
        self.story.scene("helm uninstall")
        self._helm(
            "uninstall", "stackstore", f"--namespace={SYSTEM}", "--wait", f"--timeout={READY}"
        )
        seconds = self.cluster.until("all of the chart has gone", lambda: not self._installed())
        crds = self._kubectl("get", "crd", "--output=name").split()
        self.claims.add(
            "helm uninstall takes all but the CRDs",
            len(crds) == 2,
            f"{len(crds)} CRDs are there, all else is gone after {seconds:.1f} s",
        )
        self._kubectl("delete", *crds, f"--timeout={READY}")
        began = time.monotonic()
        self._kubectl("delete", "namespace", SPACE, SYSTEM, f"--timeout={READY}")
        self.claims.add(
            "The namespaces end without the operator", True, f"{time.monotonic() - began:.1f} s"
        )

    # -- looking

    def _installed(self) -> list[str]:
        """What there is of the release, but for CRDs."""
        kinds = "all,serviceaccount,role,rolebinding,poddisruptionbudget,networkpolicy"
        own = self.cluster.kubectl("get", kinds, f"--namespace={SYSTEM}", "--output=name")
        roles = self.cluster.kubectl("get", "clusterrole,clusterrolebinding", "--output=name")
        return [name for name in (own + roles).split() if "/stackstore" in name]

    def _operators(self) -> list[Pod]:
        return [
            pod for pod in self.cluster.pods(OPERATOR, f"--namespace={SYSTEM}") if not pod.ending
        ]

    def _chat(self) -> Pod:
        (pod,) = [pod for pod in self.cluster.pods("app=chat") if not pod.ending]
        return pod

    def _leader(self) -> str | None:
        """The name of the pod that holds the Lease, if there is such a pod."""
        holder = self.cluster.kubectl(
            "get", "lease", "stackstore-operator", f"--namespace={SYSTEM}", "--ignore-not-found",
            "--output=jsonpath={.spec.holderIdentity}",
        )  # fmt: skip
        pod = holder.partition("_")[0]
        return pod if pod in {one.name for one in self._operators()} else None

    def _adopted(self) -> bool:
        status = "--output=jsonpath={.status.conditions[?(@.type=='Adopted')].status}"
        return self.cluster.kubectl("get", "sbe", "sql-default", status) == "True"

    def _outputs(self) -> list[str]:
        """Which versions of the stack's ConfigMap and Secret there are."""
        return self.cluster.kubectl(
            "get", "configmap/chat-run-config", "secret/chat-storage",
            "--output=jsonpath={.items[*].metadata.resourceVersion}",
        ).split()  # fmt: skip

    def _exec(self, pod: Pod, *command: str) -> str:
        return self._kubectl("exec", pod.name, "--", *command)

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it and show it."""
        places = [str(ROOT / word) if word.startswith("examples/") else word for word in arguments]
        shown = self.cluster.kubectl(*places, stdin=stdin)
        self.story.command(f"kubectl {' '.join(arguments)}", shown)
        return shown

    def _helm(self, *arguments: str) -> str:
        places = [str(ROOT / word) if word.startswith("charts/") else word for word in arguments]
        shown = self.cluster.helm(*places)
        self.story.command(f"helm {' '.join(arguments)}", shown)
        return shown

    def _say(self, text: str) -> None:
        self.story.say(f"  [{self.story.seconds:4.0f} s] {text}")
