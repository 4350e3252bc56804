"""A stream that its consumer leaves, in any way, leaves no task, lease or reservation behind and logs nothing."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing, suppress

import pytest
from helpers.streaming import HOUR, NOON, USERS, consume, left_nothing_behind, simulated

from agora_analytics import MemoryCheckpoints
from agora_analytics.simulator import VirtualLoop


async def _in_async_with(stream) -> None:
    async with stream as events:
        assert await anext(events)


async def _in_aclosing(stream) -> None:
    async with aclosing(stream) as events:
        assert await anext(events)


async def _by_break(stream) -> None:
    async for _ in stream:
        break


async def _by_cancellation(stream) -> None:
    task = asyncio.create_task(consume(stream, []))
    await asyncio.sleep(1_000)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _by_timeout(stream) -> None:
    with suppress(TimeoutError):
        while True:
            await asyncio.wait_for(anext(stream), 1)


@pytest.mark.slow_except("by_cancellation-follow", "by_cancellation-watch", "by_break-follow", "in_aclosing-watch")
@pytest.mark.parametrize("kind", ["watch", "follow"])
@pytest.mark.parametrize(
    "leave",
    [_in_async_with, _in_aclosing, _by_break, _by_cancellation, _by_timeout],
    ids=lambda leave: leave.__name__.strip("_"),
)
async def test_a_stream_leaves_nothing_behind_however_it_is_left(leave, kind):
    simulation = simulated()
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client:

        def stream():
            if kind == "watch":
                return client.realtime.watch(USERS, checkpoint="prod")
            return client.calls.follow(start=NOON - HOUR, checkpoint="prod")

        await leave(stream())
        gc.collect()
        assert await left_nothing_behind(client)
        async with stream() as again:  # the lease is free
            assert await anext(again)
        assert await left_nothing_behind(client)


@pytest.mark.parametrize("kind", ["watch", "follow"])
def test_an_open_stream_logs_nothing_when_its_loop_ends(kind, caplog):
    streams = []

    async def run() -> None:
        async with simulated().client(checkpoints=MemoryCheckpoints()) as client:
            stream = client.realtime.watch(USERS, checkpoint="prod")
            if kind == "follow":
                stream = client.calls.follow(start=NOON - HOUR, checkpoint="prod", with_sessions=True)
            streams.append(stream)
            await _by_break(stream)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelname == "ERROR"] == []


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_stream_dropped_while_its_client_closes_logs_nothing(kind, caplog):
    async with simulated().client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow(with_sessions=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(900):
                await consume(stream, [])
        del stream  # garbage collection cancels its task in the iteration in which the closed client fails its request
    await asyncio.sleep(1)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
