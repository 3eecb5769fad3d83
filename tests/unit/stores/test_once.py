"""Work that is done once, whoever is cancelled, and again after it failed."""

import asyncio
import gc

from stackstore.errors import BackendUnavailableError
from stackstore.stores.once import Once


class Work:
    def __init__(self):
        self.began = 0
        self.trouble = None
        self.may_end = asyncio.Event()

    async def __call__(self):
        self.began += 1
        await self.may_end.wait()
        if self.trouble is not None:
            raise self.trouble


async def test_all_wait_for_one_and_nobody_takes_it_along():
    work = Work()
    once = Once(work)
    waiting = [asyncio.create_task(once()) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0.01)
    assert not once.is_done
    await once.ended(0.01)
    assert not once.is_done
    work.may_end.set()
    await once.ended(5)
    assert once.is_done
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(told[0], asyncio.CancelledError)
    assert told[1:] == [None] * 4
    await once()
    assert work.began == 1


async def test_who_comes_after_a_failure_tries_again():
    work = Work()
    work.may_end.set()
    work.trouble = BackendUnavailableError("not now")
    once = Once(work)
    told = await asyncio.gather(once(), once(), return_exceptions=True)
    assert [str(error) for error in told] == ["not now"] * 2
    assert told[0] is not told[1]
    assert work.began == 1
    assert not once.is_done
    work.trouble = None
    await once()
    assert (work.began, once.is_done) == (2, True)


async def test_a_failure_that_nobody_waits_for_is_no_news_for_the_loop():
    heard = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    work = Work()
    work.trouble = ValueError("x")
    once = Once(work)
    waiting = asyncio.create_task(once())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    work.may_end.set()
    await once.ended(5)
    del once, work, waiting
    gc.collect()
    assert heard == []


def test_another_loop_does_not_wait_for_what_this_one_does():
    async def begin(once):
        waiting = asyncio.create_task(once())
        await asyncio.sleep(0)
        return waiting

    async def again(work, once):
        work.may_end = asyncio.Event()
        work.may_end.set()
        async with asyncio.timeout(5):
            await once()

    first = asyncio.new_event_loop()
    try:
        work = Work()
        once = Once(work)
        waiting = first.run_until_complete(begin(once))
        assert not once.is_done
        asyncio.run(again(work, once))
        assert (work.began, once.is_done) == (2, True)
        waiting.cancel()
        for task in asyncio.all_tasks(first):
            task.cancel()
        first.run_until_complete(asyncio.sleep(0.01))
    finally:
        first.close()
