"""What is read of the workloads that a stack names, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from stackstore_operator.kube import workloads
from stackstore_operator.kube.client import ApiError
from stackstore_operator.kube.workloads import Workload, Workloads

OWNED = {"metadata": {"name": "made", "uid": "d", "ownerReferences": [{"uid": "u"}]}}
OBJECTS: dict[tuple[str, str], Any] = {
    ("Deployment", "chat"): {"metadata": {"name": "chat", "uid": "c"}},
    ("DaemonSet", "each"): {"metadata": {"name": "each", "uid": "e"}},
    ("OGXServer", "made"): {"metadata": {"name": "made", "uid": "u"}},
    ("Deployment", "made"): OWNED,
}
SCALER = {"metadata": {"name": "scaler"}}


class Server:
    """An API server that holds these objects and refuses some kinds."""

    def __init__(self, *, refuses: tuple[str, ...] = (), status: int = 403, **more: Any) -> None:
        self.refuses = refuses
        self.status = status
        self.asked: list[str] = []
        self.objects = {**OBJECTS, **{("Deployment", name): obj for name, obj in more.items()}}

    async def get(self, kind: str, namespace: str, name: str) -> Any:
        self._ask(kind)
        return self.objects.get((kind, name))

    async def list(self, kind: str, namespace: str) -> list[Any]:
        self._ask(kind)
        return [SCALER]

    def _ask(self, kind: str) -> None:
        self.asked.append(kind)
        if kind in self.refuses:
            raise ApiError(self.status, "no")


async def read(server: Server, *names: tuple[str, str]) -> Workloads:
    return await workloads.read(server, "a", names)  # type: ignore[arg-type]


async def test_what_is_there_is_read_with_what_scales_it():
    found = await read(Server(), ("Deployment", "chat"), ("StatefulSet", "gone"))
    chat = Workload(OBJECTS["Deployment", "chat"])
    assert found == Workloads(
        {("Deployment", "chat"): chat, ("StatefulSet", "gone"): Workload()}, (SCALER,)
    )


async def test_nothing_more_is_asked_than_is_named():
    for names, asked in (
        ((), []),
        ([("StatefulSet", "gone")], ["StatefulSet"]),
        ([("DaemonSet", "each")], ["DaemonSet"]),  # nothing scales it
        ([("Rollout", "x")], []),
    ):
        server = Server()
        await read(server, *names)
        assert server.asked == asked


async def test_of_another_operators_kind_the_deployment_it_made_is_read_too():
    named = ("OGXServer", "made")
    assert (await read(Server(), named)).by_name[named] == Workload(OBJECTS[named], OWNED)
    # One that only has the same name is somebody else's.
    foreign = {"metadata": {"name": "made", "uid": "x"}}
    assert (await read(Server(made=foreign), named)).by_name[named] == Workload(OBJECTS[named])


@pytest.mark.parametrize("refused", ["OGXServer", "Deployment", workloads.AUTOSCALER])
async def test_what_may_not_be_read_is_refused_and_ends_no_look(refused):
    named = ("OGXServer", "made")
    found = await read(Server(refuses=(refused,)), named)
    assert found == Workloads({named: Workload(refused=True)})
    # An API server that can't answer is another matter.
    with pytest.raises(ApiError):
        await read(Server(refuses=(refused,), status=500), named)
