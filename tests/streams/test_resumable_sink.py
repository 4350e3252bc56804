"""A stream into a sink, in turns that may bring no event: where it begins and how far it has read is saved."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import attrs
import pytest
from helpers.streaming import HOUR, USERS, collect, elapsed, simulated

from agora_analytics import Checkpoint, CheckpointError, MemoryLedger, Window
from agora_analytics.simulator import World

TURN = 33.7
QUIET = World(seed=7, calls_per_hour=0)


@attrs.define
class KeptSink:
    """Events, and the checkpoint that was saved last."""

    events: list = attrs.field(factory=list)
    checkpoint: Checkpoint | None = None
    saves: int = 0

    async def save(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.saves += 1

    async def write(self, event, checkpoint: Checkpoint) -> None:
        self.events.append(event)
        self.checkpoint = checkpoint


async def work(simulation, sink: KeptSink, made, *, turn: float, hours: float) -> None:
    """Write the events of a stream, in turns of so many seconds."""
    until, ledger = elapsed() + hours * HOUR, MemoryLedger()
    while (left := until - elapsed()) > 0:
        async with simulation.client(ledger=ledger) as client, made(client) as stream:
            asyncio.get_running_loop().call_later(min(turn, left), stream.drain)
            async for event in stream:
                await sink.write(event, stream.checkpoint)


async def test_windows_that_are_final_after_many_turns_are_written():
    written = []
    for turn in (TURN, 10 * HOUR):
        sink = KeptSink()
        await work(
            simulated("enterprise"),
            sink,
            lambda client: client.realtime.watch(USERS, checkpoint=sink, only_final=True),  # noqa: B023 - at once
            turn=turn,
            hours=0.5,
        )
        assert sink.saves == 1, "where it begins; the rest is saved with the windows"
        written.append([event.ts for event in sink.events if isinstance(event, Window)])
    shorter = min(map(len, written))  # the last poll may be a little earlier
    assert shorter > 60
    assert written[0][:shorter] == written[1][:shorter]


async def test_a_follow_without_calls_is_not_read_again_from_its_begin_in_each_turn():
    simulation, sink = simulated("enterprise", world=QUIET), KeptSink()
    await work(
        simulation,
        sink,
        lambda client: client.calls.follow(checkpoint=sink, start=timedelta(minutes=10)),
        turn=TURN,
        hours=3,
    )
    assert sink.events == []
    assert sink.checkpoint.done[-1].end > simulation.clock() - 600
    assert simulation.service.counts["call_lists"] <= 3 * 60 + 10, "one request a minute"


async def test_a_consumer_that_fails_with_the_first_event_gets_it_again():
    simulation, sink = simulated("enterprise"), KeptSink()
    async with simulation.client() as client, client.realtime.watch(USERS, checkpoint=sink) as watch:
        failed = await anext(watch)  # and not written
    await asyncio.sleep(300)
    stop = int(simulation.clock())
    async with simulation.client() as client:
        events = await collect(client.realtime.watch(USERS, checkpoint=sink, stop=stop, revisions=False))
    assert [event.ts for event in events[:2]] == [failed.ts, failed.ts + 20]


async def test_a_stream_ends_before_its_next_request_when_its_sink_was_taken_over():
    class LeasedSink(KeptSink):
        name = "prod"

        def when_lost(self, on_lost) -> None:
            asyncio.get_running_loop().call_later(605, on_lost)

    simulation, sink = simulated("enterprise"), LeasedSink()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, checkpoint=sink)
        with pytest.raises(CheckpointError, match="took this stream over: the checkpoint 'prod'") as caught:
            await collect(watch)
        assert caught.value.kind == "taken_over"
        assert elapsed() == pytest.approx(605, abs=0.1)
