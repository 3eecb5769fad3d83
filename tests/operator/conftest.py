"""The control plane of a worker, with our CRDs, and a namespace of its own for each test.

One plane a worker and session, started by the first test that asks: the plain one for what only
talks to the API server, the one with controllers for what waits until namespaces and owned objects
are gone.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator

import pytest
import trustme
import yaml

from stackstore_operator.api import crd
from tests.support.controlplane import ControlPlane
from tests.support.operator import OWN_NAMESPACE, Api, OperatorProcess


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd and kube-apiserver with our CRDs."""
    yield from _plane(controllers=False)


@pytest.fixture(scope="session")
def full_control_plane() -> Iterator[ControlPlane]:
    """The same with the controllers that end namespaces and collect what has lost its owners."""
    yield from _plane(controllers=True)


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A fresh namespace of `control_plane`; it goes with the plane."""
    return new_namespace(control_plane)


@pytest.fixture
def full_namespace(full_control_plane: ControlPlane) -> str:
    """A fresh namespace of `full_control_plane`."""
    return new_namespace(full_control_plane)


def new_namespace(plane: ControlPlane, **labels: str) -> str:
    """Make a namespace and return its name."""
    name = f"t-{secrets.token_hex(5)}"
    metadata = {"name": name, "labels": labels}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    plane.kubectl("create", "-f", "-", stdin=json.dumps(namespace))
    return name


def _plane(*, controllers: bool) -> Iterator[ControlPlane]:
    plane = ControlPlane.start()
    try:
        plane.kubectl("create", "-f", "-", stdin="---\n".join(crd.files().values()))
        _wait_until_known(plane)
        if controllers:
            plane.start_controllers()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="module")
def operator(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One operator process a module, cluster-wide on `control_plane`.

    No longer than its module: others write statuses themselves, and it would put them right.
    """
    control_plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN_NAMESPACE}}
    )
    process = OperatorProcess(control_plane, tmp_path_factory.mktemp("operator")).start()
    process.wait_until_up()
    yield process
    assert process.stop() == 0, process.log()
    # Nothing that went wrong unnoticed: whatever a look raises is told as a warning with its type.
    assert "Traceback" not in process.log()


@pytest.fixture(scope="module")
def hasty(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One operator a module, with short waits."""
    control_plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN_NAMESPACE}}
    )
    directory = tmp_path_factory.mktemp("hasty")
    process = OperatorProcess(control_plane, directory, module="tests.support.hasty").start()
    process.wait_until_up()
    yield process
    assert process.stop() == 0, process.log()
    assert "Traceback" not in process.log()


@pytest.fixture
def api(control_plane: ControlPlane, operator: OperatorProcess, namespace: str) -> Iterator[Api]:
    """A namespace that the operator serves."""
    made = Api(control_plane, namespace)
    yield made
    # The namespace stays (nothing here ends it), but what the operator works on goes.
    made.clear()
    made.close()


@pytest.fixture
def other(control_plane: ControlPlane, operator: OperatorProcess) -> Iterator[Api]:
    """A second namespace beside `api`."""
    made = Api(control_plane, new_namespace(control_plane))
    yield made
    for obj in made.list("StorageBackend"):
        made.delete("StorageBackend", obj["metadata"]["name"])
    made.close()


@pytest.fixture(scope="session")
def certificate() -> str:
    """PEM text of some authority."""
    return trustme.CA().cert_pem.bytes().decode()


def _wait_until_known(plane: ControlPlane) -> None:
    """Until the API server serves our kinds and tells of them: the two come one after the other."""
    kinds = [yaml.safe_load(text)["spec"]["names"]["plural"] for text in crd.files().values()]
    deadline = time.monotonic() + 30
    for kind in kinds:
        while plane.kubectl(
            "get", kind, check=False
        ) != "No resources found in default namespace.\n" or (
            "GROUP:" not in plane.kubectl("explain", kind, check=False)
        ):
            assert time.monotonic() < deadline, plane.kubectl("explain", kind, check=False)
            time.sleep(0.1)
