"""A real Kubernetes control plane on loopback: etcd, kube-apiserver and, if asked, its controllers."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import secrets
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from hack import tools
from tests.support.postgres import die_with_parent, free_port

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class ControlPlane:
    """etcd and kube-apiserver; `start()` makes one, `stop()` leaves nothing behind."""

    def __init__(self, binaries: Mapping[str, Path]) -> None:
        self.binaries = binaries
        self.directory = Path(tempfile.mkdtemp(prefix="ssk-"))
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.audit_log = self.directory / "audit.log"
        self._etcd_port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tokens: dict[str, tuple[str, str]] = {}

    @classmethod
    def start(cls, *, controllers: bool = False) -> ControlPlane:
        """Start one (about four seconds); with `controllers`, namespaces end and garbage goes."""
        names = ["etcd", "kube-apiserver", "kubectl"]
        if controllers:
            names.append("kube-controller-manager")
        plane = cls(tools.find(names))
        try:
            plane._prepare()
            plane._start_etcd()
            plane.start_apiserver()
            if controllers:
                plane.start_controllers()
        except BaseException:
            plane.stop()
            raise
        return plane

    # -- files

    def _prepare(self) -> None:
        key, certificate = _self_signed()
        (self.directory / "tls.key").write_bytes(key)
        (self.directory / "tls.crt").write_bytes(certificate)
        (self.directory / "sa.key").write_bytes(_private_key())
        (self.directory / "audit.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
        self._tokens["admin"] = (secrets.token_hex(16), "system:masters")
        # The token file is read at start only: a few users are made beforehand and given out.
        for number in range(64):
            self._tokens[f"user-{number}"] = (secrets.token_hex(16), "")
        lines = [
            f'{token},{user},{user},"{group}"' for user, (token, group) in self._tokens.items()
        ]
        (self.directory / "tokens.csv").write_text("\n".join(lines) + "\n")
        self._free_users = [user for user in self._tokens if user != "admin"]

    def kubeconfig(self, user: str = "admin", namespace: str = "default") -> Path:
        """A kubeconfig file of a user."""
        path = self.directory / f"{user}.{namespace}.kubeconfig"
        certificate = base64.b64encode((self.directory / "tls.crt").read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "c",
                    "cluster": {"server": self.url, "certificate-authority-data": certificate},
                }
            ],
            "users": [{"name": user, "user": {"token": self._tokens[user][0]}}],
            "contexts": [
                {"name": "c", "context": {"cluster": "c", "user": user, "namespace": namespace}}
            ],
            "current-context": "c",
        }
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    def user(
        self,
        rules: Sequence[Mapping[str, Any]],
        *,
        namespace: str = "",
        own_rules: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """A user who may do exactly what these RBAC rules say; returns its name.

        Args:
            rules: what it may do everywhere.
            namespace: where it may do more; it is made if it isn't there.
            own_rules: what it may do there besides.
        """
        name = self._free_users.pop()
        self.grant(name, rules)
        if own_rules:
            self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            self.grant(name, own_rules, namespace)
        return name

    def grant(self, user: str, rules: Sequence[Mapping[str, Any]], namespace: str = "") -> None:
        """Let a user do what these RBAC rules say, in one namespace or everywhere."""
        place = {"namespace": namespace} if namespace else {}
        kind = "Role" if namespace else "ClusterRole"
        about = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": {"name": user, **place},
        }
        group = {"apiGroup": "rbac.authorization.k8s.io"}
        self.apply(
            {**about, "kind": kind, "rules": list(rules)},
            {
                **about,
                "kind": f"{kind}Binding",
                "roleRef": {**group, "kind": kind, "name": user},
                "subjects": [{**group, "kind": "User", "name": user}],
            },
        )

    def service_account(self, namespace: str, name: str) -> str:
        """A service account that is there, as a user with a token of its own; returns its user name."""
        user = f"system:serviceaccount:{namespace}:{name}"
        token = self.kubectl("create", "token", name, "-n", namespace, "--duration=1h").strip()
        self._tokens[user] = (token, "")
        return user

    # -- processes

    def _spawn(self, name: str, arguments: Sequence[str]) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [self.binaries[name], *arguments],
                stdout=log, stderr=log, cwd=self.directory, preexec_fn=die_with_parent,
            )  # fmt: skip

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{free_port()}"
        self._spawn("etcd", [
            "--name=default", f"--data-dir={self.directory / 'etcd'}", "--unsafe-no-fsync",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}", "--log-level=error",
        ])  # fmt: skip

    def start_apiserver(self) -> None:
        """Start kube-apiserver and wait until it is ready."""
        at = self.directory
        self._spawn("kube-apiserver", [
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/24", "--authorization-mode=RBAC",
            f"--tls-cert-file={at / 'tls.crt'}", f"--tls-private-key-file={at / 'tls.key'}",
            f"--token-auth-file={at / 'tokens.csv'}", "--service-account-issuer=https://stackstore.test",
            f"--service-account-key-file={at / 'sa.key'}",
            f"--service-account-signing-key-file={at / 'sa.key'}",
            "--disable-admission-plugins=ServiceAccount",
            f"--audit-policy-file={at / 'audit.yaml'}", f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking", "--watch-cache=true", "--v=0",
        ])  # fmt: skip
        self._wait_ready()

    def start_controllers(self) -> None:
        """Start kube-controller-manager.

        The garbage collector asks only now and every 30 s which kinds there are: with CRDs, start
        it after them.
        """
        self.binaries = {**self.binaries, **tools.find(["kube-controller-manager"])}
        self._spawn("kube-controller-manager", [
            f"--kubeconfig={self.kubeconfig()}", "--leader-elect=false", "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--controllers=namespace-controller,garbage-collector-controller",
        ])  # fmt: skip

    def _wait_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self.directory / "tls.crt"))
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self._tokens['admin'][0]}"}
        )
        deadline = time.monotonic() + 60
        while True:
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(request, timeout=2, context=context),
            ):
                return
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended:\n{self.log(name)[-3000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"kube-apiserver is not ready:\n{self.log('kube-apiserver')[-3000:]}"
                )
            time.sleep(0.05)

    def stop_apiserver(self) -> None:
        """End kube-apiserver; etcd keeps what there is."""
        self._end("kube-apiserver")

    def kill_apiserver(self) -> None:
        """kill -9, in the middle of whatever it does."""
        process = self._processes.pop("kube-apiserver")
        process.kill()
        process.wait()

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            # Long-running watches would keep the API server for a minute.
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End every process and remove every file."""
        for name in reversed(list(self._processes)):
            self._end(name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    # -- use

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True, user: str = "admin"
    ) -> str:
        """Run kubectl; returns what it printed, and with check=False also its errors."""
        done = subprocess.run(
            [
                self.binaries["kubectl"], f"--kubeconfig={self.kubeconfig(user)}",
                # Not the user's own: it would outlive this plane, and speak for the next on its port.
                f"--cache-dir={self.directory / 'kube-cache'}", *arguments,
            ],
            input=stdin, capture_output=True, text=True, check=False, cwd=self.directory,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, *objects: Mapping[str, Any], namespace: str | None = None) -> None:
        """`kubectl apply` of these objects."""
        place = ["--namespace", namespace] if namespace else []
        self.kubectl("apply", *place, "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """An object as JSON, or None."""
        shown = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] | None = json.loads(shown) if shown.strip() else None
        return found

    def audit(self, **equal: str) -> Iterator[dict[str, Any]]:
        """Audit events with these fields (`verb`, `username`)."""
        for line in self.audit_log.read_text().splitlines():
            event = json.loads(line)
            flat = {"verb": event["verb"], "username": event["user"].get("username", "")}
            if all(flat[key] == value for key, value in equal.items()):
                yield event


def _private_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _self_signed() -> tuple[bytes, bytes]:
    import ipaddress

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stackstore-test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return pem, certificate.public_bytes(serialization.Encoding.PEM)
