"""A search of the oldest that a plan keeps outlives its own start: it goes on, and says what was lost."""

from __future__ import annotations

import asyncio

import pytest
from helpers.streaming import DAY, HOUR, NOON, simulated

from agora_analytics import STANDARD, Call, PlanRefused, Span
from agora_analytics.simulator import HostClock, Simulation, World

BUSY = World(seed=7, calls_per_hour=60)
KEPT = STANDARD.limits["call_lists"]


def now(simulation: Simulation) -> float:
    return simulation.service.clock()


def truth(simulation: Simulation, span: Span) -> set[str]:
    return {call.call_id for call in simulation.world.calls(span.start, span.end)}


def whole(calls: list[Call]) -> set[str]:
    names = [call.call_id for call in calls]
    assert len(names) == len(set(names))
    return set(names)


def check(simulation: Simulation, span: Span, found, calls: list[Call]) -> None:
    """All has come but of what was lost, and nothing else."""
    assert found.missing[0].start == span.start
    lost = set().union(*(truth(simulation, one) for one in found.missing))
    assert truth(simulation, span) - lost <= whole(calls) <= truth(simulation, span)


async def known(client) -> None:
    """Let a client know the time for certain."""
    await client.calls.page(NOON - 2 * HOUR, NOON - HOUR)
    assert client.quota.confirmed


async def test_a_consumer_who_takes_a_minute_for_each_call_reads_on_to_the_end(caplog):
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        await known(client)
        span = client.calls.recent(DAY)
        found = client.calls.search(*span, page_size=10)
        calls = []
        async for call in found:
            calls.append(call)
            await asyncio.sleep(60)
    check(simulation, span, found, calls)
    assert sum(one.duration for one in found.missing) > HOUR
    assert not simulation.service.refusals
    assert len([one for one in caplog.messages if "expired at the service" in one]) == 1


@pytest.mark.parametrize("ahead", [0, 1, 3, 10, 60, 121])
async def test_a_start_at_the_edge_of_what_is_kept_is_refused_nowhere(ahead):
    simulation = simulated("standard", world=BUSY)
    transport = simulation.transport(latency=(0.2, 0.2))
    async with simulation.client(transport=transport) as client:
        await known(client)
        oldest = KEPT.oldest(int(now(simulation))) + ahead
        span = Span(oldest, oldest + 4 * HOUR)
        found = client.calls.search(*span, page_size=10)
        calls = [call async for call in found]
    lost = sum(one.duration for one in found.missing)
    assert lost <= max(0, now(simulation) - NOON + 3 - ahead), "no more than the time that passed"
    assert truth(simulation, Span(span.start + lost, span.end)) <= whole(calls)
    assert not simulation.service.refusals


async def test_a_consumer_who_comes_back_after_two_days_finds_the_end_and_what_was_lost():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        await known(client)
        span = client.calls.recent(DAY)
        found = client.calls.search(*span, page_size=10)
        first = await anext(found)
        await asyncio.sleep(2 * DAY)
        rest = [call async for call in found]
    assert len(whole([first, *rest])) <= 20, "of pages that were there already"
    assert found.requests == simulation.service.counts["call_lists"] - 1, "what was not sent is no request"
    assert found.missing[-1].end == span.end
    assert not simulation.service.refusals


async def test_while_the_clock_is_in_doubt_the_service_says_what_is_too_old():
    """The host is five minutes behind, so the start is that much too old, and the first answer is a refusal."""
    simulation = simulated("standard", world=BUSY)
    behind = HostClock(simulation.service.clock, wrong=-300)
    async with simulation.client(clock=behind) as client:
        span = Span(KEPT.oldest(NOON - 300), NOON - 20 * HOUR)
        found = client.calls.search(*span)
        calls = [call async for call in found]
    check(simulation, span, found, calls)
    assert 300 <= found.missing[0].duration < 330
    assert sum(simulation.service.refusals.values()) == 1


async def test_a_plan_that_keeps_less_than_thought_is_told_by_one_request():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client(plan=STANDARD.with_limits("call_lists", available=7 * DAY)) as client:
        await known(client)
        with pytest.raises(PlanRefused) as caught:
            [call async for call in client.calls.search(NOON - 3 * DAY, NOON - 3 * DAY + HOUR)]
    assert caught.value.kind == "range"
    assert sum(simulation.service.refusals.values()) == 1


async def test_a_start_that_is_refused_wherever_it_moves_is_refused_three_times():
    simulation = simulated("standard", world=BUSY)
    believed = STANDARD.with_limits("call_lists", available=KEPT.available + 300)
    async with simulation.client(plan=believed) as client:
        await known(client)
        oldest = KEPT.oldest(NOON) - 300
        with pytest.raises(PlanRefused) as caught:
            [call async for call in client.calls.search(oldest, oldest + HOUR)]
    assert caught.value.kind == "range"
    assert sum(simulation.service.refusals.values()) == 3


async def test_a_span_that_was_too_old_from_the_beginning_is_refused_and_not_found_empty():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        with pytest.raises(PlanRefused):
            [call async for call in client.calls.search(NOON - 3 * DAY, NOON - 2 * DAY)]
    assert sum(simulation.service.refusals.values()) == 1


async def test_where_nothing_is_lost_nothing_is_missing():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        span = Span(NOON - 20 * HOUR, NOON - HOUR)
        found = client.calls.search(*span)
        assert whole([call async for call in found]) == truth(simulation, span)
    assert found.missing == ()


# Details


def sessions_truth(simulation: Simulation, call: Call) -> set[str]:
    (known,) = [
        one for one in simulation.world.calls(call.created_ts, call.created_ts + 1) if one.call_id == call.call_id
    ]
    return {one.sid for one in simulation.world.sessions(known) if not one.server}


async def drilled(client, call: Call, ask: str):
    found = getattr(client.calls, ask)(call)
    return found, [one.sid async for one in found]


@pytest.mark.parametrize("ask", ["sessions", "metrics"])
async def test_of_a_call_that_has_just_ended_it_is_told_what_could_not_be_asked_for_yet(ask):
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        found = [call async for call in client.calls.search(*client.calls.recent(2 * HOUR))]
        call = next(one for one in found if one.finished and one.created_ts < NOON - 600 < one.destroyed_ts - 400)
        young, _ = await drilled(client, call, ask)
        assert [one.end for one in young.missing] == [call.span.end]
        assert now(simulation) - 304 < young.missing[0].start < now(simulation) - 300
        await asyncio.sleep(600)
        whole, sids = await drilled(client, call, ask)
    assert whole.missing == ()
    assert set(sids) == sessions_truth(simulation, call)
    assert not simulation.service.refusals


@pytest.mark.parametrize("ask", ["sessions", "metrics"])
async def test_of_a_call_that_began_before_what_is_kept_it_is_told_what_is_gone(ask):
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        await known(client)
        oldest = KEPT.oldest(int(now(simulation)))
        call = Call(call_id="old", created_ts=oldest - 600, destroyed_ts=oldest + 600, finished=True)
        found, _ = await drilled(client, call, ask)
        assert found.missing == (Span(oldest - 600, oldest + 2),)
        with pytest.raises(PlanRefused, match="over for longer") as caught:
            await drilled(client, Call(call_id="older", created_ts=oldest - 600, destroyed_ts=oldest - 9), ask)
    assert caught.value.kind == "range"
    assert not simulation.service.refusals


async def test_sessions_that_expire_while_they_are_read_leave_those_that_are_kept():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        await known(client)
        start = KEPT.oldest(int(now(simulation))) + 10
        found = client.calls.sessions("call", start, start + 3 * HOUR)
        await asyncio.sleep(2 * HOUR)
        assert [one async for one in found] == []
    assert 2 * HOUR - 10 <= sum(one.duration for one in found.missing) < 2 * HOUR + 60
    assert not simulation.service.refusals
