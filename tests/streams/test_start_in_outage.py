"""Streams that start in an outage: they lose no more than the outage costs, even if the host's clock is wrong."""

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
    collect,
    consume_for,
    consuming,
    gaps_since_noon,
    is_contiguous,
    of_type,
    simulated,
)

from agora_analytics import CallFinished, CallStarted, Gap, MemoryCheckpoints, MemoryLedger, Window
from agora_analytics.simulator import Fault, Faults

# Seconds that the host's clock is ahead, and the length of the outage.
HOST_ERRORS = [0, 600, HOUR, 3 * DAY, -600, -HOUR, -2 * DAY]
OUTAGES = [10, 300, 1_500]


@pytest.mark.slow_except("0-10", "-600-300", "259200-1500", "600-10")
@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("host_error", HOST_ERRORS)
async def test_a_watch_started_in_an_outage_has_every_window(host_error, outage):
    simulation = simulated(faults=Faults.outage(NOON, NOON + outage))
    simulation.host_clock.wrong = host_error
    async with simulation.client() as client:
        events = await consume_for(client.realtime.watch(USERS, CHANNELS), 2 * HOUR)
    assert gaps_since_noon(events) == []
    assert is_contiguous(events)
    assert NOON - 100 <= events[0].ts <= NOON - 20
    assert events[-1].span.end > NOON + 2 * HOUR - 600
    assert sum(simulation.service.refusals.values()) <= 3


@pytest.mark.slow_except("0-10", "600-1500", "-172800-10", "259200-10")
@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("host_error", HOST_ERRORS)
async def test_a_watch_resumed_in_an_outage_continues_at_its_checkpoint(host_error, outage):
    simulation, store = simulated(), MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        first = await collect(client.realtime.watch(USERS, start=NOON, stop=NOON + 100, checkpoint="x"))
    now = simulation.clock()
    simulation.faults = Faults.outage(now, now + outage)
    simulation.host_clock.wrong = host_error
    async with simulation.client(checkpoints=store) as client:
        rest = await consume_for(client.realtime.watch(USERS, checkpoint="x"), 2 * HOUR)
    assert is_contiguous([*first, *rest], NOON)
    assert gaps_since_noon(rest) == []
    assert rest[-1].span.end > now + 2 * HOUR - 600


@pytest.mark.slow_except("0-10", "-600-300", "259200-300", "-3600-10")
@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("host_error", HOST_ERRORS)
async def test_a_follow_started_in_an_outage_has_every_call(host_error, outage):
    simulation = simulated(faults=Faults.outage(NOON, NOON + outage))
    simulation.host_clock.wrong = host_error
    async with simulation.client() as client:
        events = await consume_for(client.calls.follow(), 3 * HOUR)
    started = [event.call.call_id for event in of_type(CallStarted, events)]
    calls = SMALL.calls(NOON, NOON + 3 * HOUR - 900)
    assert len(started) == len(set(started))
    assert {call.call_id for call in calls} <= set(started)
    ended = {call.call_id for call in calls if call.destroyed < NOON + 3 * HOUR - 900}
    assert ended <= {event.call.call_id for event in of_type(CallFinished, events)}
    assert gaps_since_noon(events) == []


@pytest.mark.slow_except("watch")
@pytest.mark.parametrize("kind", ["watch", "follow"])
async def test_an_initial_outage_of_a_week_ends_no_stream(kind):
    simulation = simulated(faults=Faults.outage(NOON, NOON + 7 * DAY))
    async with simulation.client() as client:
        stream = client.realtime.watch(USERS) if kind == "watch" else client.calls.follow()
        async with consuming(stream) as events:
            await asyncio.sleep(7 * DAY - 60)
            assert (stream.health.state, events) == ("outage", [])
            await asyncio.sleep(HOUR)
            assert stream.health.state == "polling"
    assert events


async def test_a_failing_series_does_not_stop_the_others():
    simulation = simulated(faults=Faults.always(Fault("html")).only("realtime_usage", metric="userCount"))
    async with simulation.client() as client:
        events = await consume_for(client.realtime.watch(USERS, CHANNELS), HOUR)
    assert len(events) > 100
    assert None not in [event.value(CHANNELS) for event in of_type(Window, events)]


async def test_the_start_of_a_stream_survives_a_change_of_the_host_clock():
    """Otherwise a later sleep seems to lie before the start, and its gap has the reason `before_start`."""
    simulation = simulated()
    simulation.host_clock.wrong = DAY
    sleep_start = NOON + 1_200
    async with simulation.client() as client, consuming(client.realtime.watch(USERS)) as events:
        await asyncio.sleep(600)
        simulation.host_clock.wrong = 0
        await asyncio.sleep(600)
        simulation.clock.suspend(4 * HOUR)
        await asyncio.sleep(HOUR)
    gaps = of_type(Gap, events)
    assert {gap.reason for gap in gaps} == {"asleep"}
    assert abs(gaps[0].span.start - sleep_start) < 300


@pytest.mark.parametrize("restart", [False, True], ids=["first start", "restart"])
@pytest.mark.parametrize("host_error", [0, 831, -831, 2 * HOUR, -2 * HOUR])
async def test_windows_that_expire_in_an_initial_outage_are_lost_to_it(host_error, restart):
    """Retention is 40 minutes: the outage costs those windows before its start that were still queryable then."""
    begin, end = NOON + 2 * HOUR, NOON + 4 * HOUR
    simulation = simulated()
    store = MemoryCheckpoints()
    if restart:
        async with simulation.client(checkpoints=store) as client:
            await collect(client.realtime.watch(USERS, start=NOON, stop=NOON + 100, checkpoint="x"))
    await asyncio.sleep(begin - simulation.clock())
    simulation.host_clock.wrong = host_error
    simulation.faults = Faults.outage(begin, end)
    async with simulation.client(checkpoints=store) as client:
        start = None if restart else NOON + 200
        events = await collect(client.realtime.watch(USERS, start=start, stop=end + 60, checkpoint="x"))
    before, outage = of_type(Gap, events)
    assert (before.reason, outage.reason) == ("before_start", "outage")
    assert before.span.end == outage.span.start
    assert abs(outage.span.start - (begin - 2_400)) < 60
    assert abs(outage.span.end - (end - 2_400)) < 700  # the longest pause between retries


@pytest.mark.slow_except("831-it ends during the sleep", "0-it ends after the sleep")
@pytest.mark.parametrize("end", [3 * HOUR, 6 * HOUR], ids=["it ends during the sleep", "it ends after the sleep"])
@pytest.mark.parametrize("host_error", [0, 831, -831])
async def test_a_sleep_before_the_time_is_known_is_distinguished_from_the_outage(host_error, end):
    sleep_start, sleep_end = NOON + 2 * HOUR, NOON + 4 * HOUR
    simulation = simulated(faults=Faults.outage(NOON, NOON + end))
    simulation.host_clock.wrong = host_error
    async with simulation.client() as client:
        asyncio.get_running_loop().call_later(sleep_start - NOON, simulation.clock.suspend, sleep_end - sleep_start)
        events = await collect(client.realtime.watch(USERS, start=NOON, stop=NOON + 7 * HOUR))
    gaps = [(gap.reason, gap.span.start - NOON, gap.span.end - NOON) for gap in of_type(Gap, events)]
    assert [reason for reason, _, _ in gaps] == ["outage", "asleep", "outage"][: 2 + (end > 4 * HOUR)]
    # A window belongs to whatever took more of the 40 minutes in which it was queryable.
    assert abs(gaps[1][1] - (sleep_start - NOON - 1_200)) < 180
    assert end < 4 * HOUR or abs(gaps[1][2] - (sleep_end - NOON - 1_200)) < 180


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_minute_of_failed_requests_is_lost_to_the_outage_not_the_quota(restarted):
    """Also if the process before the restart sent them."""
    simulation = simulated()
    shared = {"checkpoints": MemoryCheckpoints(), "ledger": MemoryLedger() if restarted else None}
    async with simulation.client(**shared) as client:
        await collect(client.realtime.watch(USERS, start=NOON, stop=NOON + 100, checkpoint="x"))
    await asyncio.sleep(NOON + HOUR - simulation.clock())
    simulation.faults = Faults.always(Fault("garbage"))  # each counts against the quota, and is not retried at once
    if restarted:
        async with simulation.client(**shared) as client, consuming(client.realtime.watch(USERS, checkpoint="x")):
            await asyncio.sleep(45)
    async with (
        simulation.client(**shared) as client,
        consuming(client.realtime.watch(USERS, checkpoint="x")) as events,
    ):
        await asyncio.sleep(600)
        simulation.faults = Faults()
        await asyncio.sleep(HOUR)
    assert [gap.reason for gap in of_type(Gap, events)] == ["before_start", "outage"]


@pytest.mark.slow_except("-7200")
@pytest.mark.parametrize("host_error", [0, 831, -2 * HOUR])
async def test_a_follow_separates_its_losses_from_those_before_its_start(host_error):
    start = NOON + 9 * DAY  # the retention of call lists is 7 days
    simulation, store = simulated(), MemoryCheckpoints()
    async with simulation.client(checkpoints=store) as client:
        await consume_for(client.calls.follow(checkpoint="x"), HOUR)
    await asyncio.sleep(start - simulation.clock())
    simulation.host_clock.wrong = host_error
    simulation.faults = Faults.outage(start, start + 2 * HOUR)
    async with simulation.client(checkpoints=store) as client:
        before, outage = of_type(Gap, await consume_for(client.calls.follow(checkpoint="x"), 3 * HOUR))
    assert (before.reason, outage.reason) == ("before_start", "outage")
    assert before.span.end == outage.span.start
    assert abs(outage.span.start - (start - 7 * DAY)) < 120
    assert abs(outage.span.end - (start + 2 * HOUR - 7 * DAY)) < 700  # the longest pause between retries
