"""What a watch tells, and of what it keeps quiet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from stackstore_operator.kube import watch as module
from stackstore_operator.kube.client import ApiError


class Server:
    """Answers lists and watches from a script; waits when it is at its end."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.done = asyncio.Event()

    async def list_metadata(
        self, kind: str, namespace: str | None, **_: Any
    ) -> tuple[Sequence[Any], str]:
        return await self._next(), "1"

    async def watch_metadata(
        self, kind: str, namespace: str | None, since: str, **_: Any
    ) -> AsyncIterator[tuple[str, Any]]:
        for event in await self._next():
            yield event

    async def _next(self) -> Any:
        if not self.script:
            self.done.set()
            await asyncio.Event().wait()
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def item(name: str, version: int, generation: int | None = None) -> dict[str, Any]:
    made = {"namespace": "a", "name": name, "resourceVersion": str(version)}
    return made if generation is None else {**made, "generation": generation}


async def told(server: Server, **options: Any) -> list[str]:
    names: list[str] = []
    task = asyncio.create_task(
        module.watch(server, "K", None, lambda _, item, __: names.append(item["name"]), **options)  # type: ignore[arg-type]
    )
    await asyncio.wait_for(server.done.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return names


EVENTS = [
    ("MODIFIED", item("x", 2, 1)),  # its status
    ("MODIFIED", item("x", 3, 2)),  # its spec
    ("ADDED", item("y", 4, 1)),
    ("DELETED", item("y", 5, 1)),
    ("ADDED", item("y", 6, 1)),
]


async def test_every_change_is_told():
    assert await told(Server([item("x", 1, 1)], EVENTS)) == ["x", "x", "x", "y", "y", "y"]


async def test_of_a_spec_alone_the_status_is_no_news():
    assert await told(Server([item("x", 1, 1)], EVENTS), spec_only=True) == [
        "x",
        "x",
        "y",
        "y",
        "y",
    ]


async def test_where_generations_are_not_counted_everything_is_news():
    events = [("MODIFIED", item("x", 2)), ("MODIFIED", item("x", 3, 0))]
    assert await told(Server([item("x", 1)], events), spec_only=True) == ["x", "x", "x"]


async def test_a_kind_that_nobody_serves_is_waited_for_in_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(module, "ABSENT_SECONDS", 0.0)
    gone = ApiError(404, "the server could not find the requested resource")
    # It comes, it goes while it is watched, and what was there is told as gone.
    server = Server(gone, gone, [item("x", 1)], gone, gone, [item("y", 2)])
    assert await told(server, optional=True) == ["x", "x", "y"]
    assert caplog.text == ""


async def test_what_is_gone_is_told_as_gone_with_what_is_known_of_it() -> None:
    labelled = {**item("x", 1), "labels": {"a": "b"}}
    server = Server([labelled, item("y", 1)], [("DELETED", {**labelled, "resourceVersion": "2"})],
                    ApiError(410, "too old"), [])  # fmt: skip
    seen: list[Any] = []
    task = asyncio.create_task(module.watch(server, "K", None, lambda *told: seen.append(told)))  # type: ignore[arg-type]
    await asyncio.wait_for(server.done.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert seen == [
        ("K", labelled, False),
        ("K", item("y", 1), False),
        ("K", {**labelled, "resourceVersion": "2"}, True),
        # Nobody saw it go.
        ("K", {"namespace": "a", "name": "y"}, True),
    ]


async def test_a_final_refusal_ends_it() -> None:
    server = Server(ApiError(500, "later"), ApiError(403, "no"))
    with pytest.raises(ApiError, match="no"):
        await asyncio.wait_for(
            module.watch(server, "K", None, lambda *_: None, final=frozenset({403})),  # type: ignore[arg-type]
            20,
        )
