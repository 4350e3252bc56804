"""Waiting for a stream, stopping and closing it: no event is lost, and nothing is left behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from helpers.ledgers import FailingLedger, SlowLedger
from helpers.streaming import (
    DAY,
    HOUR,
    NOON,
    USERS,
    collect,
    consume,
    consume_for,
    elapsed,
    is_contiguous,
    left_nothing_behind,
    of_type,
    simulated,
    timestamps,
)

from agora_analytics import (
    CallFinished,
    CallStarted,
    FileCheckpoints,
    FileLedger,
    MemoryCheckpoints,
    Window,
)
from agora_analytics.simulator import Fault, Faults, VirtualLoop


@pytest.mark.slow_except("wait_for-30", "cancelled-30")
@pytest.mark.parametrize("seconds", [1, 30])
@pytest.mark.parametrize("way", ["wait_for", "cancelled"])
async def test_timeouts_around_anext_lose_no_event_and_cost_no_request(seconds, way):
    async def watch_with_timeouts(simulation) -> list:
        events = []
        async with simulation.client() as client, client.realtime.watch(USERS, start=NOON) as watch:
            while elapsed() < 3 * HOUR:
                if way == "wait_for":
                    with suppress(TimeoutError):
                        events.append(await asyncio.wait_for(anext(watch), seconds))
                else:
                    task = asyncio.create_task(anext(watch))
                    await asyncio.wait([task], timeout=seconds)
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        events.append(await task)
        return events

    simulation, other = simulated(), simulated(at=NOON)
    events = await watch_with_timeouts(simulation)
    assert of_type(Window, events) == events
    assert is_contiguous(events, NOON)
    assert len(events) > 520
    async with other.client() as client:
        await collect(client.realtime.watch(USERS, start=NOON + 3 * HOUR, stop=events[-1].span.end + 3 * HOUR))
    assert sum(simulation.service.counts.values()) <= sum(other.service.counts.values()) + 2


async def test_an_event_enters_the_checkpoint_only_once_it_was_received():
    simulation = simulated()
    async with simulation.client() as client, client.realtime.watch(USERS, start=NOON) as watch:
        first = await anext(watch)
        timeouts = 0
        while not simulation.service.log or simulation.service.log[-1].at < NOON + 300:
            try:
                first = await asyncio.wait_for(anext(watch), 1)
            except TimeoutError:
                timeouts += 1
        assert timeouts > 100
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(600)  # the event arrives, and nobody receives it
        assert watch.checkpoint.done == (type(first.span)(NOON, first.span.end),)
        event = await anext(watch)
        assert event.ts == first.span.end
        assert watch.checkpoint.done[0].end == event.span.end


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_an_error_of_closing_is_raised_and_the_name_is_released(kind):
    ledger, store = FailingLedger(error=OSError), MemoryCheckpoints()
    async with simulated().client(ledger=ledger, checkpoints=store) as client:
        stream = client.realtime.watch(USERS, start=NOON - HOUR, checkpoint="prod")
        if kind == "follow":
            stream = client.calls.follow(start=NOON - HOUR, checkpoint="prod")
        while not any(state.expected for state in await client.quota.snapshot()):  # until it reserves requests
            await anext(stream)
        ledger.fail()
        with pytest.raises(OSError, match="the disk is full"):
            await stream.aclose()
        assert stream.health.state == "stopped"
        await store.acquire("prod")


async def test_two_concurrent_consumers_are_refused():
    simulation = simulated()
    async with simulation.client() as client, client.realtime.watch(USERS) as watch:
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"broadcast\(\)"):
            await anext(watch)
        first = await waiting
        assert (await anext(watch)).ts == first.ts + 20


@pytest.mark.parametrize("way", ["stop", "aclose"])
async def test_iteration_stays_ended(way):
    simulation = simulated()
    async with simulation.client() as client:
        for stream in (client.realtime.watch(USERS), client.calls.follow(start=NOON - HOUR)):
            await anext(stream)
            stream.stop() if way == "stop" else await stream.aclose()
            for _ in range(2):
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
            assert stream.health.state == "stopped"
        assert await left_nothing_behind(client)


async def test_closing_a_stream_ends_the_wait_of_another_task():
    simulation = simulated()
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, every=HOUR)
        consumer = asyncio.create_task(collect(watch))
        await asyncio.sleep(100)
        await watch.aclose()
        assert len(await consumer) == 1
        assert await left_nothing_behind(client)


def _sleeping_between_polls(simulation, client):
    return client.realtime.watch(USERS, start=NOON, every=HOUR, checkpoint="prod"), 1_000


def _before_the_first_poll(simulation, client):
    return client.realtime.watch(USERS, start=NOON, checkpoint="prod"), 0


def _in_the_first_request(simulation, client):
    simulation.faults = Faults.always(Fault("slow", seconds=25))
    return client.realtime.watch(USERS, start=NOON, checkpoint="prod"), 10


def _waiting_for_quota(simulation, client):
    asyncio.get_running_loop().call_later(600, simulation.service.spend, "realtime", 480)
    return client.realtime.watch(USERS, start=NOON, checkpoint="prod"), 3 * HOUR


def _between_retries(simulation, client):
    simulation.faults = Faults.outage(NOON + 500, NOON + DAY, Fault("busy", retry_after=30))
    return client.realtime.watch(USERS, start=NOON, checkpoint="prod"), 700


def _in_a_slow_request(simulation, client):
    simulation.faults = Faults.outage(NOON + 500, NOON + DAY, Fault("slow", seconds=25))
    return client.realtime.watch(USERS, start=NOON, checkpoint="prod"), "realtime_usage"


def _follow_sleeping_between_polls(simulation, client):
    return client.calls.follow(start=NOON - HOUR, every=1_000, checkpoint="prod"), 900


def _follow_waiting_for_quota(simulation, client):
    asyncio.get_running_loop().call_later(600, simulation.service.spend, "call_lists", 100_000)
    return client.calls.follow(start=NOON - HOUR, checkpoint="prod"), 3 * HOUR


def _follow_in_a_slow_request(simulation, client):
    simulation.faults = Faults.outage(NOON + 500, NOON + DAY, Fault("slow", seconds=25)).only("call_lists")
    return client.calls.follow(start=NOON - HOUR, checkpoint="prod"), "call_lists"


def _requesting_sessions(simulation, client):
    simulation.faults = Faults.outage(NOON + 500, NOON + DAY, Fault("slow", seconds=25)).only("call_sessions")
    return client.calls.follow(start=NOON - HOUR, with_sessions=True, checkpoint="prod"), "call_sessions"


def _sessions_waiting_for_quota(simulation, client):
    asyncio.get_running_loop().call_later(600, simulation.service.spend, "call_details", 100_000)
    return client.calls.follow(start=NOON - HOUR, with_sessions=True, checkpoint="prod"), 3 * HOUR


SITUATIONS = [
    _sleeping_between_polls,
    _before_the_first_poll,
    _in_the_first_request,
    _waiting_for_quota,
    _between_retries,
    _in_a_slow_request,
    _follow_sleeping_between_polls,
    _follow_waiting_for_quota,
    _follow_in_a_slow_request,
    _requesting_sessions,
    _sessions_waiting_for_quota,
]


@pytest.mark.slow_except(
    "requesting_sessions",
    "follow_waiting_for_quota",
    "follow_in_a_slow_request",
    "waiting_for_quota",
    "follow_sleeping_between_polls",
    "sleeping_between_polls",
    "in_a_slow_request",
    "between_retries",
    "in_the_first_request",
    "before_the_first_poll",
)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__.strip("_"))
async def test_stop_ends_any_wait_within_a_second(situation):
    simulation, store, before = simulated(), MemoryCheckpoints(), []
    async with simulation.client(checkpoints=store) as client:
        stream, when = situation(simulation, client)
        task = asyncio.create_task(consume(stream, before))
        await (_during_a_slow_request(simulation, when) if isinstance(when, str) else asyncio.sleep(when))
        stopped_at = elapsed()
        stream.stop()
        await task
        assert elapsed() - stopped_at < 1
        assert stream.health.state == "stopped"
        assert await left_nothing_behind(client)
        simulation.faults = Faults()
        if before:
            assert (await store.load("prod")).done == stream.checkpoint.done
        stop = NOON + int(elapsed()) + 100
        if of_type(Window, before) or not of_type(CallStarted, before):
            events = await collect(client.realtime.watch(USERS, start=NOON, checkpoint="prod", stop=stop))
        else:
            events = await collect(client.calls.follow(start=NOON - HOUR, checkpoint="prod", stop=stop))
    if of_type(Window, before + events):
        assert is_contiguous([*before, *events], NOON)
        assert timestamps(before) == sorted(set(timestamps(before)) - set(timestamps(events)))
    else:
        for kind in (CallStarted, CallFinished):
            ids = [event.call.call_id for event in of_type(kind, [*before, *events])]
            assert len(ids) == len(set(ids)) > 0


async def _during_a_slow_request(simulation, endpoint: str) -> None:
    """Wait until ten seconds after a request arrives whose response takes 25 seconds."""
    while not any(  # noqa: ASYNC110 - the service has no event to wait for
        entry.endpoint == endpoint and entry.at >= NOON + 500 for entry in simulation.service.log
    ):
        await asyncio.sleep(1)
    await asyncio.sleep(10)


async def test_stop_from_another_task_counts_the_current_event_as_delivered():
    simulation, store, before = simulated(), MemoryCheckpoints(), []
    async with simulation.client(checkpoints=store) as client:
        watch = client.realtime.watch(USERS, start=NOON, checkpoint="prod")
        asyncio.get_running_loop().call_later(205, watch.stop)
        async for event in watch:
            before.append(event)
            await asyncio.sleep(50)
        checkpoint = await store.load("prod")
        assert checkpoint.done[0].end == before[-1].span.end
        assert elapsed() < 400
        after = await collect(client.realtime.watch(USERS, checkpoint="prod", stop=NOON + 600))
    assert is_contiguous([*before, *after], NOON)


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_stream_whose_close_is_cancelled_releases_its_name(kind):
    simulation, store = simulated("enterprise"), MemoryCheckpoints()
    async with simulation.client(ledger=SlowLedger(), checkpoints=store) as client:
        for _ in range(2):
            stream = client.realtime.watch(USERS, checkpoint="a")
            if kind == "follow":
                stream = client.calls.follow(checkpoint="b")
            for _ in range(6):
                await anext(stream)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await stream.aclose()
            assert stream.health.state == "stopped"


def test_a_stream_can_be_stopped_from_another_thread():
    async def stopped():
        simulation, events = simulated(), []
        async with simulation.client() as client, client.realtime.watch(USERS) as watch:
            task = asyncio.create_task(consume(watch, events))
            await asyncio.sleep(HOUR)
            await asyncio.to_thread(watch.stop)
            await task
        return events

    # In debug mode, the loop raises for calls that are not safe from another thread.
    with asyncio.Runner(debug=True, loop_factory=VirtualLoop) as runner:
        assert is_contiguous(runner.run(stopped()))


async def test_a_file_ledger_and_file_checkpoints_work_on_virtual_time(tmp_path):
    simulation = simulated()
    options = {"checkpoints": FileCheckpoints(tmp_path), "ledger": FileLedger(tmp_path / "quota.db")}
    events = []
    for _ in range(2):
        async with simulation.client(**options, close_ledger=True) as client:
            events += await consume_for(client.realtime.watch(USERS, checkpoint="x"), 600)
    assert is_contiguous(events)
    assert simulation.service.refusals.total() == 0
