"""Who may speak to whom: an authority of the run's own, its certificates, tokens and kubeconfigs."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NODE = "127.0.0.1"
"""The node's name. An address as a name needs no look-up, and kubelet takes it, loopback or not."""

USERS = {
    "admin": ("admin", "system:masters"),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "kube-controller-manager": ("system:kube-controller-manager", "system:authenticated"),
    "kube-scheduler": ("system:kube-scheduler", "system:authenticated"),
}
"""User and group of each: those that a cluster has, so that RBAC and the node's limits count."""


class Identities:
    """Files of a directory, which only its owner may read.

    Attributes:
        directory: `ca.crt`, `apiserver.pem`, `kubelet.pem`, `client.pem` (certificate and key each),
            `sa.key`, `sa.pub`, `tokens.csv`, `<user>.kubeconfig`.
    """

    def __init__(self, directory: Path, api_port: int, namespace: str) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(directory / "ca.crt")
        for name, certificate in {
            "apiserver": authority.issue_cert("127.0.0.1", "10.96.0.1", "localhost"),
            "kubelet": authority.issue_cert("127.0.0.1"),
            # By which the API server asks kubelet for logs and exec.
            "client": authority.issue_cert(
                "localhost", common_name="kube-apiserver-kubelet-client"
            ),
        }.items():
            certificate.private_key_and_cert_chain_pem.write_to_path(directory / f"{name}.pem")
        self._service_accounts()
        tokens = {name: secrets.token_hex(16) for name in USERS}
        (directory / "tokens.csv").write_text(
            "".join(
                f'{tokens[name]},{user},{name},"{group}"\n' for name, (user, group) in USERS.items()
            )
        )
        for name, token in tokens.items():
            self._kubeconfig(name, token, api_port, namespace)

    def path(self, name: str) -> str:
        """Of one of the files."""
        return str(self.directory / name)

    def _service_accounts(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.directory / "sa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (self.directory / "sa.pub").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def _kubeconfig(self, name: str, token: str, api_port: int, namespace: str) -> None:
        cluster = {
            "server": f"https://127.0.0.1:{api_port}",
            "certificate-authority": self.path("ca.crt"),
        }
        context = {"cluster": "e2e", "user": name, "namespace": namespace}
        (self.directory / f"{name}.kubeconfig").write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "e2e", "cluster": cluster}],
                    "users": [{"name": name, "user": {"token": token}}],
                    "contexts": [{"name": "e2e", "context": context}],
                    "current-context": "e2e",
                }
            )
        )
