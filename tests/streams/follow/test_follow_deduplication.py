"""Each start and each end is told once, whatever the service shows again, and through restarts."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from helpers.streaming import BUSY, HOUR, NOON, collect, consume_for, of_type, simulated

from agora_analytics import (
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Checkpoint,
    Gap,
    LedgerError,
    MemoryCheckpoints,
    MemoryLedger,
)
from agora_analytics.plans import PREMIUM
from agora_analytics.simulator import Fault, Faults, World

LONG = World(seed=7, calls_per_hour=20, typical_minutes=20, long_share=0.3, large_share=0.0)


def twice(kind, events) -> list[str]:
    seen = Counter(event.call.call_id for event in of_type(kind, events))
    return [call_id for call_id, count in seen.items() if count > 1]


@pytest.mark.parametrize("overlap", [False, True], ids=["lists what began", "lists what was on"])
@pytest.mark.parametrize("end", ["null", "zero"])
@pytest.mark.parametrize("way", ["backlog", "outage", "seldom"])
async def test_finished_calls_without_an_end_are_reported_once(overlap, end, way):
    simulation = simulated(world=BUSY, calls_overlap=overlap, unfinished_end=end, untold_ends=True)
    if way == "outage":
        simulation.faults = Faults.outage(NOON + HOUR, NOON + 2 * HOUR + 1_800)
    start = NOON - 6 * HOUR if way == "backlog" else NOON
    async with simulation.client() as client:
        follow = client.calls.follow(start=start, every=900 if way == "seldom" else 60)
        events = await consume_for(follow, 4 * HOUR)
    assert twice(CallStarted, events) == twice(CallFinished, events) == []
    there = {call.call_id for call in BUSY.calls(start, NOON + 2 * HOUR)}
    assert there <= {event.call.call_id for event in of_type(CallFinished, events)}
    assert there <= {event.call.call_id for event in of_type(CallStarted, events)}


async def test_a_call_whose_sessions_come_after_a_restart_is_not_reported_again():
    """It is shown in every list until its end, which lies hours ahead of where is read."""
    world = World(seed=7, calls_per_hour=6, long_share=1.0, large_share=0.0)
    plan = PREMIUM.with_limits("call_lists", longest=HOUR)
    simulation = simulated(plan, world=world, calls_overlap=True)
    start, places = NOON - 20 * HOUR, []
    simulation.faults = Faults.always(Fault("reset")).only("call_sessions")
    events: list = []
    async with simulation.client() as client, client.calls.follow(start=start, with_sessions=True) as follow:
        async for event in follow:
            events.append(event)
            places.append(follow.checkpoint.encode())
            if any(one.call.destroyed_ts > start + 3 * HOUR for one in of_type(CallFinished, events)):
                break
    assert {event.reason for event in of_type(CallFinished, events)} == {"outage"}
    simulation.faults = Faults()
    async with simulation.client() as client:
        # The event at which it was left was done.
        follow = client.calls.follow(with_sessions=True, checkpoint=Checkpoint.decode(places[-1]))
        events += await consume_for(follow, HOUR)
    assert twice(CallStarted, events) == twice(CallFinished, events) == []
    assert of_type(CallSessions, events)


async def test_a_lost_call_is_not_reported_again_when_it_ends():
    plan = PREMIUM.with_limits("call_lists", available=2 * HOUR)
    simulation = simulated(plan, world=LONG, calls_overlap=True)
    async with simulation.client(plan=plan) as client:
        events = await consume_for(client.calls.follow(start=NOON), 16 * HOUR)
    lost = {event.call.call_id for event in of_type(CallLost, events)}
    assert len(lost) > 5
    assert twice(CallStarted, events) == twice(CallLost, events) == []
    assert not lost & {event.call.call_id for event in of_type(CallFinished, events)}


@pytest.mark.parametrize(
    "fault", [Fault("status", status=401), Fault("status", status=403), Fault("status", status=404), Fault("refusal")]
)
async def test_a_temporary_refusal_of_all_calls_costs_no_call_its_sessions(fault):
    out = Faults.outage(NOON + 1_800, NOON + 2_400, fault).only("call_sessions")
    simulation = simulated("enterprise", world=BUSY, faults=out)
    async with simulation.client() as client:
        events = await collect(client.calls.follow(start=NOON, stop=NOON + HOUR, with_sessions=True))
    told = [*of_type(CallFinished, events), *of_type(CallSessions, events)]
    there = {call.call_id for call in BUSY.calls(NOON, NOON + HOUR)}
    assert {event.call.call_id for event in told if event.sessions is not None} == there
    assert {event.reason for event in told} <= {"", "outage"}


async def work_on(stream, number: int, events: list) -> None:
    """Work on so many events, then leave at the next."""
    before = len(events)
    async with stream as source:
        async for event in source:
            if len(events) - before == number:
                break
            events.append(event)


async def be_cancelled_after(stream, number: int, events: list) -> None:
    """Work on events, and be cancelled while the next after so many is waited for."""
    end = len(events) + number
    async with stream as source:
        async for event in source:
            events.append(event)
            if len(events) == end:
                asyncio.current_task().cancel()


async def test_an_acknowledged_event_is_not_repeated_however_the_consumer_leaves():
    simulation, store = simulated(world=BUSY), MemoryCheckpoints()
    simulation.clock.suspend(3 * HOUR)  # a backlog, which is told in one round
    events: list = []
    async with simulation.client(checkpoints=store) as client:
        await work_on(client.calls.follow(start=NOON, checkpoint="tail"), 50, events)
        stream = client.calls.follow(checkpoint="tail")
        async with asyncio.timeout(600):  # it fails where the stream stalls
            task = asyncio.create_task(be_cancelled_after(stream, 70, events))
            await asyncio.wait([task])
        assert task.cancelled()
        assert len(events) < 130  # in the middle of the round
        more = await consume_for(client.calls.follow(checkpoint="tail"), 600)
    # Whether the event at which it was cancelled was worked on, nobody knows.
    sure = [*events[:-1], *more]
    assert twice(CallStarted, sure) == twice(CallFinished, sure) == []
    events += more
    assert {call.call_id for call in BUSY.calls(NOON, NOON + 2 * HOUR)} <= {
        event.call.call_id for event in of_type(CallFinished, events)
    }


async def test_the_checkpoint_does_not_pass_unreported_calls_of_a_truncated_list():
    simulation = simulated(world=BUSY, most_rows=20)
    simulation.clock.suspend(2 * HOUR)
    store = MemoryCheckpoints()
    events: list = []
    async with simulation.client(checkpoints=store) as client:
        for _ in range(400):  # each is left after a few events
            await work_on(client.calls.follow(start=NOON, checkpoint="tail"), 7, events)
            if len(of_type(CallFinished, events)) > 100:
                break
    gaps = [gap.span for gap in of_type(Gap, events)]
    started = {event.call.call_id for event in of_type(CallStarted, events)}
    read_to = max(event.call.created_ts for event in of_type(CallStarted, events))
    missing = [call for call in BUSY.calls(NOON, read_to) if call.call_id not in started]
    assert all(any(gap.start <= call.created < gap.end for gap in gaps) for call in missing)


async def test_a_temporary_ledger_failure_is_not_an_exhausted_quota():
    class Failing(MemoryLedger):
        async def change(self, account, change):
            if NOON + 1_200 < simulation.clock() < NOON + 1_400:
                raise LedgerError("the disk is full")
            return await super().change(account, change)

        def book(self, account):
            return None

    simulation = simulated("enterprise", world=BUSY)
    async with simulation.client(ledger=Failing()) as client:
        events = await collect(client.calls.follow(start=NOON, stop=NOON + HOUR, with_sessions=True))
    assert {event.reason for event in of_type(CallFinished, events)} <= {"", "outage"}
