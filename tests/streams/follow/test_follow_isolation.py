"""Calls that are refused, deleted, moved, endless or expired do not affect other calls; neither do missing sessions."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from statistics import median

import attrs
import pytest
from helpers.streaming import (
    BUSY,
    DAY,
    HOUR,
    NOON,
    calls_started,
    collect,
    consume_for,
    consuming,
    count_by_call,
    elapsed,
    gaps_since_noon,
    of_type,
    simulated,
    stop_after,
)

from agora_analytics import (
    CallChanged,
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Checkpoint,
    CheckpointError,
    Gap,
    MemoryCheckpoints,
)
from agora_analytics.plans import PREMIUM
from agora_analytics.simulator import CallChange, Fault, Faults, World

LONG = World(seed=7, calls_per_hour=20, typical_minutes=4, long_share=0.1, large_share=0.0)


def a_long_call():
    """Return a call that starts soon after noon and lasts for hours."""
    return next(call for call in LONG.calls(NOON + 100, NOON + 3 * HOUR) if call.duration > 5 * HOUR)


def requests_about(simulation, text: str) -> int:
    return sum(text in entry.query for entry in simulation.service.log)


REFUSALS = {
    **{f"HTTP {status}": Fault("status", status=status) for status in (400, 403, 404, 410, 500)},
    **{f"body {code}": Fault("refusal", code=code) for code in (400, 403, 404, 500, 1001)},
}


@pytest.mark.slow_except("HTTP 403", "HTTP 500", "body 404", "body 1001")
@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_call_has_no_sessions_and_all_others_have_theirs(fault):
    simulation, store = simulated(world=BUSY), MemoryCheckpoints()
    bad = BUSY.calls(NOON, NOON + 1_200)[5].call_id
    simulation.faults = Faults.of_call(bad, fault)
    async with simulation.client(checkpoints=store) as client:
        events = await collect(
            client.calls.follow(start=NOON, stop=NOON + 1_200, with_sessions=True, checkpoint="tail")
        )
        requests = requests_about(simulation, bad)
        again = await collect(client.calls.follow(start=NOON, stop=NOON + 1_200, with_sessions=True, checkpoint="tail"))
    expected = calls_started(BUSY, NOON, NOON + 1_200)
    assert count_by_call(CallStarted, events) == count_by_call(CallFinished, events) == expected
    for event in of_type(CallFinished, events):
        assert (event.sessions is None) is (event.call.call_id == bad)
        assert bool(event.reason) is (event.call.call_id == bad)
    last = [event for event in events if event.call.call_id == bad][-1]
    assert str(fault.code if fault.kind == "refusal" else fault.status) in last.reason
    assert again == []
    assert requests_about(simulation, bad) == requests <= 12


async def test_a_refused_call_does_not_end_the_follow_at_a_restart():
    simulation, store = simulated(world=BUSY), MemoryCheckpoints()
    bad = BUSY.calls(NOON, NOON + 1_200)[5].call_id
    simulation.faults = Faults.of_call(bad, Fault("refusal", code=404))
    events: list = []
    async with simulation.client(checkpoints=store) as client:
        for _ in range(10):  # the consumer closes each after a few minutes
            events += await consume_for(client.calls.follow(start=NOON, with_sessions=True, checkpoint="tail"), 200)
    assert count_by_call(CallFinished, events)[bad] == 1
    # The first refusal may concern the account, so the call is retried once others succeed; a restart forgets that.
    assert requests_about(simulation, bad) <= 4


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("with_sessions", [False, True])
async def test_calls_at_the_retention_limit_are_reported(overlap, with_sessions):
    plan = PREMIUM.with_limits("call_lists", retention=2 * HOUR, longest=HOUR)
    plan = plan.with_limits("call_details", retention=2 * HOUR, longest=HOUR)
    simulation = simulated(plan, world=LONG, calls_overlap=overlap)
    oldest = NOON - 2 * HOUR
    async with simulation.client(plan=plan) as client:
        follow = client.calls.follow(start=oldest - HOUR, stop=oldest + 3_000, with_sessions=with_sessions)
        events = await collect(follow)
    ((first, end, reason),) = gaps_since_noon(events)
    assert (first, reason) == (-3 * HOUR, "before_start")
    assert 0 < end + 2 * HOUR < 200
    calls = calls_started(LONG, NOON + end, oldest + 3_000)
    assert calls.keys() <= count_by_call(CallStarted, events).keys()
    ended = count_by_call(CallFinished, events) + count_by_call(CallLost, events)
    assert ended == count_by_call(CallStarted, events)
    for event in of_type(CallFinished, events):
        if with_sessions and event.sessions is None:
            assert event.reason == "expired"
            assert event.call.created_ts < NOON + elapsed() - 2 * HOUR
    assert not with_sessions or any(event.sessions for event in of_type(CallFinished, events))


async def test_a_deleted_open_call_is_lost_after_a_few_lookups():
    call = a_long_call()
    simulation = simulated(world=LONG, changes=[CallChange(call.call_id, call.created + HOUR, deleted=True)])
    async with simulation.client() as client, asyncio.timeout(DAY):
        events = await collect(client.calls.follow(start=NOON, stop=NOON + 3 * HOUR))
    (lost_call,) = of_type(CallLost, events)
    assert (lost_call.call.call_id, lost_call.reason) == (call.call_id, "gone")
    started = count_by_call(CallStarted, events)
    assert started == calls_started(LONG, NOON, NOON + 3 * HOUR)
    assert count_by_call(CallFinished, events) == started - Counter([call.call_id])
    lookups = [entry for entry in simulation.service.log if f"cname={call.cname}&" in entry.query + "&"]
    assert sum(entry.at > call.created + HOUR for entry in lookups) < 10


async def end_delays(count: int) -> list[float]:
    """Return how long after its end each call is delivered, while so many others never end."""
    world = World(seed=7, calls_per_hour=15, typical_minutes=6, long_share=0.0, large_share=0.0)
    endless = {call.call_id for call in world.calls(NOON, NOON + 2 * HOUR)[:count]}
    simulation = simulated(world=world, changes=[CallChange(call_id, endless=True) for call_id in endless])
    delays: list[float] = []
    async with simulation.client() as client, client.calls.follow(start=NOON) as follow:
        async for event in follow:
            if isinstance(event, CallFinished):
                delays.append(simulation.clock() - event.call.destroyed_ts)
            if simulation.clock() > NOON + 20 * HOUR:
                break
    return delays


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 1])
async def test_calls_that_never_end_hardly_delay_other_calls(count):
    baseline, delays = await end_delays(0), await end_delays(count)
    assert len(delays) > len(baseline) - count - 20
    assert median(delays) <= 1.3 * median(baseline)
    # Nor do the delays grow: compare the last quarters.
    assert median(delays[-len(delays) // 4 :]) <= 1.3 * median(baseline[-len(baseline) // 4 :])


@pytest.mark.slow
async def test_an_endless_call_is_lost_once_although_it_stays_listed():
    world = World(seed=7, calls_per_hour=15, typical_minutes=6, long_share=0.0, large_share=0.0)
    endless = {call.call_id for call in world.calls(NOON, NOON + HOUR)[:3]}
    changes = [CallChange(call_id, endless=True) for call_id in endless]
    simulation = simulated(world=world, changes=changes, calls_overlap=True)
    simulation.service.plan = plan = simulation.service.plan.with_limits("call_lists", retention=2 * HOUR)
    async with simulation.client(plan=plan) as client:
        events = await consume_for(client.calls.follow(start=NOON), 14 * HOUR)
    assert {event.call.call_id: event.reason for event in of_type(CallLost, events)} == dict.fromkeys(
        endless, "expired"
    )
    assert set(count_by_call(CallStarted, events).values()) == set(count_by_call(CallLost, events).values()) == {1}


@pytest.mark.slow_except("False--2000", "False-5")
@pytest.mark.parametrize("by", [5, -2_000, 7_200])
@pytest.mark.parametrize("overlap", [False, True])
async def test_a_call_whose_start_moves_is_reported_once(by, overlap):
    call = a_long_call()
    moved = CallChange(call.call_id, call.created + max(1_800, by + 800), moved=by)
    simulation = simulated(world=LONG, changes=[moved], calls_overlap=overlap)
    start, stop = call.created - 2_500, call.created + HOUR
    async with simulation.client() as client, asyncio.timeout(2 * DAY):
        events = await collect(client.calls.follow(start=start, stop=stop))
    assert of_type(CallLost, events) == []
    assert set(count_by_call(CallStarted, events).values()) == set(count_by_call(CallFinished, events).values()) == {1}
    assert count_by_call(CallStarted, events) == count_by_call(CallFinished, events)
    assert calls_started(LONG, start, stop).keys() <= count_by_call(CallStarted, events).keys()
    assert call.call_id in count_by_call(CallFinished, events)


@pytest.mark.slow
async def test_a_provisional_end_is_not_a_change():
    changes = []
    for unfinished_end in ("null", "zero", "last_seen"):
        simulation = simulated(world=LONG, unfinished_end=unfinished_end)
        async with simulation.client() as client:
            events = await collect(client.calls.follow(start=NOON, stop=NOON + HOUR))
        found = of_type(CallChanged, events)
        for event in found:
            assert attrs.evolve(event.call, destroyed_ts=None) != attrs.evolve(event.before, destroyed_ts=None)
        assert count_by_call(CallFinished, events) == calls_started(LONG, NOON, NOON + HOUR)
        changes.append(len(found))
    assert changes[0] == changes[1] == changes[2] > 0


def details_quota_left(snapshot) -> int:
    return next(state.left for state in snapshot if (state.counter, state.unit) == ("call_details", "day"))


@pytest.mark.slow_except("itself-False", "another program-True")
@pytest.mark.parametrize("late_sessions", [True, False])
@pytest.mark.parametrize("by", ["itself", "another program"])
async def test_an_exhausted_details_quota_delays_no_other_event(late_sessions, by):
    plan, evening = PREMIUM.with_limits("call_details", per_day=60), NOON + 10 * HOUR
    simulation = simulated(plan, at=evening, world=BUSY)
    if by == "another program":
        asyncio.get_running_loop().call_later(HOUR / 2, simulation.service.spend, "call_details", 60)
    events, delays, left = [], [], set()
    async with simulation.client(plan=plan) as client, stop_after(4 * HOUR):
        async for event in client.calls.follow(start=evening - HOUR, with_sessions=True, late_sessions=late_sessions):
            events.append(event)
            if isinstance(event, CallFinished) and event.call.destroyed_ts > evening:
                delays.append(simulation.clock() - event.call.destroyed_ts)
            if simulation.clock() < evening + 2 * HOUR - 60:
                left.add(details_quota_left(await client.quota.snapshot()))
                assert not isinstance(event, CallSessions)
    ended = {call.call_id for call in BUSY.calls(evening, evening + 3 * HOUR) if call.destroyed < evening + 3 * HOUR}
    assert ended <= count_by_call(CallFinished, events).keys()
    assert max(delays) < 600
    without = [event for event in of_type(CallFinished, events) if event.sessions is None]
    assert {event.reason for event in without} == {"quota"}
    assert len(without) > 15
    assert by != "itself" or min(left) == 6
    after = of_type(CallSessions, events)
    assert bool(after) is late_sessions
    assert all(event.sessions for event in after)
    assert count_by_call(CallSessions, events).keys() <= count_by_call(CallFinished, without).keys()


async def test_while_session_requests_fail_ends_are_delivered_in_minutes_and_sessions_later():
    simulation = simulated(world=BUSY)
    simulation.faults = Faults.outage(NOON + 600, NOON + 3 * HOUR).only("call_sessions")
    delays: dict[str, float] = {}
    async with simulation.client() as client:
        follow = client.calls.follow(start=NOON, stop=NOON + 2 * HOUR, with_sessions=True)
        events = []
        async for event in follow:
            events.append(event)
            if isinstance(event, CallFinished):
                delays[event.call.call_id] = NOON + elapsed() - event.call.destroyed_ts
    assert max(delays.values()) < 900
    without = [event for event in of_type(CallFinished, events) if event.sessions is None]
    assert len(without) > 60
    assert {event.reason for event in without} == {"outage"}
    assert count_by_call(CallSessions, events) == count_by_call(CallFinished, without)
    assert all(event.sessions for event in of_type(CallSessions, events))
    assert simulation.service.counts["call_sessions"] < 3 * len(delays)


@pytest.mark.parametrize("start", [None, NOON - HOUR])
async def test_a_checkpoint_exists_before_the_first_event(start):
    simulation = simulated(world=BUSY)
    async with simulation.client() as client:
        checkpoint = client.calls.follow(start=start).checkpoint
        assert Checkpoint.decode(checkpoint.encode()) == checkpoint
        events = await collect(client.calls.follow(start=start, checkpoint=checkpoint, stop=NOON + 300))
    assert count_by_call(CallStarted, events) == calls_started(BUSY, start or NOON, NOON + 300) != Counter()


@pytest.mark.parametrize("where", ["call", "entry", "checkpoint"])
async def test_an_unknown_field_in_a_checkpoint_is_reported(where):
    simulation = simulated(world=BUSY)
    async with simulation.client() as client:
        follow = client.calls.follow(start=NOON - HOUR, stop=NOON)
        async for _ in follow:
            if any("open" in entry for entry in follow.checkpoint.open.values()):
                break
        text = json.loads(follow.checkpoint.encode())
        await follow.aclose()
        entry = next(entry for entry in text["open"].values() if "open" in entry)
        {"call": entry["open"], "entry": entry, "checkpoint": text}[where]["unknown"] = 1
        with pytest.raises(CheckpointError, match="unknown"):
            await collect(client.calls.follow(checkpoint=Checkpoint.decode(json.dumps(text)), stop=NOON))


async def test_an_outage_longer_than_the_retention_is_a_gap_with_the_reason():
    plan = PREMIUM.with_limits("call_lists", retention=2 * HOUR, longest=HOUR)
    simulation = simulated(plan, world=BUSY, faults=Faults.outage(NOON + HOUR, NOON + 6 * HOUR))
    async with simulation.client(plan=plan) as client:
        events = await consume_for(client.calls.follow(start=NOON), 8 * HOUR)
    ((first, end, reason),) = gaps_since_noon(events)
    assert reason == "outage"
    assert HOUR - 600 < first < HOUR
    assert 4 * HOUR < end < 4 * HOUR + 1_200
    started = count_by_call(CallStarted, events)
    assert calls_started(BUSY, NOON, NOON + first).keys() <= started.keys()
    assert calls_started(BUSY, NOON + end, NOON + 7 * HOUR).keys() <= started.keys()
    assert {event.reason for event in of_type(CallLost, events)} <= {"expired"}
    assert len(of_type(Gap, events)) == 1


@pytest.mark.slow
async def test_the_memory_of_a_follow_is_bounded():
    world = attrs.evolve(BUSY, calls_per_hour=20)
    simulation = simulated(world=world, deleted_calls=0.1, endless_calls=0.01, moved_calls=0.1)
    sizes = []
    async with simulation.client() as client:
        follow = client.calls.follow(start=NOON, every=600)
        async with consuming(follow):
            for _ in range(16):
                await asyncio.sleep(3 * HOUR)
                sizes.append(len(follow.checkpoint.open))
    # One call of a hundred never ends, and stays open.
    assert max(sizes[8:]) < 60


@pytest.mark.slow
async def test_a_call_is_not_gone_because_its_lookups_are_rate_limited():
    call = a_long_call()
    busy = Fault("refusal", code=300, message="qps limit error")
    lookup_faults = Faults.outage(call.created, call.created + 3 * HOUR, busy).only(cname=call.cname)
    simulation = simulated(world=LONG, faults=lookup_faults)
    async with simulation.client(quotas=False) as client:
        events = await consume_for(client.calls.follow(start=NOON), 2 * call.duration + 5 * HOUR)
    assert requests_about(simulation, "cname=")
    assert not of_type(CallLost, events)
    assert count_by_call(CallFinished, events)[call.call_id] == 1
