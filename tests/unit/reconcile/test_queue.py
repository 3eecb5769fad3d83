"""The queue of looks: coalescing, one at a time for a key, patient with failures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from stackstore_operator.kube.client import ApiError
from stackstore_operator.reconcile.queue import Queue


@contextlib.asynccontextmanager
async def running(
    work: Callable[[str], Awaitable[float | None]], workers: int = 4
) -> AsyncIterator[Queue[str]]:
    queue: Queue[str] = Queue(work, workers)
    task = asyncio.create_task(queue.run())
    yield queue
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_key_that_is_asked_for_often_is_looked_at_once_more():
    seen: list[str] = []
    going = asyncio.Event()

    async def work(key: str) -> None:
        seen.append(key)
        await going.wait()

    async with running(work) as queue:
        for _ in range(10):
            queue.add("a")
        await until(lambda: seen == ["a"])
        for _ in range(10):
            queue.add("a")
        queue.add("b")
        await until(lambda: "b" in seen)
        assert seen.count("a") == 1, "never two at once of one key"
        going.set()
        await until(lambda: seen.count("a") == 2)
        await asyncio.sleep(0.05)
        assert seen.count("a") == 2


async def test_one_that_fails_is_tried_again_and_hinders_no_other(caplog):
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)
        if key == "bad" and seen.count("bad") < 3:
            raise ApiError(500, "PATCH x: no") if seen.count("bad") == 1 else ValueError("s3cret")

    async with running(work, workers=1) as queue:
        queue.add("bad")
        queue.add("good")
        await until(lambda: "good" in seen)
        await until(lambda: seen.count("bad") == 3)
        await asyncio.sleep(0.7)
        assert seen.count("bad") == 3, "after a success it is left alone"
    assert "ApiError: PATCH x: no" in caplog.text
    assert "ValueError" in caplog.text
    assert "s3cret" not in caplog.text, "others' errors may quote what they were given"


async def test_delays_grow_with_failures_and_start_anew_after_a_success():
    times: list[float] = []
    delays: list[float] = []
    loop = asyncio.get_running_loop()

    async def work(key: str) -> None:
        times.append(loop.time())
        if len(times) not in (3, 4):
            raise ApiError(0, "no")

    async with running(work) as queue:
        real = queue.add_after

        def noted(key: str, seconds: float) -> None:
            delays.append(seconds)
            real(key, seconds)

        queue.add_after = noted
        queue.add("a")
        await until(lambda: len(times) == 3)
        queue.add("a")
        queue.add("a")
        await until(lambda: len(times) >= 4)
        queue.add("a")
        await until(lambda: len(times) >= 6)
    # How much later than that is the machine's business.
    first, second, third, *_ = times
    assert second - first > 0.15
    assert third - second > 0.4
    assert delays[:2] == [0.2, 0.5]
    assert delays[2] == 0.2, "the count of failures was forgotten"


async def test_the_earlier_of_two_times_wins():
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def work(key: str) -> float | None:
        times.append(loop.time())
        return 60.0 if len(times) == 1 else None

    async with running(work) as queue:
        queue.add("a")
        await until(lambda: len(times) == 1)
        queue.add_after("a", 0.1)
        queue.add_after("a", 30)
        await until(lambda: len(times) == 2)
    assert 0.05 < times[1] - times[0] < 20
