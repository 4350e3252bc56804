"""Details of a call as the first request of a client: with any host clock, and without dates in responses."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from email.utils import formatdate

import attrs
import pytest
from helpers.streaming import HOUR, NOON, requested_spans, simulated
from helpers.wrong_dates import Misdated

from agora_analytics import STANDARD, Call, PlanRefused, TooEarly
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import Fault, Faults, World

LONG = World(seed=7, calls_per_hour=60, typical_minutes=150)
CLOCK_ERRORS = [0, 3, 600, 7_200, 86_400, -3, -600, -3_000, -86_400]
DATES = ["exact", "absent"]


async def calls_of(simulation) -> list[Call]:
    async with simulation.client() as client:
        return [call async for call in client.calls.search(NOON - 7 * HOUR, NOON - 61)]


def call_that_just_ended(calls: list[Call]) -> Call:
    """A call of several slices that just ended."""
    return next(call for call in calls if call.span and call.span.end > NOON - 200 and call.span.duration > 1.2 * HOUR)


def expected_sids(simulation, call: Call) -> set[str]:
    return sids_joined_between(simulation, call, 0, NOON + 86_400)


def sids_joined_between(simulation, call: Call, start: int, end: int) -> set[str]:
    """The sessions of users who joined a call within a span, without server users."""
    world_call = simulation.world.call(call.call_id)
    return {one.sid for one in simulation.world.sessions(world_call) if not one.server and start <= one.join < end}


def date_faults(simulation, *off: float) -> Faults:
    """Faults that date the next responses this many seconds ahead."""
    return Faults.script([*[None] * len(simulation.service.log), *[Fault("date", date_off=one) for one in off]])


@pytest.mark.parametrize("method", ["sessions", "metrics"])
@pytest.mark.parametrize("date", DATES)
async def test_waiting_returns_all_details_of_a_call_that_just_ended(method, date):
    simulation = simulated("standard", world=LONG, date=date)
    call = call_that_just_ended(await calls_of(simulation))
    async with simulation.client() as client:
        results = {one.sid async for one in getattr(client.calls, method)(call, wait=True)}
    assert results == expected_sids(simulation, call)
    assert simulation.clock() == pytest.approx(call.span.end + 302, abs=5)
    assert simulation.service.refusals["latency"] <= 1


@pytest.mark.parametrize("wrong", CLOCK_ERRORS)
async def test_waiting_follows_the_services_clock_whatever_the_host_clock(wrong):
    simulation = simulated("standard", world=LONG)
    call = call_that_just_ended(await calls_of(simulation))
    simulation.host_clock.wrong = wrong
    async with simulation.client() as client:
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == expected_sids(simulation, call)
    assert simulation.clock() < call.span.end + 310


@pytest.mark.parametrize("date", DATES)
async def test_without_waiting_the_newest_part_is_reported_missing(date):
    simulation = simulated("standard", world=LONG, date=date)
    call = call_that_just_ended(await calls_of(simulation))
    async with simulation.client() as client:
        results = client.calls.sessions(call)
        assert [one.sid async for one in results]
    (missing,) = results.missing
    assert missing.end == call.span.end
    assert missing.start == pytest.approx(simulation.clock() - 301, abs=10)


@pytest.mark.parametrize("wrong", CLOCK_ERRORS)
async def test_details_of_a_call_in_progress_reach_until_now(wrong):
    simulation = simulated("standard", world=LONG)
    call = next(one for one in await calls_of(simulation) if not one.finished and one.created_ts < NOON - 1_500)
    async with simulation.client() as client:
        expected = {one.sid async for one in client.calls.sessions(call)}
        points = await client.calls.timeline(call, "user_count")
    simulation.host_clock.wrong = wrong
    for method in ("sessions", "timeline", "sessions_page"):
        await asyncio.sleep(2)  # each client counts its own requests only
        async with simulation.client() as client:
            if method == "sessions":
                assert {one.sid async for one in client.calls.sessions(call)} >= expected
            elif method == "timeline":
                later_points = await client.calls.timeline(call, "user_count")
                assert [one.ts for one in later_points][: len(points)] == [one.ts for one in points]
            else:
                assert {one.sid for one in (await client.calls.sessions_page(call)).items} >= expected
    assert sum(simulation.service.refusals.values()) <= 3 * (wrong > 0)


async def test_details_of_a_call_in_progress_are_requested_again_if_the_host_clock_was_behind():
    simulation = simulated("standard", world=LONG)
    open_calls = [call for call in await calls_of(simulation) if not call.finished and call.created_ts > NOON - 3_000]
    call, late = next(
        (call, late) for call in open_calls if (late := sids_joined_between(simulation, call, NOON - 850, NOON - 350))
    )
    await asyncio.sleep(2)
    simulation.host_clock.wrong = -600
    async with simulation.client() as client:
        page = await client.calls.sessions_page(call)
    assert late <= {one.sid for one in page.items}
    assert simulation.service.counts["call_sessions"] == 2


@pytest.mark.parametrize("date", DATES)
async def test_too_early_is_raised_after_one_request_at_most(date):
    simulation = simulated("standard", world=LONG, date=date)
    call = next(one for one in reversed(await calls_of(simulation)) if one.created_ts > NOON - 200)
    async with simulation.client() as client:
        with pytest.raises(TooEarly):
            [one async for one in client.calls.sessions(call)]
        with pytest.raises(TooEarly):
            await client.calls.statistics(call, "audio_freeze_rate", "country")
    assert simulation.service.counts["call_details"] <= 2


@pytest.mark.parametrize("ago", [3 * 86_400, 200], ids=["too old", "too young"])
@pytest.mark.parametrize("wrong", [0, 600, -600])
async def test_a_span_given_by_the_caller_is_requested_once_whatever_the_host_clock(ago, wrong):
    simulation = simulated("standard")
    simulation.host_clock.wrong = wrong
    async with simulation.client() as client:
        with pytest.raises(PlanRefused):
            await client.calls.sessions_page("x", NOON - ago, NOON - ago + 60)
    assert sum(simulation.service.refusals.values()) == 1


@pytest.mark.parametrize("wait", [False, True])
async def test_details_that_are_later_than_the_plan_says_cost_a_single_request(wait):
    simulation = simulated("standard", world=LONG)
    calls = await calls_of(simulation)
    call = next(one for one in calls if one.span and one.span.end > NOON - 200 and one.span.duration < HOUR)
    plan = STANDARD.with_limits("call_details", delay=60)
    async with simulation.client(plan=plan) as client, asyncio.timeout(60):
        await client.calls.page(NOON - 600, NOON - 500)
        await asyncio.sleep(call.span.end + 90 - simulation.clock())
        with pytest.raises(PlanRefused) as caught:
            [one async for one in client.calls.sessions(call, wait=wait)]
    assert caught.value.kind == "latency"
    assert simulation.service.refusals["latency"] == 1


async def test_closing_the_client_ends_a_wait_for_details():
    simulation = simulated("standard", world=LONG)
    call = call_that_just_ended(await calls_of(simulation))
    client = simulation.client()
    asyncio.get_running_loop().call_later(20, lambda: asyncio.ensure_future(client.close()))
    started = simulation.clock()
    with pytest.raises(RuntimeError, match="closed"):
        [one async for one in client.calls.sessions(call, wait=True)]
    assert simulation.clock() - started < 30


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("off", [-2 * 86_400, -3_600, 3_600, 2 * 86_400])
@pytest.mark.parametrize("first_request", ["page", "sessions"])
async def test_one_wrongly_dated_response_makes_no_details_unavailable(wait, off, first_request):
    simulation = simulated("standard", world=LONG)
    call = next(one for one in await calls_of(simulation) if one.span and NOON - 3_000 < one.span.end < NOON - 1_200)
    await asyncio.sleep(2)
    simulation.faults = date_faults(simulation, off)
    started = simulation.clock()
    async with simulation.client() as client:
        if first_request == "page":
            await client.calls.page(NOON - 600, NOON - 500)
        results = client.calls.sessions(call, wait=wait)
        assert {one.sid async for one in results} == expected_sids(simulation, call)
        assert results.missing == ()
    assert simulation.clock() - started < 300


class FrozenDate(Misdated):
    """A transport whose responses all have the same date, two hours ahead."""

    async def send(self, request: Request, host: int = 0) -> Response:
        response = await super().send(request, host)
        return Response(response.status, {"Date": formatdate(NOON + 2 * HOUR, usegmt=True)}, response.body)


async def test_a_frozen_date_that_is_ahead_does_not_cause_endless_requests():
    """A cache may send the same header every time. It confirms nothing, so the clock stays uncertain."""
    simulation = simulated("standard", world=LONG)
    call = call_that_just_ended(await calls_of(simulation))
    transport = FrozenDate(simulation.transport(), {})
    async with simulation.client(transport=transport) as client:
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == expected_sids(simulation, call)
    assert transport.sent < 30


async def test_a_call_is_taken_for_expired_only_by_a_certain_clock():
    simulation = simulated("standard", world=LONG, date="absent")
    call = call_that_just_ended(await calls_of(simulation))
    simulation.host_clock.wrong = 2 * 86_400
    async with simulation.client() as client:
        with pytest.raises(PlanRefused) as caught:
            [one async for one in client.calls.sessions(call)]
    assert caught.value.kind == "latency"


@pytest.mark.parametrize("first_request", ["page", "sessions"])
@pytest.mark.parametrize(
    ("wrong", "off"),
    [(0, [3_600]), (0, [3_600, 7_200]), (86_400, [3_600]), (-86_400, [-3_600]), (86_400, [-172_800, -90_000])],
)
async def test_waiting_returns_all_details_although_responses_are_dated_wrongly(wrong, off, first_request):
    simulation = simulated("standard", world=LONG)
    call = call_that_just_ended(await calls_of(simulation))
    await asyncio.sleep(2)
    simulation.host_clock.wrong = wrong
    simulation.faults = date_faults(simulation, *off)
    async with simulation.client() as client:
        if first_request == "page":
            await client.calls.page(NOON - 600, NOON - 500)
        results = client.calls.sessions(call, wait=True)
        assert {one.sid async for one in results} == expected_sids(simulation, call)
    assert simulation.clock() == pytest.approx(call.span.end + 302, abs=5)
    assert simulation.service.refusals["latency"] <= 1 + len(off)


@pytest.mark.parametrize("delay", [300, 1_000])
async def test_a_wait_is_cut_short_when_its_clock_proves_wrong(delay):
    """Two responses agree on a wrong time, and the host's clock keeps contradicting it."""
    simulation = simulated(STANDARD.with_limits("call_details", delay=delay), world=LONG)
    call = call_that_just_ended(await calls_of(simulation))
    await asyncio.sleep(2)
    simulation.faults = date_faults(simulation, -86_400, -86_400)
    async with simulation.client() as client:
        results = client.calls.sessions(call, wait=True)
        assert {one.sid async for one in results} == expected_sids(simulation, call)
    assert call.span.end + delay < simulation.clock() < NOON + 1_010


async def test_waiting_works_if_the_time_is_learned_while_its_request_is_queued():
    simulation = simulated("standard", world=LONG)
    calls = await calls_of(simulation)
    call = next(one for one in calls if one.span and one.span.duration < HOUR and one.span.end > NOON - 200)
    await asyncio.sleep(2)
    async with simulation.client(transport=simulation.transport(latency=(0.1, 0.1))) as client:
        old = asyncio.create_task(client.calls.sessions_page(calls[-1], NOON - HOUR, NOON - HOUR + 60))
        await asyncio.sleep(0)
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == expected_sids(simulation, call)
        await old
    assert simulation.clock() == pytest.approx(call.span.end + 302, abs=5)
    assert not simulation.service.refusals


async def test_waiting_reports_the_expired_start_of_a_call_as_missing():
    simulation = simulated("standard", world=World(seed=7, calls_per_hour=60, typical_minutes=300, long_share=0.5))
    call = next(one for one in await calls_of(simulation) if one.span and one.span.duration > 4 * HOUR)
    async with simulation.client() as client:
        await asyncio.sleep(call.created_ts + 86_400 + 2.5 * HOUR - simulation.clock())
        await client.calls.page(*client.calls.recent(60))
        results = client.calls.sessions(call, wait=True)
        async with asyncio.timeout(60):
            sids = {one.sid async for one in results}
    (missing,) = results.missing
    assert missing.start == call.created_ts
    assert missing.end == pytest.approx(call.created_ts + 2.5 * HOUR, abs=10)
    assert sids >= sids_joined_between(simulation, call, missing.end, call.span.end)


async def test_a_recent_span_of_a_fast_host_clock_is_waited_for_by_the_services_clock():
    simulation = simulated("standard", world=LONG)
    call = next(one for one in await calls_of(simulation) if one.span and one.created_ts < NOON - HOUR)
    simulation.host_clock.wrong = 86_400
    started = simulation.clock()
    async with simulation.client() as client:
        [one async for one in client.calls.sessions(call.call_id, *client.calls.recent(600), wait=True)]
    assert simulation.clock() - started == pytest.approx(240, abs=10)  # details appear so much later than lists


async def test_a_timeline_of_a_call_in_progress_has_whole_minutes_after_a_slow_host_clock():
    simulation = simulated("standard", world=LONG)
    open_calls = [call for call in await calls_of(simulation) if not call.finished and call.created_ts < NOON - 1_500]
    for call in open_calls[:5]:
        await asyncio.sleep(2)
        simulation.host_clock.wrong = 0
        async with simulation.client() as client:
            await client.calls.page(NOON - 600, NOON - 500)
            expected = await client.calls.timeline(call, "user_count")
        simulation.host_clock.wrong = -630
        async with simulation.client() as client:
            results = await client.calls.timeline(call, "user_count")
        assert results[: len(expected) - 1] == expected[:-1]  # the last minute is not over
        starts = {start for _, start, _ in requested_spans(simulation)[-2:]} - {call.created_ts}
        assert [start % 60 for start in starts] == [0]


@pytest.mark.parametrize(("wrong", "latency"), [(-3, 0.0), (0, 20.0)], ids=["clock behind", "slow"])
async def test_details_of_a_call_in_progress_take_a_single_request(wrong, latency):
    simulation = simulated("standard", world=LONG)
    open_calls = [call for call in await calls_of(simulation) if not call.finished]
    call = next(call for call in open_calls if NOON - 3_000 < call.created_ts < NOON - 1_000)
    await asyncio.sleep(2)
    simulation.host_clock.wrong = wrong
    transport = simulation.transport(latency=(latency, 0.0))
    async with simulation.client(transport=transport) as client, asyncio.timeout(120):
        assert [one async for one in client.calls.sessions(call)]
    await asyncio.sleep(2)  # each client counts its own requests only
    async with simulation.client(transport=transport) as client:
        assert (await client.calls.sessions_page(call)).items
    assert simulation.service.counts["call_sessions"] == 2


async def test_a_time_known_from_one_response_is_waited_for_before_the_next_request():
    simulation = simulated("standard", world=LONG)
    calls = await calls_of(simulation)
    call = next(one for one in calls if one.span and one.span.duration < HOUR and one.span.end > NOON - 200)
    await asyncio.sleep(call.span.end + 270 - simulation.clock())
    simulation.host_clock.wrong = 86_400
    async with simulation.client() as client:
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == expected_sids(simulation, call)
    assert simulation.service.refusals["latency"] == 1


async def test_an_error_response_that_corrects_the_clock_leads_to_another_request():
    simulation = simulated("standard", world=LONG)
    calls = await calls_of(simulation)
    call = next(one for one in calls if one.span and 1_000 < one.span.duration < HOUR and one.span.end > NOON - 200)
    await asyncio.sleep(2)
    simulation.faults = date_faults(simulation, 3_600)
    async with simulation.client() as client:
        results = client.calls.sessions(call)
        assert {one.sid async for one in results} >= sids_joined_between(simulation, call, 0, NOON - 300)
    assert [span.end for span in results.missing] == [call.span.end]
    assert simulation.service.refusals["latency"] == 2


@pytest.mark.parametrize("wait", [False, True])
async def test_error_responses_without_a_date_are_retried_only_a_few_times(wait):
    """With `wait=True` the pauses grow, so that the details are queryable in the end."""
    simulation = simulated("standard", world=LONG)
    call = call_that_just_ended(await calls_of(simulation))
    await asyncio.sleep(2)
    simulation.faults = date_faults(simulation, 3_600)
    simulation.host_clock.wrong = 86_400
    async with simulation.client() as client, asyncio.timeout(600 if wait else 10):
        await client.calls.page(NOON - 600, NOON - 500)
        simulation.variants = attrs.evolve(simulation.variants, date="absent")
        with nullcontext() if wait else pytest.raises(PlanRefused):
            [one async for one in client.calls.sessions(call, wait=wait)]
    assert 3 <= simulation.service.refusals["latency"] <= (10 if wait else 3)


@pytest.mark.parametrize("date", DATES)
async def test_an_expired_call_costs_one_request_at_most(date):
    simulation = simulated("standard", world=LONG, date=date)
    call = next(one for one in await calls_of(simulation) if one.span and one.span.duration < HOUR)
    async with simulation.client() as client:
        await asyncio.sleep(call.span.end + 86_400 - 3 - simulation.clock())
        await client.calls.page(*client.calls.recent(60))
        for _ in range(2):  # no request if the clock shows it
            with pytest.raises(PlanRefused) as caught:
                [one async for one in client.calls.sessions(call)]
            assert caught.value.kind == "range"
            await asyncio.sleep(10)
    assert simulation.service.counts["call_sessions"] == (0 if date == "exact" else 2)


async def test_waiting_works_if_the_time_proves_wrong_while_its_request_is_queued():
    simulation = simulated("standard", world=LONG)
    calls = await calls_of(simulation)
    call = next(one for one in calls if one.span and one.span.duration < HOUR and one.span.end > NOON - 200)
    await asyncio.sleep(2)
    simulation.faults = date_faults(simulation, 3_600, 3_600)
    async with simulation.client(transport=simulation.transport(latency=(0.1, 0.1))) as client:
        for _ in range(2):
            await client.calls.page(NOON - 600, NOON - 500)
        old = [client.calls.sessions_page(calls[-1], NOON - HOUR, NOON - HOUR + 60) for _ in range(2)]
        earlier_requests = asyncio.gather(*old)
        await asyncio.sleep(0)
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == expected_sids(simulation, call)
        await earlier_requests
    assert simulation.clock() == pytest.approx(call.span.end + 302, abs=5)
    assert not simulation.service.refusals
