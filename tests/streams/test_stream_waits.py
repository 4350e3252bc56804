"""Streams that wait for sessions, quota or a response: what they still deliver, and the reasons of their gaps.

Runs of a month (`benchmarks.endurance`) found these cases.
"""

from __future__ import annotations

import asyncio

import pytest
from helpers.streaming import DAY, DEFAULT, HOUR, MIDNIGHT, NOON, USERS, simulated

from agora_analytics import CallFinished, CallStarted, Gap, MemoryLedger, Series, Window
from agora_analytics.simulator import Fault, Faults, Simulation, World

NEXT_MIDNIGHT = MIDNIGHT + DAY


@pytest.mark.slow
async def test_calls_are_read_while_a_thousand_wait_for_sessions():
    simulation = simulated("enterprise", world=World(seed=7, calls_per_hour=1_500, typical_minutes=1))
    simulation.service.plan = plan = simulation.service.plan.with_limits("call_details", per_day=10)
    ages = {CallStarted: [], CallFinished: []}
    async with simulation.client(plan=plan) as client:
        follow = client.calls.follow(start=NOON, with_sessions=True)
        asyncio.get_running_loop().call_later(5_400, follow.stop)
        async with follow:
            async for event in follow:
                if isinstance(event, CallStarted | CallFinished):
                    moment = event.call.created_ts if isinstance(event, CallStarted) else event.call.destroyed_ts
                    ages[type(event)].append(simulation.clock() - moment)
    assert len(ages[CallStarted]) > len(ages[CallFinished]) > 1_500
    assert max(ages[CallStarted]) < 300
    assert sorted(ages[CallFinished])[-100] < 900


async def events_until_a_window(simulation: Simulation, ledger: MemoryLedger, start: int) -> list[Gap | Window]:
    """Return the events of a watch up to its first window, with the quota that the ledger has left."""
    events: list[Gap | Window] = []
    async with simulation.client(ledger=ledger) as client, client.realtime.watch(USERS, start=start) as watch:
        async for event in watch:
            events.append(event)
            if isinstance(event, Window):
                break
    return events


async def test_windows_lost_while_a_new_stream_waits_for_quota_are_lost_to_the_quota():
    simulation = simulated(world=DEFAULT)
    ledger = MemoryLedger()
    start = NOON + 60 - HOUR
    async with simulation.client(ledger=ledger) as client:
        simulation.service.spend("realtime", 480)
        await asyncio.sleep(60)
        first = client.realtime.watch(USERS, start=NOON)
        waiting = asyncio.ensure_future(anext(first))
        await asyncio.sleep(60)  # its request is rate limited, which the ledger records
        waiting.cancel()
        await first.aclose()
    events = await events_until_a_window(simulation, ledger, start)
    gaps = {event.reason: event.span for event in events if isinstance(event, Gap)}
    assert list(gaps) == ["before_start", "quota"]
    assert gaps["before_start"].start == start
    assert abs(gaps["before_start"].end - (NOON + 120 - 2_400)) <= 60
    assert abs(gaps["quota"].end - (NEXT_MIDNIGHT - 2_400)) <= 60


async def test_windows_lost_to_a_sleep_are_no_outage_after_an_earlier_failure():
    simulation = simulated(world=DEFAULT)
    async with simulation.client() as client, client.realtime.watch(USERS) as watch:
        await anext(watch)
        simulation.faults = Faults.outage(0, NEXT_MIDNIGHT)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(900)
        assert watch.health.state == "outage"
        simulation.clock.suspend(3 * HOUR)
        simulation.faults = Faults()
        events = [await waiting]
        while not isinstance(events[-1], Gap):
            events.append(await anext(watch))
    assert events[-1].reason == "asleep"


async def test_a_watch_with_too_few_requests_for_a_poll_waits_and_reports_it():
    simulation = simulated(world=DEFAULT)
    simulation.service.plan = plan = simulation.service.plan.with_limits("realtime", per_day=7)
    channels = Series("channelCount", product="Native")
    async with simulation.client(plan=plan) as client, client.realtime.watch(USERS, channels, gaps=True) as watch:
        consuming = asyncio.ensure_future(gap_reasons(watch))
        await asyncio.sleep(10 * HOUR)
        assert simulation.service.spent("realtime", "day") == 6
        assert watch.health.state == "waiting for quota"
        assert watch.health.until is not None
        await asyncio.sleep(NEXT_MIDNIGHT + 2 * HOUR - simulation.clock())
        watch.stop()
        reasons = await consuming
    assert watch.health.failures == 0
    assert reasons[-1] == "quota"


async def gap_reasons(watch) -> list[str]:
    return [event.reason async for event in watch if isinstance(event, Gap)]


async def test_windows_lost_while_the_first_request_hangs_are_lost_to_the_outage():
    simulation = simulated(world=DEFAULT)
    simulation.faults = Faults.outage(0, NOON + 60, Fault("slow", seconds=90))
    start = NOON - 2_400 + 20
    async with simulation.client() as client, client.realtime.watch(USERS, start=start) as watch:
        first = await anext(watch)
        assert isinstance(first, Gap)
        assert (first.span.start, first.reason) == (start, "outage")
