"""Each start and each end is delivered once, even if the service lists a call again and after restarts."""

from __future__ import annotations

import asyncio

import pytest
from helpers.ledgers import FailingLedger
from helpers.streaming import BUSY, HOUR, NOON, collect, consume_for, count_by_call, of_type, simulated

from agora_analytics import (
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Checkpoint,
    Gap,
    MemoryCheckpoints,
)
from agora_analytics.plans import PREMIUM
from agora_analytics.simulator import Fault, Faults, World

LONG = World(seed=7, calls_per_hour=20, typical_minutes=20, long_share=0.3, large_share=0.0)


def duplicates(kind, events) -> list[str]:
    """Return the ids of calls with several events of a kind."""
    return [call_id for call_id, count in count_by_call(kind, events).items() if count > 1]


@pytest.mark.slow_except(
    "backlog-zero-lists calls that were open",
    "outage-zero-lists calls that started",
    "outage-null-lists calls that were open",
    "rare polls-zero-lists calls that started",
)
@pytest.mark.parametrize("overlap", [False, True], ids=["lists calls that started", "lists calls that were open"])
@pytest.mark.parametrize("unfinished_end", ["null", "zero"])
@pytest.mark.parametrize("situation", ["backlog", "outage", "rare polls"])
async def test_finished_calls_without_an_end_are_reported_once(overlap, unfinished_end, situation):
    simulation = simulated(world=BUSY, calls_overlap=overlap, unfinished_end=unfinished_end, unreported_ends=True)
    if situation == "outage":
        simulation.faults = Faults.outage(NOON + HOUR, NOON + 2 * HOUR + 1_800)
    start = NOON - 6 * HOUR if situation == "backlog" else NOON
    async with simulation.client() as client:
        follow = client.calls.follow(start=start, every=900 if situation == "rare polls" else 60)
        events = await consume_for(follow, 4 * HOUR)
    assert duplicates(CallStarted, events) == duplicates(CallFinished, events) == []
    expected = {call.call_id for call in BUSY.calls(start, NOON + 2 * HOUR)}
    assert expected <= {event.call.call_id for event in of_type(CallFinished, events)}
    assert expected <= {event.call.call_id for event in of_type(CallStarted, events)}


async def test_a_call_whose_sessions_come_after_a_restart_is_not_reported_again():
    """Every list shows it until its end, hours after the position of the backfill."""
    world = World(seed=7, calls_per_hour=6, long_share=1.0, large_share=0.0)
    plan = PREMIUM.with_limits("call_lists", longest=HOUR)
    simulation = simulated(plan, world=world, calls_overlap=True)
    start, checkpoints = NOON - 20 * HOUR, []
    simulation.faults = Faults.always(Fault("reset")).only("call_sessions")
    events: list = []
    async with simulation.client() as client, client.calls.follow(start=start, with_sessions=True) as follow:
        async for event in follow:
            events.append(event)
            checkpoints.append(follow.checkpoint.encode())
            if any(end.call.destroyed_ts > start + 3 * HOUR for end in of_type(CallFinished, events)):
                break
    assert {event.reason for event in of_type(CallFinished, events)} == {"outage"}
    simulation.faults = Faults()
    async with simulation.client() as client:
        # This checkpoint includes the last event.
        follow = client.calls.follow(with_sessions=True, checkpoint=Checkpoint.decode(checkpoints[-1]))
        events += await consume_for(follow, HOUR)
    assert duplicates(CallStarted, events) == duplicates(CallFinished, events) == []
    assert of_type(CallSessions, events)


@pytest.mark.slow
async def test_a_lost_call_is_not_reported_again_when_it_ends():
    plan = PREMIUM.with_limits("call_lists", retention=2 * HOUR)
    simulation = simulated(plan, world=LONG, calls_overlap=True)
    async with simulation.client(plan=plan) as client:
        events = await consume_for(client.calls.follow(start=NOON), 16 * HOUR)
    lost = {event.call.call_id for event in of_type(CallLost, events)}
    assert len(lost) > 5
    assert duplicates(CallStarted, events) == duplicates(CallLost, events) == []
    assert not lost & {event.call.call_id for event in of_type(CallFinished, events)}


@pytest.mark.parametrize(
    "fault", [Fault("status", status=401), Fault("status", status=403), Fault("status", status=404), Fault("refusal")]
)
async def test_a_temporary_refusal_of_all_calls_costs_no_call_its_sessions(fault):
    outage = Faults.outage(NOON + 1_800, NOON + 2_400, fault).only("call_sessions")
    simulation = simulated("enterprise", world=BUSY, faults=outage)
    async with simulation.client() as client:
        events = await collect(client.calls.follow(start=NOON, stop=NOON + HOUR, with_sessions=True))
    events_with_an_end = [*of_type(CallFinished, events), *of_type(CallSessions, events)]
    expected = {call.call_id for call in BUSY.calls(NOON, NOON + HOUR)}
    assert {event.call.call_id for event in events_with_an_end if event.sessions is not None} == expected
    assert {event.reason for event in events_with_an_end} <= {"", "outage"}


async def consume_then_leave(stream, count: int, events: list) -> None:
    """Process so many events, and leave when the next is received."""
    before = len(events)
    async with stream as source:
        async for event in source:
            if len(events) - before == count:
                break
            events.append(event)


async def consume_then_cancel(stream, count: int, events: list) -> None:
    """Process so many events, and be cancelled while waiting for the next."""
    last = len(events) + count
    async with stream as source:
        async for event in source:
            events.append(event)
            if len(events) == last:
                asyncio.current_task().cancel()


async def test_an_acknowledged_event_is_not_repeated_however_the_consumer_leaves():
    simulation, store = simulated(world=BUSY), MemoryCheckpoints()
    simulation.clock.suspend(3 * HOUR)  # one poll delivers the whole backlog
    events: list = []
    async with simulation.client(checkpoints=store) as client:
        await consume_then_leave(client.calls.follow(start=NOON, checkpoint="tail"), 50, events)
        stream = client.calls.follow(checkpoint="tail")
        async with asyncio.timeout(600):  # fails if the stream stalls
            task = asyncio.create_task(consume_then_cancel(stream, 70, events))
            await asyncio.wait([task])
        assert task.cancelled()
        assert len(events) < 130  # in the middle of the backlog
        resumed = await consume_for(client.calls.follow(checkpoint="tail"), 600)
    # The last event before the cancellation may be repeated: the stream cannot know whether it was processed.
    certain = [*events[:-1], *resumed]
    assert duplicates(CallStarted, certain) == duplicates(CallFinished, certain) == []
    events += resumed
    assert {call.call_id for call in BUSY.calls(NOON, NOON + 2 * HOUR)} <= {
        event.call.call_id for event in of_type(CallFinished, events)
    }


async def test_the_checkpoint_does_not_pass_unreported_calls_of_a_truncated_list():
    simulation = simulated(world=BUSY, max_rows=20)
    simulation.clock.suspend(2 * HOUR)
    store = MemoryCheckpoints()
    events: list = []
    async with simulation.client(checkpoints=store) as client:
        while len(of_type(CallFinished, events)) <= 100:
            await consume_then_leave(client.calls.follow(start=NOON, checkpoint="tail"), 7, events)
    gaps = [gap.span for gap in of_type(Gap, events)]
    started = {event.call.call_id for event in of_type(CallStarted, events)}
    read_to = max(event.call.created_ts for event in of_type(CallStarted, events))
    missing = [call for call in BUSY.calls(NOON, read_to) if call.call_id not in started]
    assert all(any(gap.start <= call.created < gap.end for gap in gaps) for call in missing)


async def test_a_temporary_ledger_failure_is_not_an_exhausted_quota():
    simulation = simulated("enterprise", world=BUSY)
    async with simulation.client(ledger=FailingLedger(1_200, 2_400)) as client:
        events = await collect(client.calls.follow(start=NOON, stop=NOON + HOUR, with_sessions=True))
    assert {event.reason for event in of_type(CallFinished, events)} == {"", "outage"}
