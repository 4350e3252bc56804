"""A stream loses nothing if the `Date` of every response is wrong by the same offset."""

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
    WEB,
    consuming,
    gaps_since_noon,
    is_contiguous,
    of_type,
    simulated,
    timestamps,
)

from agora_analytics import CallStarted
from agora_analytics.simulator import Fault, Faults

DATE_OFFSETS = [40 * DAY, 3 * HOUR, -3 * HOUR, -3 * DAY]


def misdated(date_off: float):
    """Return a service whose `Date` is wrong for a quarter of an hour, so consistently that the client believes it."""
    return simulated(faults=Faults.outage(NOON + HOUR, NOON + HOUR + 900, Fault("date", date_off=date_off)))


@pytest.mark.parametrize("date_off", DATE_OFFSETS)
async def test_a_watch_with_a_wrong_date_has_every_window(date_off):
    simulation = misdated(date_off)
    async with simulation.client() as client:
        watch = client.realtime.watch(USERS, start=NOON)
        async with consuming(watch) as events:
            await asyncio.sleep(4 * HOUR)
            assert watch.health.state == "polling"
            assert watch.health.lag < 600
    assert is_contiguous(events, NOON)
    assert gaps_since_noon(events) == []
    assert len(timestamps(events)) > 3.8 * 180
    assert sum(simulation.service.refusals.values()) < 60


@pytest.mark.slow_except("-10800", "3456000")
@pytest.mark.parametrize("date_off", DATE_OFFSETS)
async def test_a_follow_with_a_wrong_date_has_every_call_once(date_off):
    simulation = misdated(date_off)
    async with simulation.client() as client:
        async with consuming(client.calls.follow(start=NOON)) as events:
            await asyncio.sleep(4 * HOUR)
        now = simulation.clock()
    started = [event.call.call_id for event in of_type(CallStarted, events)]
    assert len(started) == len(set(started))
    assert {call.call_id for call in SMALL.calls(NOON, int(now) - 600)} <= set(started)
    assert gaps_since_noon(events) == []


@pytest.mark.parametrize("ahead", [0.3, 0.9])
async def test_a_date_ahead_of_the_rate_limit_counter_does_not_delay_windows(ahead):
    lags = []
    for date_ahead in (0.0, ahead):
        simulation = simulated("enterprise", date_ahead=date_ahead)
        async with simulation.client() as client:
            watch = client.realtime.watch(USERS, WEB, CHANNELS, start=NOON)
            async with consuming(watch) as events:
                await asyncio.sleep(HOUR)
                lags.append(simulation.clock() - events[-1].span.end)
        assert sum(simulation.service.refusals.values()) <= 4
        assert is_contiguous(events, NOON)
    assert lags[1] < lags[0] + 60
