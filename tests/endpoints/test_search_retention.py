"""A search of the oldest data that a plan keeps: when its start expires, it continues and reports what was lost."""

from __future__ import annotations

import asyncio

import pytest
from helpers.streaming import DAY, HOUR, NOON, simulated

from agora_analytics import STANDARD, Call, PlanRefused, Span
from agora_analytics.simulator import HostClock, Simulation, World

BUSY = World(seed=7, calls_per_hour=60)
LIMITS = STANDARD.limits["call_lists"]


def now(simulation: Simulation) -> float:
    return simulation.service.clock()


def expected_ids(simulation: Simulation, span: Span) -> set[str]:
    return {call.call_id for call in simulation.world.calls(span.start, span.end)}


def unique_ids(calls: list[Call]) -> set[str]:
    names = [call.call_id for call in calls]
    assert len(names) == len(set(names))
    return set(names)


def assert_complete_but_lost(simulation: Simulation, span: Span, results, calls: list[Call]) -> None:
    """Assert that all calls were returned except those of lost spans, and nothing else."""
    assert results.missing[0].start == span.start
    lost = set().union(*(expected_ids(simulation, one) for one in results.missing))
    assert expected_ids(simulation, span) - lost <= unique_ids(calls) <= expected_ids(simulation, span)


async def learn_time(client) -> None:
    """Send a request, after which a client knows the time for certain."""
    await client.calls.page(NOON - 2 * HOUR, NOON - HOUR)
    assert client.quota.confirmed


async def test_a_consumer_that_takes_a_minute_for_each_call_reads_to_the_end(caplog):
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        await learn_time(client)
        span = client.calls.recent(DAY)
        results = client.calls.search(*span, page_size=10)
        calls = []
        async for call in results:
            calls.append(call)
            await asyncio.sleep(60)
    assert_complete_but_lost(simulation, span, results, calls)
    assert sum(one.duration for one in results.missing) > HOUR
    assert not simulation.service.refusals
    assert len([one for one in caplog.messages if "expired at the service" in one]) == 1


@pytest.mark.parametrize("ahead", [0, 1, 3, 10, 60, 121])
async def test_a_start_at_the_edge_of_the_retention_causes_no_error_response(ahead):
    simulation = simulated("standard", world=BUSY)
    transport = simulation.transport(latency=(0.2, 0.2))
    async with simulation.client(transport=transport) as client:
        await learn_time(client)
        oldest = LIMITS.oldest(int(now(simulation))) + ahead
        span = Span(oldest, oldest + 4 * HOUR)
        results = client.calls.search(*span, page_size=10)
        calls = [call async for call in results]
    lost = sum(one.duration for one in results.missing)
    assert lost <= max(0, now(simulation) - NOON + 3 - ahead), "no more than the time that passed"
    assert expected_ids(simulation, Span(span.start + lost, span.end)) <= unique_ids(calls)
    assert not simulation.service.refusals


async def test_a_consumer_that_pauses_for_two_days_gets_the_end_and_the_missing_spans():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        await learn_time(client)
        span = client.calls.recent(DAY)
        results = client.calls.search(*span, page_size=10)
        first = await anext(results)
        await asyncio.sleep(2 * DAY)
        rest = [call async for call in results]
    assert len(unique_ids([first, *rest])) <= 20, "of pages fetched before the pause"
    assert results.requests == simulation.service.counts["call_lists"] - 1, "an attempt that is not sent does not count"
    assert results.missing[-1].end == span.end
    assert not simulation.service.refusals


async def test_with_an_uncertain_clock_an_error_response_shows_what_has_expired():
    """The host is five minutes behind, so the start is too old by that, and the first response is an error."""
    simulation = simulated("standard", world=BUSY)
    slow_clock = HostClock(simulation.service.clock, wrong=-300)
    async with simulation.client(clock=slow_clock) as client:
        span = Span(LIMITS.oldest(NOON - 300), NOON - 20 * HOUR)
        results = client.calls.search(*span)
        calls = [call async for call in results]
    assert_complete_but_lost(simulation, span, results, calls)
    assert 300 <= results.missing[0].duration < 330
    assert sum(simulation.service.refusals.values()) == 1


async def test_a_retention_shorter_than_assumed_raises_after_one_request():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client(plan=STANDARD.with_limits("call_lists", retention=7 * DAY)) as client:
        await learn_time(client)
        with pytest.raises(PlanRefused) as caught:
            [call async for call in client.calls.search(NOON - 3 * DAY, NOON - 3 * DAY + HOUR)]
    assert caught.value.kind == "range"
    assert sum(simulation.service.refusals.values()) == 1


async def test_a_start_that_stays_too_old_raises_after_three_error_responses():
    simulation = simulated("standard", world=BUSY)
    assumed_plan = STANDARD.with_limits("call_lists", retention=LIMITS.retention + 300)
    async with simulation.client(plan=assumed_plan) as client:
        await learn_time(client)
        oldest = LIMITS.oldest(NOON) - 300
        with pytest.raises(PlanRefused) as caught:
            [call async for call in client.calls.search(oldest, oldest + HOUR)]
    assert caught.value.kind == "range"
    assert sum(simulation.service.refusals.values()) == 3


async def test_a_span_that_expired_before_the_search_raises_instead_of_returning_nothing():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        with pytest.raises(PlanRefused):
            [call async for call in client.calls.search(NOON - 3 * DAY, NOON - 2 * DAY)]
    assert sum(simulation.service.refusals.values()) == 1


async def test_a_search_within_the_retention_has_no_missing_span():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        span = Span(NOON - 20 * HOUR, NOON - HOUR)
        results = client.calls.search(*span)
        assert unique_ids([call async for call in results]) == expected_ids(simulation, span)
    assert results.missing == ()


# Details


def expected_sids(simulation: Simulation, call: Call) -> set[str]:
    (world_call,) = [
        one for one in simulation.world.calls(call.created_ts, call.created_ts + 1) if one.call_id == call.call_id
    ]
    return {one.sid for one in simulation.world.sessions(world_call) if not one.server}


async def read_details(client, call: Call, method: str):
    results = getattr(client.calls, method)(call)
    return results, [one.sid async for one in results]


@pytest.mark.parametrize("method", ["sessions", "metrics"])
async def test_sessions_and_metrics_of_a_call_that_just_ended_report_its_missing_end(method):
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        calls = [call async for call in client.calls.search(*client.calls.recent(2 * HOUR))]
        call = next(one for one in calls if one.finished and one.created_ts < NOON - 600 < one.destroyed_ts - 400)
        early_results, _ = await read_details(client, call, method)
        assert [one.end for one in early_results.missing] == [call.span.end]
        assert now(simulation) - 304 < early_results.missing[0].start < now(simulation) - 300
        await asyncio.sleep(600)
        complete, sids = await read_details(client, call, method)
    assert complete.missing == ()
    assert set(sids) == expected_sids(simulation, call)
    assert not simulation.service.refusals


@pytest.mark.parametrize("method", ["sessions", "metrics"])
async def test_sessions_and_metrics_of_a_partly_expired_call_report_its_missing_start(method):
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        await learn_time(client)
        oldest = LIMITS.oldest(int(now(simulation)))
        call = Call(call_id="old", created_ts=oldest - 600, destroyed_ts=oldest + 600, finished=True)
        results, _ = await read_details(client, call, method)
        assert results.missing == (Span(oldest - 600, oldest + 2),)
        with pytest.raises(PlanRefused, match="ended longer ago") as caught:
            await read_details(client, Call(call_id="older", created_ts=oldest - 600, destroyed_ts=oldest - 9), method)
    assert caught.value.kind == "range"
    assert not simulation.service.refusals


async def test_sessions_that_expire_while_they_are_read_are_reported_missing():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        await learn_time(client)
        start = LIMITS.oldest(int(now(simulation))) + 10
        results = client.calls.sessions("call", start, start + 3 * HOUR)
        await asyncio.sleep(2 * HOUR)
        assert [one async for one in results] == []
    assert 2 * HOUR - 10 <= sum(one.duration for one in results.missing) < 2 * HOUR + 60
    assert not simulation.service.refusals
