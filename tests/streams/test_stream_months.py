"""What a month of everything has shown: streams that wait, for sessions or for quota, and what they say was lost."""

from __future__ import annotations

import asyncio

from agora_analytics import CallFinished, CallStarted, Gap, MemoryLedger, Series, Window
from agora_analytics.simulator import Fault, Faults, Simulation, World

NOON = 1_795_521_600
MIDNIGHT = NOON + 43_200
USERS = Series("userCount", product="Native")


async def test_calls_are_read_while_a_thousand_wait_for_sessions():
    simulation = Simulation(world=World(seed=7, calls_per_hour=1_500, typical_minutes=1), clock=NOON)
    simulation.service.plan = plan = simulation.service.plan.with_limits("call_details", per_day=10)
    ages = {CallStarted: [], CallFinished: []}
    async with simulation.client(plan=plan) as client:
        follow = client.calls.follow(start=NOON, with_sessions=True)
        asyncio.get_running_loop().call_later(5_400, follow.stop)
        async with follow as events:
            async for event in events:
                if isinstance(event, CallStarted | CallFinished):
                    moment = event.call.created_ts if isinstance(event, CallStarted) else event.call.destroyed_ts
                    ages[type(event)].append(simulation.clock() - moment)
    assert len(ages[CallStarted]) > len(ages[CallFinished]) > 1_500
    assert max(ages[CallStarted]) < 300
    assert sorted(ages[CallFinished])[-100] < 900


async def first_events(simulation: Simulation, ledger: MemoryLedger, start: int) -> list[Gap | Window]:
    """What a watch yields up to its first window, with no more requests left today than the ledger says."""
    found: list[Gap | Window] = []
    async with simulation.client(ledger=ledger) as client, client.realtime.watch(USERS, start=start) as events:
        async for event in events:
            found.append(event)
            if isinstance(event, Window):
                break
    return found


async def test_windows_lost_while_a_new_stream_waits_for_quota_are_lost_to_the_quota():
    simulation = Simulation(world=World(seed=7), plan="premium", clock=NOON)
    ledger = MemoryLedger()
    start = NOON + 60 - 3_600
    async with simulation.client(ledger=ledger) as client:
        simulation.service.spend("realtime", 480)
        await asyncio.sleep(60)
        early = client.realtime.watch(USERS, start=NOON)
        waiting = asyncio.ensure_future(anext(early))
        await asyncio.sleep(60)  # it is refused, and the ledger knows
        waiting.cancel()
        await early.aclose()
    events = await first_events(simulation, ledger, start)
    gaps = {event.reason: event.span for event in events if isinstance(event, Gap)}
    assert list(gaps) == ["before_start", "quota"]
    assert gaps["before_start"].start == start
    assert abs(gaps["before_start"].end - (NOON + 120 - 2_400)) <= 60
    assert gaps["quota"].end - (MIDNIGHT - 2_400) <= 60


async def test_windows_lost_to_a_sleep_are_no_outage_after_an_earlier_failure():
    simulation = Simulation(world=World(seed=7), plan="premium", clock=NOON)
    async with simulation.client() as client, client.realtime.watch(USERS) as events:
        await anext(events)
        simulation.faults = Faults.outage(0, MIDNIGHT)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(900)
        assert events.health.state == "outage"
        simulation.clock.suspend(10_800)
        simulation.faults = Faults()
        found = [await waiting]
        while not isinstance(found[-1], Gap):
            found.append(await anext(events))
    assert found[-1].reason == "asleep"


async def test_a_watch_with_too_few_requests_for_a_poll_waits_and_reports_it():
    simulation = Simulation(world=World(seed=7), plan="premium", clock=NOON)
    simulation.service.plan = plan = simulation.service.plan.with_limits("realtime", per_day=7)
    channels = Series("channelCount", product="Native")
    async with simulation.client(plan=plan) as client, client.realtime.watch(USERS, channels, gaps=True) as events:
        coming = asyncio.ensure_future(_reasons(events))
        await asyncio.sleep(10 * 3_600)
        assert simulation.service.spent("realtime", "day") == 6
        assert events.health.state == "waiting for quota"
        assert events.health.until is not None
        await asyncio.sleep(MIDNIGHT + 7_200 - simulation.clock())
        events.stop()
        reasons = await coming
    assert events.health.failures == 0
    assert reasons[-1] == "quota"


async def _reasons(events) -> list[str]:
    return [event.reason async for event in events if isinstance(event, Gap)]


async def test_windows_lost_while_the_first_request_hangs_are_lost_to_the_outage():
    simulation = Simulation(world=World(seed=7), plan="premium", clock=NOON)
    simulation.faults = Faults.outage(0, NOON + 60, Fault("slow", seconds=90))
    start = NOON - 2_400 + 20
    async with simulation.client() as client, client.realtime.watch(USERS, start=start) as events:
        first = await anext(events)
        assert isinstance(first, Gap)
        assert (first.span.start, first.reason) == (start, "outage")
