"""Details of a call as the first thing that a client asks: on any host clock, and where no answer has a date."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from email.utils import formatdate

import attrs
import pytest
from helpers.streaming import HOUR, NOON, simulated, spans_asked
from helpers.wrong_dates import Misdated

from agora_analytics import STANDARD, Call, PlanRefused, TooEarly
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import Fault, Faults, World

LONG = World(seed=7, calls_per_hour=60, typical_minutes=150)
WRONG = [0, 3, 600, 7_200, 86_400, -3, -600, -3_000, -86_400]
DATES = ["exact", "absent"]


async def calls_of(simulation) -> list[Call]:
    async with simulation.client() as client:
        return [call async for call in client.calls.search(NOON - 7 * HOUR, NOON - 61)]


def over(calls: list[Call]) -> Call:
    """A call of several slices that ended just now."""
    return next(call for call in calls if call.span and call.span.end > NOON - 200 and call.span.duration > 1.2 * HOUR)


def truth(simulation, call: Call) -> set[str]:
    return joined(simulation, call, 0, NOON + 86_400)


def joined(simulation, call: Call, start: int, end: int) -> set[str]:
    """The sessions of people who joined a call in a span of time."""
    whole = simulation.world.call(call.call_id)
    return {one.sid for one in simulation.world.sessions(whole) if not one.server and start <= one.join < end}


def dated(simulation, *off: float) -> Faults:
    """The next answers are dated so many seconds ahead."""
    return Faults.script([*[None] * len(simulation.service.log), *[Fault("date", date_off=one) for one in off]])


@pytest.mark.parametrize("ask", ["sessions", "metrics"])
@pytest.mark.parametrize("date", DATES)
async def test_a_call_that_ended_just_now_is_waited_for(ask, date):
    simulation = simulated("standard", world=LONG, date=date)
    call = over(await calls_of(simulation))
    async with simulation.client() as client:
        found = {one.sid async for one in getattr(client.calls, ask)(call, wait=True)}
    assert found == truth(simulation, call)
    assert simulation.clock() == pytest.approx(call.span.end + 302, abs=5)
    assert simulation.service.refusals["latency"] <= 1


@pytest.mark.parametrize("wrong", WRONG)
async def test_whatever_the_host_s_clock_says_it_is_waited_for_by_the_service_s(wrong):
    simulation = simulated("standard", world=LONG)
    call = over(await calls_of(simulation))
    simulation.host_clock.wrong = wrong
    async with simulation.client() as client:
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == truth(simulation, call)
    assert simulation.clock() < call.span.end + 310


@pytest.mark.parametrize("date", DATES)
async def test_without_waiting_what_is_too_young_is_missing(date):
    simulation = simulated("standard", world=LONG, date=date)
    call = over(await calls_of(simulation))
    async with simulation.client() as client:
        found = client.calls.sessions(call)
        assert [one.sid async for one in found]
    (missing,) = found.missing
    assert missing.end == call.span.end
    assert missing.start == pytest.approx(simulation.clock() - 301, abs=10)


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_call_that_goes_on_is_asked_about_until_now(wrong):
    simulation = simulated("standard", world=LONG)
    call = next(one for one in await calls_of(simulation) if not one.finished and one.created_ts < NOON - 1_500)
    async with simulation.client() as client:
        there = {one.sid async for one in client.calls.sessions(call)}
        points = await client.calls.timeline(call, "user_count")
    simulation.host_clock.wrong = wrong
    for ask in ("sessions", "timeline", "sessions_page"):
        await asyncio.sleep(2)  # each client counts for itself
        async with simulation.client() as client:
            if ask == "sessions":
                assert {one.sid async for one in client.calls.sessions(call)} >= there
            elif ask == "timeline":
                again = await client.calls.timeline(call, "user_count")
                assert [one.ts for one in again][: len(points)] == [one.ts for one in points]
            else:
                assert {one.sid for one in (await client.calls.sessions_page(call)).items} >= there
    assert sum(simulation.service.refusals.values()) <= 3 * (wrong > 0)


async def test_one_request_about_a_call_that_goes_on_is_made_again_where_the_host_s_clock_was_behind():
    simulation = simulated("standard", world=LONG)
    goes_on = [call for call in await calls_of(simulation) if not call.finished and call.created_ts > NOON - 3_000]
    call, late = next((call, late) for call in goes_on if (late := joined(simulation, call, NOON - 850, NOON - 350)))
    await asyncio.sleep(2)
    simulation.host_clock.wrong = -600
    async with simulation.client() as client:
        page = await client.calls.sessions_page(call)
    assert late <= {one.sid for one in page.items}
    assert simulation.service.counts["call_sessions"] == 2


@pytest.mark.parametrize("date", DATES)
async def test_what_is_too_early_is_said_after_one_request_at_most(date):
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
async def test_a_span_of_its_caller_s_is_asked_for_once_however_wrong_the_host_s_clock(ago, wrong):
    simulation = simulated("standard")
    simulation.host_clock.wrong = wrong
    async with simulation.client() as client:
        with pytest.raises(PlanRefused):
            await client.calls.sessions_page("x", NOON - ago, NOON - ago + 60)
    assert sum(simulation.service.refusals.values()) == 1


@pytest.mark.parametrize("wait", [False, True])
async def test_a_service_whose_details_come_later_than_the_plan_says_is_not_asked_again_and_again(wait):
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


async def test_who_waits_hears_soon_that_the_client_was_closed():
    simulation = simulated("standard", world=LONG)
    call = over(await calls_of(simulation))
    client = simulation.client()
    asyncio.get_running_loop().call_later(20, lambda: asyncio.ensure_future(client.close()))
    begun = simulation.clock()
    with pytest.raises(RuntimeError, match="closed"):
        [one async for one in client.calls.sessions(call, wait=True)]
    assert simulation.clock() - begun < 30


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("off", [-2 * 86_400, -3_600, 3_600, 2 * 86_400])
@pytest.mark.parametrize("first", ["page", "sessions"])
async def test_one_answer_that_is_dated_wrongly_makes_nothing_unaskable(wait, off, first):
    simulation = simulated("standard", world=LONG)
    call = next(one for one in await calls_of(simulation) if one.span and NOON - 3_000 < one.span.end < NOON - 1_200)
    await asyncio.sleep(2)
    simulation.faults = dated(simulation, off)
    begun = simulation.clock()
    async with simulation.client() as client:
        if first == "page":
            await client.calls.page(NOON - 600, NOON - 500)
        found = client.calls.sessions(call, wait=wait)
        assert {one.sid async for one in found} == truth(simulation, call)
        assert found.missing == ()
    assert simulation.clock() - begun < 300


class Stuck(Misdated):
    """A transport whose answers have all the same date, two hours ahead."""

    async def send(self, request: Request, host: int = 0) -> Response:
        response = await super().send(request, host)
        return Response(response.status, {"Date": formatdate(NOON + 2 * HOUR, usegmt=True)}, response.body)


async def test_a_date_that_stands_still_and_is_ahead_makes_nobody_ask_again_and_again():
    """A cache may send one header for ever: it is no second witness, so the clock stays in doubt."""
    simulation = simulated("standard", world=LONG)
    call = over(await calls_of(simulation))
    stuck = Stuck(simulation.transport(), {})
    async with simulation.client(transport=stuck) as client:
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == truth(simulation, call)
    assert stuck.sent < 30


async def test_a_call_is_gone_only_by_a_clock_that_is_certain():
    simulation = simulated("standard", world=LONG, date="absent")
    call = over(await calls_of(simulation))
    simulation.host_clock.wrong = 2 * 86_400
    async with simulation.client() as client:
        with pytest.raises(PlanRefused) as caught:
            [one async for one in client.calls.sessions(call)]
    assert caught.value.kind == "latency"


@pytest.mark.parametrize("first", ["page", "sessions"])
@pytest.mark.parametrize(
    ("wrong", "off"),
    [(0, [3_600]), (0, [3_600, 7_200]), (86_400, [3_600]), (-86_400, [-3_600]), (86_400, [-172_800, -90_000])],
)
async def test_a_call_is_waited_for_until_it_can_be_had_though_answers_are_dated_wrongly(wrong, off, first):
    simulation = simulated("standard", world=LONG)
    call = over(await calls_of(simulation))
    await asyncio.sleep(2)
    simulation.host_clock.wrong = wrong
    simulation.faults = dated(simulation, *off)
    async with simulation.client() as client:
        if first == "page":
            await client.calls.page(NOON - 600, NOON - 500)
        found = client.calls.sessions(call, wait=True)
        assert {one.sid async for one in found} == truth(simulation, call)
    assert simulation.clock() == pytest.approx(call.span.end + 302, abs=5)
    assert simulation.service.refusals["latency"] <= 1 + len(off)


@pytest.mark.parametrize("delay", [300, 1_000])
async def test_a_clock_that_proves_wrong_while_a_call_is_waited_for_is_not_waited_for(delay):
    """Two answers agreed on the wrong time, which the host's clock goes on to contradict."""
    simulation = simulated(STANDARD.with_limits("call_details", delay=delay), world=LONG)
    call = over(await calls_of(simulation))
    await asyncio.sleep(2)
    simulation.faults = dated(simulation, -86_400, -86_400)
    async with simulation.client() as client:
        found = client.calls.sessions(call, wait=True)
        assert {one.sid async for one in found} == truth(simulation, call)
    assert call.span.end + delay < simulation.clock() < NOON + 1_010


async def test_a_call_is_waited_for_where_the_time_is_learned_while_its_request_is_in_line():
    simulation = simulated("standard", world=LONG)
    calls = await calls_of(simulation)
    call = next(one for one in calls if one.span and one.span.duration < HOUR and one.span.end > NOON - 200)
    await asyncio.sleep(2)
    async with simulation.client(transport=simulation.transport(latency=(0.1, 0.1))) as client:
        old = asyncio.create_task(client.calls.sessions_page(calls[-1], NOON - HOUR, NOON - HOUR + 60))
        await asyncio.sleep(0)
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == truth(simulation, call)
        await old
    assert simulation.clock() == pytest.approx(call.span.end + 302, abs=5)
    assert not simulation.service.refusals


async def test_of_a_call_that_is_waited_for_what_is_not_kept_any_more_is_missing():
    simulation = simulated("standard", world=World(seed=7, calls_per_hour=60, typical_minutes=300, long_share=0.5))
    call = next(one for one in await calls_of(simulation) if one.span and one.span.duration > 4 * HOUR)
    async with simulation.client() as client:
        await asyncio.sleep(call.created_ts + 86_400 + 2.5 * HOUR - simulation.clock())
        await client.calls.page(*client.calls.recent(60))
        found = client.calls.sessions(call, wait=True)
        async with asyncio.timeout(60):
            sids = {one.sid async for one in found}
    (missing,) = found.missing
    assert missing.start == call.created_ts
    assert missing.end == pytest.approx(call.created_ts + 2.5 * HOUR, abs=10)
    assert sids >= joined(simulation, call, missing.end, call.span.end)


async def test_a_span_by_a_host_s_clock_that_is_ahead_is_waited_for_by_the_service_s():
    simulation = simulated("standard", world=LONG)
    call = next(one for one in await calls_of(simulation) if one.span and one.created_ts < NOON - HOUR)
    simulation.host_clock.wrong = 86_400
    begun = simulation.clock()
    async with simulation.client() as client:
        [one async for one in client.calls.sessions(call.call_id, *client.calls.recent(600), wait=True)]
    assert simulation.clock() - begun == pytest.approx(240, abs=10)  # by so much details come later than lists


async def test_the_minutes_of_a_call_that_goes_on_are_whole_where_the_host_s_clock_was_behind():
    simulation = simulated("standard", world=LONG)
    goes_on = [call for call in await calls_of(simulation) if not call.finished and call.created_ts < NOON - 1_500]
    for call in goes_on[:5]:
        await asyncio.sleep(2)
        simulation.host_clock.wrong = 0
        async with simulation.client() as client:
            await client.calls.page(NOON - 600, NOON - 500)
            right = await client.calls.timeline(call, "user_count")
        simulation.host_clock.wrong = -630
        async with simulation.client() as client:
            found = await client.calls.timeline(call, "user_count")
        assert found[: len(right) - 1] == right[:-1]  # the last minute goes on
        begins = {start for _, start, _ in spans_asked(simulation)[-2:]} - {call.created_ts}
        assert [start % 60 for start in begins] == [0]


@pytest.mark.parametrize(("wrong", "latency"), [(-3, 0.0), (0, 20.0)], ids=["clock behind", "slow"])
async def test_a_call_that_goes_on_is_asked_about_once_until_the_moment_of_asking(wrong, latency):
    simulation = simulated("standard", world=LONG)
    goes_on = [call for call in await calls_of(simulation) if not call.finished]
    call = next(call for call in goes_on if NOON - 3_000 < call.created_ts < NOON - 1_000)
    await asyncio.sleep(2)
    simulation.host_clock.wrong = wrong
    transport = simulation.transport(latency=(latency, 0.0))
    async with simulation.client(transport=transport) as client, asyncio.timeout(120):
        assert [one async for one in client.calls.sessions(call)]
    await asyncio.sleep(2)  # each client counts for itself
    async with simulation.client(transport=transport) as client:
        assert (await client.calls.sessions_page(call)).items
    assert simulation.service.counts["call_sessions"] == 2


async def test_what_is_young_by_the_word_of_one_answer_is_waited_for_a_minute_before_another_is_asked():
    simulation = simulated("standard", world=LONG)
    calls = await calls_of(simulation)
    call = next(one for one in calls if one.span and one.span.duration < HOUR and one.span.end > NOON - 200)
    await asyncio.sleep(call.span.end + 270 - simulation.clock())
    simulation.host_clock.wrong = 86_400
    async with simulation.client() as client:
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == truth(simulation, call)
    assert simulation.service.refusals["latency"] == 1


async def test_a_refusal_that_tells_that_the_time_was_wrong_is_no_last_word():
    simulation = simulated("standard", world=LONG)
    calls = await calls_of(simulation)
    call = next(one for one in calls if one.span and 1_000 < one.span.duration < HOUR and one.span.end > NOON - 200)
    await asyncio.sleep(2)
    simulation.faults = dated(simulation, 3_600)
    async with simulation.client() as client:
        found = client.calls.sessions(call)
        assert {one.sid async for one in found} >= joined(simulation, call, 0, NOON - 300)
    assert [span.end for span in found.missing] == [call.span.end]
    assert simulation.service.refusals["latency"] == 2


@pytest.mark.parametrize("wait", [False, True])
async def test_refusals_that_tell_no_time_are_taken_a_few_times_only(wait):
    """Who waits asks at ever longer pauses, so that the details are there by then."""
    simulation = simulated("standard", world=LONG)
    call = over(await calls_of(simulation))
    await asyncio.sleep(2)
    simulation.faults = dated(simulation, 3_600)
    simulation.host_clock.wrong = 86_400
    async with simulation.client() as client, asyncio.timeout(600 if wait else 10):
        await client.calls.page(NOON - 600, NOON - 500)
        simulation.variants = attrs.evolve(simulation.variants, date="absent")
        with nullcontext() if wait else pytest.raises(PlanRefused):
            [one async for one in client.calls.sessions(call, wait=wait)]
    assert 3 <= simulation.service.refusals["latency"] <= (10 if wait else 3)


@pytest.mark.parametrize("date", DATES)
async def test_a_call_that_is_not_kept_any_more_is_asked_about_once_at_most(date):
    simulation = simulated("standard", world=LONG, date=date)
    call = next(one for one in await calls_of(simulation) if one.span and one.span.duration < HOUR)
    async with simulation.client() as client:
        await asyncio.sleep(call.span.end + 86_400 - 3 - simulation.clock())
        await client.calls.page(*client.calls.recent(60))
        for _ in range(2):  # what can be seen is not asked
            with pytest.raises(PlanRefused) as caught:
                [one async for one in client.calls.sessions(call)]
            assert caught.value.kind == "range"
            await asyncio.sleep(10)
    assert simulation.service.counts["call_sessions"] == (0 if date == "exact" else 2)


async def test_a_call_is_waited_for_where_the_time_proves_wrong_while_its_request_is_in_line():
    simulation = simulated("standard", world=LONG)
    calls = await calls_of(simulation)
    call = next(one for one in calls if one.span and one.span.duration < HOUR and one.span.end > NOON - 200)
    await asyncio.sleep(2)
    simulation.faults = dated(simulation, 3_600, 3_600)
    async with simulation.client(transport=simulation.transport(latency=(0.1, 0.1))) as client:
        for _ in range(2):
            await client.calls.page(NOON - 600, NOON - 500)
        old = [client.calls.sessions_page(calls[-1], NOON - HOUR, NOON - HOUR + 60) for _ in range(2)]
        before = asyncio.gather(*old)
        await asyncio.sleep(0)
        assert {one.sid async for one in client.calls.sessions(call, wait=True)} == truth(simulation, call)
        await before
    assert simulation.clock() == pytest.approx(call.span.end + 302, abs=5)
    assert not simulation.service.refusals
