"""Streams that their consumer leaves: nothing stays behind, and nothing is logged."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing, suppress

import pytest
from helpers.streaming import HOUR, NOON, USERS, consume, left_nothing_behind, simulated

from agora_analytics import MemoryCheckpoints
from agora_analytics.simulator import VirtualLoop


async def _with(stream) -> None:
    async with stream as events:
        assert await anext(events)


async def _closing(stream) -> None:
    async with aclosing(stream) as events:
        assert await anext(events)


async def _broken_off(stream) -> None:
    async for _ in stream:
        break


async def _cancelled(stream) -> None:
    task = asyncio.create_task(consume(stream, []))
    await asyncio.sleep(1_000)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _given_up(stream) -> None:
    with suppress(TimeoutError):
        while True:
            await asyncio.wait_for(anext(stream), 1)


@pytest.mark.parametrize("kind", ["watch", "follow"])
@pytest.mark.parametrize("left", [_with, _closing, _broken_off, _cancelled, _given_up], ids=lambda way: way.__name__)
async def test_a_stream_leaves_nothing_behind_however_it_is_left(left, kind):
    simulation = simulated()
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client:

        def stream():
            if kind == "watch":
                return client.realtime.watch(USERS, checkpoint="prod")
            return client.calls.follow(start=NOON - HOUR, checkpoint="prod")

        await left(stream())
        gc.collect()
        assert await left_nothing_behind(client)
        async with stream() as again:  # the name is free
            assert await anext(again)
        assert await left_nothing_behind(client)


@pytest.mark.parametrize("kind", ["watch", "follow"])
def test_an_open_stream_logs_nothing_when_its_loop_ends(kind, caplog):
    kept = []

    async def leave() -> None:
        async with simulated().client(checkpoints=MemoryCheckpoints()) as client:
            stream = client.realtime.watch(USERS, checkpoint="prod")
            if kind == "follow":
                stream = client.calls.follow(start=NOON - HOUR, checkpoint="prod", with_sessions=True)
            kept.append(stream)
            await _broken_off(stream)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(leave())
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelname == "ERROR"] == []


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_stream_dropped_while_its_client_closes_logs_nothing(kind, caplog):
    async with simulated().client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow(with_sessions=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(900):
                await _to_the_end(stream)
        del stream  # the collector cancels its task in the turn in which the client refuses its request
    await asyncio.sleep(1)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def _to_the_end(stream) -> None:
    async for _ in stream:
        pass
