"""Streams that begin in an outage, on a host whose clock may be wrong: as if it were right, once there is an answer."""

from __future__ import annotations

import asyncio

import pytest
from helpers.streaming import (
    CHANNELS,
    DAY,
    HOUR,
    NOON,
    SMALL,
    USERS,
    all_of,
    lost,
    of,
    simulated,
    taken_for,
    taking,
    whole,
)

from agora_analytics import CallFinished, CallStarted, Gap, MemoryCheckpoints, MemoryLedger
from agora_analytics.simulator import Fault, Faults

WRONG = [0, 600, HOUR, 3 * DAY, -600, -HOUR, -2 * DAY]
DOWN = [10, 300, 1_500]


@pytest.mark.parametrize("down", DOWN)
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_watch_started_in_an_outage_has_every_window(wrong, down):
    simulation = simulated(faults=Faults.outage(NOON, NOON + down))
    simulation.host_clock.wrong = wrong
    async with simulation.client() as client:
        events = await taken_for(client.realtime.watch(USERS, CHANNELS), 2 * HOUR)
    assert lost(events) == []
    assert whole(events)
    assert NOON - 100 <= events[0].ts <= NOON - 20
    assert events[-1].span.end > NOON + 2 * HOUR - 600
    assert sum(simulation.service.refusals.values()) <= 3


@pytest.mark.parametrize("down", DOWN)
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_watch_resumed_in_an_outage_continues_at_its_checkpoint(wrong, down):
    simulation, store = simulated(), MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        first = await all_of(client.realtime.watch(USERS, start=NOON, stop=NOON + 100, checkpoint="x"))
    now = simulation.clock()
    simulation.faults = Faults.outage(now, now + down)
    simulation.host_clock.wrong = wrong
    async with simulation.client(checkpoints=store) as client:
        rest = await taken_for(client.realtime.watch(USERS, checkpoint="x"), 2 * HOUR)
    assert whole([*first, *rest], NOON)
    assert lost(rest) == []
    assert rest[-1].span.end > now + 2 * HOUR - 600


@pytest.mark.parametrize("down", DOWN)
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_follow_started_in_an_outage_has_every_call(wrong, down):
    simulation = simulated(faults=Faults.outage(NOON, NOON + down))
    simulation.host_clock.wrong = wrong
    async with simulation.client() as client:
        events = await taken_for(client.calls.follow(), 3 * HOUR)
    started = [event.call.call_id for event in of(CallStarted, events)]
    calls = SMALL.calls(NOON, NOON + 3 * HOUR - 900)
    assert len(started) == len(set(started))
    assert {call.call_id for call in calls} <= set(started)
    over = {call.call_id for call in calls if call.destroyed < NOON + 3 * HOUR - 900}
    assert over <= {event.call.call_id for event in of(CallFinished, events)}
    assert lost(events) == []


@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_an_initial_outage_of_a_week_ends_no_stream(kind):
    simulation = simulated(faults=Faults.outage(NOON, NOON + 7 * DAY))
    async with simulation.client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow()
        async with taking(stream) as events:
            await asyncio.sleep(7 * DAY - 60)
            assert (stream.health.state, events) == ("outage", [])
            await asyncio.sleep(HOUR)
            assert stream.health.state == "polling"
    assert events


async def test_a_failing_series_does_not_stop_the_others():
    simulation = simulated(faults=Faults.always(Fault("html")).only("realtime_usage", metric="userCount"))
    async with simulation.client() as client:
        events = await taken_for(client.realtime.watch(USERS, CHANNELS), HOUR)
    assert [event.value(CHANNELS) for event in events[:5]] != [None] * 5


async def test_the_start_of_a_stream_survives_a_change_of_the_host_clock():
    """Or a machine that sleeps hours after would seem to have begun before: what it lost would be before the start."""
    simulation = simulated()
    simulation.host_clock.wrong = DAY
    slept = NOON + 1_200
    async with simulation.client() as client, taking(client.realtime.watch(USERS)) as events:
        await asyncio.sleep(600)
        simulation.host_clock.wrong = 0
        await asyncio.sleep(600)
        simulation.clock.suspend(4 * HOUR)
        await asyncio.sleep(HOUR)
    gaps = of(Gap, events)
    assert {gap.reason for gap in gaps} == {"asleep"}
    assert abs(gaps[0].span.start - slept) < 300


@pytest.mark.parametrize("known", [False, True], ids=["first start", "restart"])
@pytest.mark.parametrize("wrong", [0, 831, -831, 2 * HOUR, -2 * HOUR])
async def test_windows_that_expire_in_an_initial_outage_are_lost_to_it(wrong, known):
    """A window is kept for 40 minutes: of those before the start the outage costs the newest, by any host clock."""
    begun, over = NOON + 2 * HOUR, NOON + 4 * HOUR
    simulation = simulated()
    store = MemoryCheckpoints()
    if known:
        async with simulation.client(checkpoints=store) as client:
            await all_of(client.realtime.watch(USERS, start=NOON, stop=NOON + 100, checkpoint="x"))
    await asyncio.sleep(begun - simulation.clock())
    simulation.host_clock.wrong = wrong
    simulation.faults = Faults.outage(begun, over)
    async with simulation.client(checkpoints=store) as client:
        start = None if known else NOON + 200
        events = await all_of(client.realtime.watch(USERS, start=start, stop=over + 60, checkpoint="x"))
    before, outage = of(Gap, events)
    assert (before.reason, outage.reason) == ("before_start", "outage")
    assert before.span.end == outage.span.start
    assert abs(outage.span.start - (begun - 2_400)) < 60
    assert abs(outage.span.end - (over - 2_400)) < 700  # the pause of an outage


@pytest.mark.parametrize("over", [3 * HOUR, 6 * HOUR], ids=["out when it wakes", "out no more"])
@pytest.mark.parametrize("wrong", [0, 831, -831])
async def test_a_sleep_before_the_time_is_known_is_distinguished_from_the_outage(wrong, over):
    slept, awake = NOON + 2 * HOUR, NOON + 4 * HOUR
    simulation = simulated(faults=Faults.outage(NOON, NOON + over))
    simulation.host_clock.wrong = wrong
    async with simulation.client() as client:
        asyncio.get_running_loop().call_later(slept - NOON, simulation.clock.suspend, awake - slept)
        events = await all_of(client.realtime.watch(USERS, start=NOON, stop=NOON + 7 * HOUR))
    gaps = [(gap.reason, gap.span.start - NOON, gap.span.end - NOON) for gap in of(Gap, events)]
    assert [reason for reason, _, _ in gaps] == ["outage", "asleep", "outage"][: 2 + (over > 4 * HOUR)]
    # What could be asked for longer in the outage than asleep is lost to that.
    assert abs(gaps[1][1] - (slept - NOON - 1_200)) < 180
    assert over < 4 * HOUR or abs(gaps[1][2] - (awake - NOON - 1_200)) < 180


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_minute_of_failed_requests_is_lost_to_the_outage_not_the_quota(restarted):
    """Also where it was the process before that sent them."""
    simulation = simulated()
    known = {"checkpoints": MemoryCheckpoints(), "ledger": MemoryLedger() if restarted else None}
    async with simulation.client(**known) as client:
        await all_of(client.realtime.watch(USERS, start=NOON, stop=NOON + 100, checkpoint="x"))
    await asyncio.sleep(NOON + HOUR - simulation.clock())
    simulation.faults = Faults.always(Fault("garbage"))  # counted, and not tried again at once
    if restarted:
        async with simulation.client(**known) as client, taking(client.realtime.watch(USERS, checkpoint="x")):
            await asyncio.sleep(45)
    async with simulation.client(**known) as client, taking(client.realtime.watch(USERS, checkpoint="x")) as events:
        await asyncio.sleep(600)
        simulation.faults = Faults()
        await asyncio.sleep(HOUR)
    assert [gap.reason for gap in of(Gap, events)] == ["before_start", "outage"]


@pytest.mark.parametrize("wrong", [0, 831, -2 * HOUR])
async def test_a_follow_separates_its_losses_from_those_before_its_start(wrong):
    begun = NOON + 9 * DAY  # lists are kept for 7 days
    simulation, store = simulated(), MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        await taken_for(client.calls.follow(checkpoint="x"), HOUR)
    await asyncio.sleep(begun - simulation.clock())
    simulation.host_clock.wrong = wrong
    simulation.faults = Faults.outage(begun, begun + 2 * HOUR)
    async with simulation.client(checkpoints=store) as client:
        before, outage = of(Gap, await taken_for(client.calls.follow(checkpoint="x"), 3 * HOUR))
    assert (before.reason, outage.reason) == ("before_start", "outage")
    assert before.span.end == outage.span.start
    assert abs(outage.span.start - (begun - 7 * DAY)) < 120
    assert abs(outage.span.end - (begun + 2 * HOUR - 7 * DAY)) < 700  # the pause of an outage
