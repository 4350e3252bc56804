"""Who is cancelled while it waits for the end of a task that it has cancelled leaves no task behind."""

from __future__ import annotations

import asyncio
import re

import pytest
from helpers.paths import PACKAGE
from helpers.streaming import NOON, USERS, elapsed, simulated

from agora_analytics import MemoryCheckpoints
from agora_analytics._core.futures import cancel_and_wait
from agora_analytics.streams.checkpoints import Checkpoint, Span
from agora_analytics.streams.saver import Saver


class SlowToEnd:
    """Work that takes five seconds to end once it is cancelled, but for one that is cancelled again."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.cancellations = 0

    async def run(self) -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            self.cancellations += 1
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                self.cancellations += 1
                await asyncio.sleep(0.5)
                raise
            finally:
                self.ended.append(elapsed())


async def cancel_twice(task: asyncio.Task[None]) -> None:
    for _ in range(2):
        await asyncio.sleep(1)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_tasks_are_cancelled_again_and_have_ended_when_their_caller_goes_on():
    works = [SlowToEnd(), SlowToEnd()]
    tasks = [asyncio.create_task(work.run()) for work in works]

    await asyncio.sleep(0)
    await cancel_twice(asyncio.create_task(cancel_and_wait(*tasks)))
    assert [work.ended for work in works] == [[1.5], [1.5]]
    assert [work.cancellations for work in works] == [2, 2]
    assert [task.cancelled() for task in tasks] == [True, True]


async def test_the_errors_and_results_of_what_ends_are_its_own():
    async def fail() -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            raise ValueError("its own")

    failing, done = asyncio.create_task(fail()), asyncio.create_task(asyncio.sleep(0, 7))
    await asyncio.sleep(1)
    await cancel_and_wait(failing, done)
    await cancel_and_wait()
    assert str(failing.exception()) == "its own"
    assert done.result() == 7


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_stream_that_is_left_by_two_cancellations_has_ended_its_request(kind):
    simulation, work = simulated(), SlowToEnd()
    transport = simulation.transport()
    transport.send = lambda request, host=0: work.run()  # type: ignore[assignment, method-assign]
    async with simulation.client(transport=transport, checkpoints=MemoryCheckpoints()) as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow(start=NOON)

        async def use() -> None:
            async with stream:
                await anext(stream)

        using = asyncio.create_task(use())
        await asyncio.sleep(1)
        await cancel_twice(using)
        assert len(work.ended) == 1
        assert work.cancellations == 2
        assert stream.health.state == "stopped"
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_tasks_that_wait_for_each_other_end():
    first: asyncio.Task[None]

    async def end_the_first() -> None:
        await asyncio.sleep(1)
        await cancel_and_wait(first)

    async def end(task: asyncio.Task[None]) -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            await cancel_and_wait(task)

    second = asyncio.create_task(end_the_first())
    first = asyncio.create_task(end(second))
    await asyncio.wait({first, second}, timeout=2)
    assert (first.cancelled(), second.cancelled()) == (True, True)


async def test_a_task_that_cancels_itself_ends():
    async def end() -> None:
        await cancel_and_wait(asyncio.current_task())  # type: ignore[arg-type] - there is one
        await asyncio.sleep(10)

    task = asyncio.create_task(end())
    await asyncio.wait({task}, timeout=1)
    assert task.cancelled()


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_transport_that_closes_its_stream_ends_it(kind):
    """Such as one that has noticed that its credentials were revoked."""
    simulation = simulated()
    transport = simulation.transport()
    send = transport.send

    async def close(request, host=0):
        await stream.aclose()
        return await send(request, host)

    transport.send = close  # type: ignore[method-assign]
    async with simulation.client(transport=transport, checkpoints=MemoryCheckpoints()) as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow(start=NOON)
        async with asyncio.timeout(100), stream:
            assert [event async for event in stream] == []
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("outage", [None, OSError("the disk is full")])
async def test_what_a_cancelled_save_left_is_saved_by_a_close_that_is_cancelled_too(outage):
    saved = []

    async def save(checkpoint: Checkpoint) -> None:
        await asyncio.sleep(10)
        saved.append(checkpoint.done[0].end)
        if outage:
            raise outage

    saver = Saver(save, 60.0)
    await saver.put(Checkpoint(stream="s", done=(Span(0, 7),)))
    await asyncio.sleep(1)
    (saving,) = asyncio.all_tasks() - {asyncio.current_task()}
    closing = asyncio.create_task(saver.close())
    await asyncio.sleep(1)
    saving.cancel()  # as a loop does to all tasks when it ends
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert saved == [7]


def test_every_wait_for_a_cancelled_task_is_by_the_one_rule():
    waits = re.compile(r"\.cancel\(\)\n(?:\s*#.*\n)*\s*await (asyncio\.(wait|gather)|wait_until_done)\((?!.*timeout=)")
    found = [path.name for path in PACKAGE.rglob("*.py") if waits.search(path.read_text(encoding="utf-8"))]
    assert found == ["futures.py"]
