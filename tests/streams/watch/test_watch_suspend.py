"""A machine that sleeps: the windows that this loses are a gap with the reason `asleep`, also near outages."""

from __future__ import annotations

import asyncio
import logging

import pytest
from helpers.streaming import HOUR, NOON, USERS, collect, consuming, gaps_since_noon, is_contiguous, of_type, simulated

from agora_analytics import Gap
from agora_analytics.simulator import Fault, Faults
from agora_analytics.spans import Span


async def send_three_requests(client) -> None:
    """Send requests of another kind: their answers tell the client the time."""
    for _ in range(3):
        await client.calls.page(NOON, NOON + 60)
        await asyncio.sleep(1.1)


@pytest.mark.parametrize("minutes", [39, 45, 70, 480])
async def test_windows_lost_to_a_sleep_are_a_gap_for_the_sleep(minutes):
    simulation = simulated()
    async with simulation.client() as client:
        asyncio.get_running_loop().call_later(3_000, simulation.clock.suspend, minutes * 60)
        events = await collect(client.realtime.watch(USERS, start=NOON, stop=NOON + 4_000 + minutes * 60))
    assert is_contiguous(events, NOON)
    assert {reason for _, _, reason in gaps_since_noon(events)} == {"asleep"}
    # Windows not requested before the sleep and expired by the first answer that tells the time.
    assert minutes * 60 - 2_400 <= sum(end - first for first, end, _ in gaps_since_noon(events)) <= minutes * 60 - 2_200


async def test_a_sleep_in_an_outage_is_a_gap_for_the_sleep():
    awake = NOON + 3_000 + 3 * HOUR
    outage = Faults.outage(NOON + 2_900, NOON + 3_000)
    busy = Faults.outage(awake, awake + 60, fault=Fault("busy", retry_after=20))
    simulation = simulated(faults=(outage + busy).only("realtime_usage"))

    async def request_after_waking() -> None:
        await asyncio.sleep(2_999)
        simulation.clock.suspend(3 * HOUR)
        await send_three_requests(client)

    async with simulation.client() as client:
        waking = asyncio.create_task(request_after_waking())
        events = await collect(client.realtime.watch(USERS, start=NOON, stop=NOON + 4_000 + 3 * HOUR))
        await waking
    assert is_contiguous(events, NOON)
    assert {reason for _, _, reason in gaps_since_noon(events)} == {"asleep"}


@pytest.mark.parametrize("first_answer", ["its own", "another's"])
async def test_the_host_clock_separates_a_sleep_from_the_outage_it_ends_in(first_answer):
    asleep = Span(NOON + 3_000, NOON + 3_000 + 3 * HOUR)
    outage = Faults.outage(asleep.end - 60, asleep.end + 2 * HOUR)
    simulation = simulated(faults=outage)

    async def request_after_outage() -> None:
        await asyncio.sleep(3_000 + 2 * HOUR)
        if first_answer == "another's":
            await send_three_requests(client)

    async with simulation.client() as client:
        requesting = asyncio.create_task(request_after_outage())
        asyncio.get_running_loop().call_later(3_000, simulation.clock.suspend, asleep.duration)
        events = await collect(client.realtime.watch(USERS, start=NOON, stop=asleep.end + 3 * HOUR))
        await requesting
    assert is_contiguous(events, NOON)
    gaps = [(gap.span.start - asleep.start, gap.span.end - asleep.end, gap.reason) for gap in of_type(Gap, events)]
    assert [reason for _, _, reason in gaps] == ["asleep", "outage"]
    # A window is lost to whatever took more of the 40 minutes in which it was queryable.
    assert abs(gaps[0][1] + 1_200) < 180


@pytest.mark.parametrize("first_answer", ["its own", "another's"])
async def test_a_sleep_is_distinguished_from_a_busy_consumer(first_answer):
    asleep = Span(NOON + HOUR, NOON + 4 * HOUR)
    simulation = simulated()
    events: list = []

    async def sleep_and_wake() -> None:
        await asyncio.sleep(HOUR)
        simulation.clock.suspend(asleep.duration)
        if first_answer == "another's":
            await send_three_requests(client)

    async with simulation.client() as client:
        waking = asyncio.create_task(sleep_and_wake())
        async for event in client.realtime.watch(USERS, start=NOON, stop=asleep.end + 3 * HOUR):
            events.append(event)
            if event.span.end == NOON + 2_400:
                await asyncio.sleep(2 * HOUR)
        await waking
    assert is_contiguous(events, NOON)
    gaps = [(gap.span.end - asleep.end, gap.reason) for gap in of_type(Gap, events)]
    assert [reason for _, reason in gaps] == ["asleep", "consumer"]
    assert abs(gaps[0][0] + 1_200) < 180


async def test_two_sleeps_around_an_outage_are_two_gaps():
    first = Span(NOON + 3_000, NOON + 3_000 + 3 * HOUR)
    second = Span(first.end + 2 * HOUR, first.end + 5 * HOUR)
    simulation = simulated(faults=Faults.outage(first.end - 60, second.start + 60))
    async with simulation.client() as client:
        loop = asyncio.get_running_loop()
        loop.call_later(3_000, simulation.clock.suspend, first.duration)
        loop.call_later(3_000 + 2 * HOUR, simulation.clock.suspend, second.duration)
        events = await collect(client.realtime.watch(USERS, start=NOON, stop=second.end + HOUR))
    assert is_contiguous(events, NOON)
    gaps = [(gap.span.end, gap.reason) for gap in of_type(Gap, events)]
    assert [reason for _, reason in gaps] == ["asleep", "outage", "asleep"]
    assert abs(gaps[0][0] - first.end + 1_200) < 180
    assert abs(gaps[1][0] - second.start + 1_200) < 180


async def test_a_changed_host_clock_is_not_taken_for_a_sleep():
    asleep = Span(NOON + 6_000, NOON + 6_000 + 3 * HOUR)
    simulation = simulated()
    async with simulation.client() as client:
        loop = asyncio.get_running_loop()
        loop.call_later(3_000, setattr, simulation.host_clock, "wrong", 4_000)
        loop.call_later(6_000, simulation.clock.suspend, asleep.duration)
        events = await collect(client.realtime.watch(USERS, start=NOON, stop=asleep.end + HOUR))
    assert is_contiguous(events, NOON)
    assert [gap.reason for gap in of_type(Gap, events)] == ["asleep"]


async def test_a_reported_sleep_is_not_added_to_later_ones():
    first = Span(NOON + HOUR, NOON + 4 * HOUR)
    second = Span(first.end + 4 * HOUR, first.end + 7 * HOUR)
    third = Span(second.end + 2 * HOUR, second.end + 5 * HOUR)
    simulation = simulated(faults=Faults.outage(first.end + 600, third.start + 60))
    events: list = []

    async def sleep_and_wake() -> None:
        await asyncio.sleep(HOUR)
        simulation.clock.suspend(first.duration)
        await send_three_requests(client)

    async with simulation.client() as client:
        waking = asyncio.create_task(sleep_and_wake())
        for at, asleep in ((5 * HOUR, second), (7 * HOUR, third)):
            asyncio.get_running_loop().call_later(at, simulation.clock.suspend, asleep.duration)
        async for event in client.realtime.watch(USERS, start=NOON, stop=third.end + 2 * HOUR):
            events.append(event)
            if event.span.end == NOON + 2_400:
                await asyncio.sleep(2 * HOUR)
        await waking
    assert is_contiguous(events, NOON)
    gaps = [(gap.span.end, gap.reason) for gap in of_type(Gap, events)]
    assert [reason for _, reason in gaps] == ["asleep", "consumer", "outage", "asleep", "outage", "asleep"]
    errors = [gaps[0][0] - first.end, gaps[2][0] - second.start, gaps[3][0] - second.end, gaps[4][0] - third.start]
    assert [abs(error + 1_200) < 180 for error in errors] == [True] * 4


async def test_the_request_that_reveals_a_sleep_is_not_logged_as_a_failure(caplog):
    simulation = simulated()
    async with simulation.client() as client, consuming(client.realtime.watch(USERS)) as events:
        await asyncio.sleep(600)
        simulation.clock.suspend(39 * 60)
        await asyncio.sleep(600)
    assert [gap.reason for gap in of_type(Gap, events)] == ["asleep"]
    assert simulation.service.refusals.total() <= 1
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
