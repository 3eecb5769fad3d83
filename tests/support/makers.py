"""Secrets as other operators and charts make them (tests/fixtures/makers), with what has to come of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parents[1] / "fixtures" / "makers"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.yaml"))


@dataclass(frozen=True)
class Made:
    """One of them, in a namespace.

    Attributes:
        secret: the object as its maker applies it.
        postgres: `spec.postgres` of the smallest backend that goes with it.
        gives: the parts of the login; empty when it gives none.
        lacks: what the condition says then.
        says: what else the condition says, beside where the login is from.
        binding: whether it is handed on as a provisioned service.
    """

    secret: dict[str, Any]
    postgres: dict[str, Any]
    gives: dict[str, Any]
    lacks: str
    says: list[str]
    binding: bool

    @property
    def name(self) -> str:
        """The Secret's."""
        return str(self.secret["metadata"]["name"])

    @property
    def backend(self) -> dict[str, Any]:
        """The spec of a StorageBackend."""
        return {
            "type": "sql_postgres",
            "postgres": self.postgres,
            "credentials": {"secretRef": {"name": self.name}},
        }


def made(name: str, namespace: str) -> Made:
    """The fixture of that name, as it is in a namespace."""
    text = (DIRECTORY / f"{name}.yaml").read_text().replace("my-namespace", namespace)
    secret, backend, expected = yaml.safe_load_all(text)
    return Made(
        secret=secret,
        postgres=backend["postgres"],
        gives=expected.get("gives", {}),
        lacks=expected.get("lacks", ""),
        says=expected.get("says", []),
        binding=expected.get("binding", False),
    )
