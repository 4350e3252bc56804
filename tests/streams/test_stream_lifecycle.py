"""How streams are waited for, left and stopped: nothing is lost, and nothing stays behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
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
    MemoryLedger,
    Window,
)
from agora_analytics.simulator import Fault, Faults, VirtualLoop


@pytest.mark.parametrize("seconds", [1, 30])
@pytest.mark.parametrize("way", ["wait_for", "cancelled"])
async def test_timeouts_around_anext_lose_no_event_and_cost_no_request(seconds, way):
    async def waiting(simulation) -> list:
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
    events = await waiting(simulation)
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
        given_up = 0
        while not simulation.service.log or simulation.service.log[-1].at < NOON + 300:
            try:
                first = await asyncio.wait_for(anext(watch), 1)
            except TimeoutError:
                given_up += 1
        assert given_up > 100
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(600)  # the event has come meanwhile
        assert watch.checkpoint.done == (type(first.span)(NOON, first.span.end),)
        event = await anext(watch)
        assert event.ts == first.span.end
        assert watch.checkpoint.done[0].end == event.span.end


class Unwritable:
    """A ledger that cannot be changed any more once it is told so, which is no `LedgerError`."""

    def __init__(self) -> None:
        self.broken = False
        self._ledger = MemoryLedger()

    async def change(self, account, change):
        if self.broken:
            raise OSError("no disk")
        return await self._ledger.change(account, change)

    async def close(self) -> None:
        await self._ledger.close()


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_an_error_of_closing_is_raised_and_the_name_is_released(kind):
    ledger, store = Unwritable(), MemoryCheckpoints()
    async with simulated().client(ledger=ledger, checkpoints=store) as client:
        stream = client.realtime.watch(USERS, start=NOON - HOUR, checkpoint="prod")
        if kind == "follow":
            stream = client.calls.follow(start=NOON - HOUR, checkpoint="prod")
        for _ in range(20 * 60):  # until it has kept requests for itself, at its first rest
            await anext(stream)
            if any(state.expected for state in await client.quota.snapshot()):
                break
        ledger.broken = True
        with pytest.raises(OSError, match="no disk"):
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


def _resting(simulation, client):
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


def _following(simulation, client):
    return client.calls.follow(start=NOON - HOUR, every=1_000, checkpoint="prod"), 900


def _following_without_quota(simulation, client):
    asyncio.get_running_loop().call_later(600, simulation.service.spend, "call_lists", 100_000)
    return client.calls.follow(start=NOON - HOUR, checkpoint="prod"), 3 * HOUR


def _following_in_a_slow_request(simulation, client):
    simulation.faults = Faults.outage(NOON + 500, NOON + DAY, Fault("slow", seconds=25)).only("call_lists")
    return client.calls.follow(start=NOON - HOUR, checkpoint="prod"), "call_lists"


def _drilling(simulation, client):
    simulation.faults = Faults.outage(NOON + 500, NOON + DAY, Fault("slow", seconds=25)).only("call_sessions")
    return client.calls.follow(start=NOON - HOUR, with_sessions=True, checkpoint="prod"), "call_sessions"


def _drilling_without_quota(simulation, client):
    asyncio.get_running_loop().call_later(600, simulation.service.spend, "call_details", 100_000)
    return client.calls.follow(start=NOON - HOUR, with_sessions=True, checkpoint="prod"), 3 * HOUR


PLACES = [
    _resting,
    _before_the_first_poll,
    _in_the_first_request,
    _waiting_for_quota,
    _between_retries,
    _in_a_slow_request,
    _following,
    _following_without_quota,
    _following_in_a_slow_request,
    _drilling,
    _drilling_without_quota,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__.strip("_"))
async def test_stop_ends_any_wait_within_a_second(place):
    simulation, store, told = simulated(), MemoryCheckpoints(), []
    async with simulation.client(checkpoints=store) as client:
        stream, moment = place(simulation, client)
        task = asyncio.create_task(consume(stream, told))
        await (_in_the_middle_of(simulation, moment) if isinstance(moment, str) else asyncio.sleep(moment))
        begun = elapsed()
        stream.stop()
        await task
        assert elapsed() - begun < 1
        assert stream.health.state == "stopped"
        assert await left_nothing_behind(client)
        simulation.faults = Faults()
        if told:
            assert (await store.load("prod")).done == stream.checkpoint.done
        stop = NOON + int(elapsed()) + 100
        if of_type(Window, told) or not of_type(CallStarted, told):
            events = await collect(client.realtime.watch(USERS, start=NOON, checkpoint="prod", stop=stop))
        else:
            events = await collect(client.calls.follow(start=NOON - HOUR, checkpoint="prod", stop=stop))
    if of_type(Window, told + events):
        assert is_contiguous([*told, *events], NOON)
        assert timestamps(told) == sorted(set(timestamps(told)) - set(timestamps(events)))
    else:
        for kind in (CallStarted, CallFinished):
            ids = [event.call.call_id for event in of_type(kind, [*told, *events])]
            assert len(ids) == len(set(ids)) > 0


async def _in_the_middle_of(simulation, endpoint: str) -> None:
    """Wait until ten seconds after a request has arrived that is answered 25 seconds late."""
    while not any(  # noqa: ASYNC110 - the service tells nobody
        entry.endpoint == endpoint and entry.at >= NOON + 500 for entry in simulation.service.log
    ):
        await asyncio.sleep(1)
    await asyncio.sleep(10)


async def test_stop_from_another_task_counts_the_current_event_as_delivered():
    simulation, store, told = simulated(), MemoryCheckpoints(), []
    async with simulation.client(checkpoints=store) as client:
        watch = client.realtime.watch(USERS, start=NOON, checkpoint="prod")
        asyncio.get_running_loop().call_later(205, watch.stop)
        async for event in watch:
            told.append(event)
            await asyncio.sleep(50)
        place = await store.load("prod")
        assert place.done[0].end == told[-1].span.end
        assert elapsed() < 400
        rest = await collect(client.realtime.watch(USERS, checkpoint="prod", stop=NOON + 600))
    assert is_contiguous([*told, *rest], NOON)


class _Slow:
    """A ledger whose changes take a while, as those in a file do."""

    def __init__(self) -> None:
        self._ledger = MemoryLedger()

    async def change(self, account, change):
        await asyncio.sleep(0.01)
        return await self._ledger.change(account, change)

    async def close(self) -> None:
        await self._ledger.close()


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_a_stream_whose_close_is_cancelled_releases_its_name(kind):
    simulation, store = simulated("enterprise"), MemoryCheckpoints()
    async with simulation.client(ledger=_Slow(), checkpoints=store) as client:
        for _ in range(2):
            stream = client.realtime.watch(USERS, checkpoint="a")
            if kind == "follow":
                stream = client.calls.follow(checkpoint="b")
            for _ in range(6):
                await anext(stream)
            with suppress(TimeoutError):
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

    # In debug mode the loop refuses what is not safe from another thread.
    with asyncio.Runner(debug=True, loop_factory=VirtualLoop) as runner:
        assert is_contiguous(runner.run(stopped()))


async def test_a_file_ledger_and_file_checkpoints_work_on_virtual_time(tmp_path):
    simulation = simulated()
    known = {"checkpoints": FileCheckpoints(tmp_path), "ledger": FileLedger(tmp_path / "quota.db")}
    events = []
    for _ in range(2):
        async with simulation.client(**known, close_ledger=True) as client:
            events += await consume_for(client.realtime.watch(USERS, checkpoint="x"), 600)
    assert is_contiguous(events)
    assert simulation.service.refusals.total() == 0
