"""Streams recover after hours of refusals, wrong `Date` headers or a wrongly learned limit."""

from __future__ import annotations

import asyncio

import pytest
from helpers.streaming import (
    CHANNELS,
    DAY,
    HOUR,
    NOON,
    USERS,
    consume_for,
    consuming,
    is_contiguous,
    of_type,
    requested_spans,
    simulated,
    timestamps,
)

from agora_analytics import CallFinished, CallLost, CallStarted, Gap, Window
from agora_analytics.simulator import Fault, Faults


@pytest.mark.slow_except("query time range limit")
@pytest.mark.parametrize("message", ["query latency limit", "query time range limit", "query time length limit"])
async def test_after_hours_of_refusals_a_watch_is_up_to_date_again(message):
    refused = Fault("refusal", code=300, message=message)
    simulation = simulated(faults=Faults.outage(NOON + 1_800, NOON + 3 * HOUR, refused))
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        events = await consume_for(watch, 9 * HOUR)
    assert is_contiguous(events)
    assert all(gap.span.end <= NOON + 3 * HOUR for gap in of_type(Gap, events))
    assert max(event.ts for event in of_type(Window, events)) > NOON + 9 * HOUR - 400
    assert max(at - end for at, _, end in requested_spans(simulation) if at > NOON + 8 * HOUR) < 120


async def test_one_unauthorized_series_of_two_does_not_end_the_stream():
    refused = Faults.outage(NOON + 300, NOON + 3 * HOUR, Fault("status", status=401)).only(metric="channelCount")
    simulation = simulated("enterprise", faults=refused)
    async with simulation.client() as client:
        events = await consume_for(client.realtime.watch(USERS, CHANNELS), 4 * HOUR)
    assert is_contiguous(events)
    assert events[-1].span.end > NOON + 4 * HOUR - 200


async def test_two_separate_minutes_of_unauthorized_do_not_end_the_stream():
    outages = [Faults.outage(at, at + 60, Fault("status", status=401)) for at in (NOON + 600, NOON + 2 * HOUR)]
    refused = Faults.outage(NOON + 300, NOON + DAY, Fault("refusal", code=400)).only(metric="channelCount")
    simulation = simulated("enterprise", faults=outages[0] + outages[1] + refused)
    async with simulation.client() as client:
        events = await consume_for(client.realtime.watch(USERS, CHANNELS), 3 * HOUR)
    assert is_contiguous(events)
    assert events[-1].span.end > NOON + 3 * HOUR - 200


@pytest.mark.parametrize("date_off", [2 * HOUR, 40 * DAY])
async def test_a_watch_continues_at_once_when_a_misdated_service_clock_is_corrected(date_off):
    end = NOON + 4 * HOUR
    first_host_down = Faults.outage(NOON + 1_800, end, Fault("refused"), host=0)
    misdated = Faults.always(Fault("date", date_off=date_off)).only(host=1)
    simulation = simulated(faults=first_host_down + misdated)
    async with simulation.client() as client:
        events = await consume_for(client.realtime.watch(USERS), 5 * HOUR)
    assert is_contiguous(events)
    assert timestamps(events)[-1] > NOON + 5 * HOUR - 300
    assert min(ts for ts in timestamps(events) if ts > NOON + 2 * HOUR) < end


@pytest.mark.slow_except("-3600", "3456000")
@pytest.mark.parametrize("date_off", [-40 * DAY, -DAY, -HOUR, HOUR, DAY, 40 * DAY])
async def test_a_date_wrong_for_hours_stops_no_watch(date_off):
    simulation = simulated(faults=Faults.outage(NOON + HOUR, NOON + 3 * HOUR, Fault("date", date_off=date_off)))
    async with simulation.client() as client:
        events = await consume_for(client.realtime.watch(USERS), 5 * HOUR)
    assert is_contiguous(events)
    assert timestamps(events)[-1] > NOON + 5 * HOUR - 300
    assert sum(gap.span.duration for gap in of_type(Gap, events)) < 2 * HOUR + 300


@pytest.mark.slow_except("3600", "-3456000")
@pytest.mark.parametrize("date_off", [-40 * DAY, -DAY, -HOUR, HOUR, DAY, 40 * DAY])
async def test_a_date_wrong_for_hours_loses_no_call(date_off):
    simulation = simulated(
        "enterprise", faults=Faults.outage(NOON + HOUR, NOON + 3 * HOUR, Fault("date", date_off=date_off))
    )
    async with simulation.client() as client:
        events = await consume_for(client.calls.follow(), 8 * HOUR)
    started = sorted(event.call.call_id for event in of_type(CallStarted, events))
    expected = sorted(call.call_id for call in simulation.world.calls(NOON, NOON + 7 * HOUR))
    assert set(expected) <= set(started)
    assert len(set(started)) == len(started)
    assert not of_type(CallLost, events)
    assert not of_type(Gap, events)
    finished = {event.call.call_id for event in of_type(CallFinished, events)}
    ended = {call.call_id for call in simulation.world.calls(NOON, NOON + 7 * HOUR) if call.destroyed < NOON + 5 * HOUR}
    assert ended <= finished


async def test_sessions_that_failed_under_a_wrong_clock_are_retried_when_it_is_right():
    start, end = NOON + 1_800, NOON + 3 * HOUR
    first_host_down = Faults.outage(start, end, Fault("refused"), host=0)
    misdated = Faults.always(Fault("date", date_off=40 * DAY)).only(host=1)
    sessions_down = Faults.outage(start, end, Fault("html")).only("call_sessions")
    simulation = simulated("enterprise", faults=sessions_down + first_host_down + misdated)
    async with simulation.client() as client:
        events = await consume_for(client.calls.follow(with_sessions=True), 6 * HOUR)
    finished = [event for event in of_type(CallFinished, events) if event.call.destroyed_ts > end]
    assert len(finished) > 20
    assert all(event.sessions for event in finished)
    assert not of_type(CallLost, events)


async def test_a_watch_without_quota_reports_it_and_checks_again():
    limit_of_one = Fault("refusal", code=300, message="qpd limit error, qpd limit = 1")
    simulation = simulated(faults=Faults.script([None, limit_of_one]))
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS)
        async with consuming(watch) as events:
            await asyncio.sleep(20 * HOUR)
            assert watch.health.state == "waiting for quota"
            await asyncio.sleep(5 * HOUR)
            assert watch.health.state == "polling"
    # A learned limit expires after a day; the next midnight is twelve hours later.
    assert of_type(Gap, events)[-1].reason == "quota"
    assert NOON + 23 * HOUR < of_type(Gap, events)[-1].span.end < NOON + 25 * HOUR
    assert is_contiguous(events)
