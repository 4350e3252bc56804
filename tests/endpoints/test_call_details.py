"""Whatever was listed can be drilled into: now, as far as it can be asked for, or once it can."""

from __future__ import annotations

import asyncio

import attrs
import pytest
from helpers.streaming import HOUR, NOON, simulated

from agora_analytics import Call, PlanRefused, TooEarly
from agora_analytics.simulator import World

BUSY = World(seed=7, calls_per_hour=600, typical_minutes=2)
PLANS = ("standard", "premium", "enterprise")


async def listed(client) -> list[Call]:
    return [call async for call in client.calls.search(*client.calls.recent(HOUR))]


@pytest.mark.parametrize("plan", PLANS)
async def test_each_call_of_the_newest_hour_has_its_sessions_once_they_can_be_asked_for(plan):
    simulation = simulated(plan, world=BUSY)
    async with simulation.client() as client:
        calls = await listed(client)
        assert not client.calls.is_askable(calls[0])
        ended = [call for call in calls[:40] if call.finished]
        for call in ended:
            sessions = [session async for session in client.calls.sessions(call, wait=True)]
            assert {one.sid for one in sessions} == {
                one.sid for one in simulation.world.sessions(known(simulation, call)) if not one.server
            }
        assert all(map(client.calls.is_askable, ended))
    assert not simulation.service.refusals


def known(simulation, call: Call):
    found = simulation.world.calls_during(call.created_ts - 60, call.created_ts + 60)
    return next(one for one in found if one.call_id == call.call_id)


@pytest.mark.parametrize("plan", PLANS)
async def test_without_waiting_what_can_be_asked_for_comes_or_it_is_said_when(plan, caplog):
    simulation = simulated(plan, world=BUSY)
    caplog.set_level("INFO")
    early: list[TooEarly] = []
    async with simulation.client() as client:
        calls = (await listed(client))[:40]
        for call in calls:
            try:
                assert all([session.sid async for session in client.calls.sessions(call)])
            except TooEarly as error:
                early.append(error)
        assert all(NOON < error.askable_at <= max(map(client.calls.askable_at, calls)) for error in early)
    assert not simulation.service.refusals
    assert early or "can be asked for now" in caplog.text


async def test_what_was_too_early_can_be_asked_at_the_moment_that_was_told():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        call = (await listed(client))[0]
        with pytest.raises(TooEarly) as caught:
            client.calls.sessions(call)
        await asyncio.sleep(caught.value.askable_at - simulation.clock() + 1)
        page = await client.calls.sessions_page(call)
        assert page.code == 200


async def test_of_a_call_that_is_partly_not_kept_any_more_the_rest_comes():
    simulation = simulated("premium", world=World(seed=7, calls_per_hour=60, typical_minutes=120))
    async with simulation.client() as client:
        oldest = (await client.calls.page(*client.calls.recent(HOUR))).items[-1]
        available = client.plan.limits["call_details"].available
        await asyncio.sleep(available - (simulation.clock() - oldest.created_ts) + 60)
        await client.calls.page(*client.calls.recent(60))  # days without a request blur the service's clock
        ended = attrs.evolve(oldest, destroyed_ts=oldest.created_ts + 600, finished=True)
        page = await client.calls.sessions_page(ended)
        assert page.code == 200


ONE_REQUEST = {
    "sessions_page": (),
    "statistics": ("audio_freeze_rate", "os"),
    "freeze_buckets": ("audio_freeze_rate",),
    "timeline": ("user_count",),
}


@pytest.mark.parametrize("ask", ONE_REQUEST)
async def test_what_answers_about_a_part_of_a_call_says_of_which_it_does_not(ask):
    simulation = simulated("standard", world=World(seed=7, calls_per_hour=60, typical_minutes=20))
    async with simulation.client() as client:
        calls = await listed(client)
        young = next(call for call in calls if call.span and call.span.end > NOON - 200 and call.span.duration > 600)
        answer = await getattr(client.calls, ask)(young, *ONE_REQUEST[ask])
        [span] = answer.missing
        assert span.end == young.span.end
        assert span.start == pytest.approx(simulation.clock() - 300, abs=3)
        await asyncio.sleep(600)
        assert (await getattr(client.calls, ask)(young, *ONE_REQUEST[ask])).missing == ()


@pytest.mark.parametrize("ask", ONE_REQUEST)
async def test_what_answers_about_what_is_kept_of_a_call_says_what_is_not(ask):
    simulation = simulated("premium", world=World(seed=7, calls_per_hour=60, typical_minutes=120))
    async with simulation.client() as client:
        old = (await client.calls.page(*client.calls.recent(HOUR))).items[-1]
        ended = attrs.evolve(old, destroyed_ts=old.created_ts + 600, finished=True)
        available = client.plan.limits["call_details"].available
        await asyncio.sleep(available - (simulation.clock() - old.created_ts) + 60)
        await client.calls.page(*client.calls.recent(60))  # days without a request blur the service's clock
        answer = await getattr(client.calls, ask)(ended, *ONE_REQUEST[ask])
        [span] = answer.missing
        assert span.start == old.created_ts
        assert span.end == pytest.approx(simulation.clock() - available, abs=5)


@pytest.mark.parametrize("ask", ["sessions_page", "statistics", "freeze_buckets"])
async def test_a_call_too_long_for_one_request_is_refused_with_the_way_out(ask):
    simulation = simulated("standard", world=World(seed=7, calls_per_hour=60, typical_minutes=120))
    async with simulation.client() as client:
        calls = [call async for call in client.calls.search(NOON - 12 * HOUR, NOON - 4 * HOUR)]
        longest = client.plan.limits["call_details"].longest_query
        long = next(call for call in calls if call.span and call.span.duration > longest)
        sent = len(simulation.service.log)
        with pytest.raises(PlanRefused, match="lasted") as caught:
            await getattr(client.calls, ask)(long, *ONE_REQUEST[ask])
        assert (caught.value.kind, caught.value.limit) == ("length", longest)
        assert len(simulation.service.log) == sent
        for part in long.span.slices(caught.value.limit):
            await getattr(client.calls, ask)(long, *ONE_REQUEST[ask], *part)
        with pytest.raises(ValueError, match="end"):
            await getattr(client.calls, ask)(long, *ONE_REQUEST[ask], *long.span)


async def test_all_metrics_are_of_bots_too_if_these_are_asked_for():
    simulation = simulated("enterprise", world=World(seed=7, calls_per_hour=200))
    async with simulation.client() as client:
        for call in [call async for call in client.calls.search(NOON - 2 * HOUR, NOON - HOUR)][:60]:
            sids = [one.sid async for one in client.calls.sessions(call, exclude_server_user=False)]
            people = [one.sid async for one in client.calls.sessions(call)]
            if len(sids) > len(people):
                break
        assert [one.sid async for one in client.calls.metrics(call)] == people
        assert [one.sid async for one in client.calls.metrics(call, exclude_server_user=False)] == sids


async def test_a_session_comes_once_in_however_many_batches_its_user_is_asked_for():
    simulation = simulated("enterprise")
    async with simulation.client() as client:
        call = next(iter([call async for call in client.calls.search(NOON - 2 * HOUR, NOON - HOUR) if call.finished]))
        users = [one.uid async for one in client.calls.sessions(call)]
        many = [*users, *(f"nobody-{number}" for number in range(10)), *(str(user) for user in users)]
        sids = [one.sid async for one in client.calls.sessions(call, uids=many)]
    assert len(sids) == len(set(sids)) == len(users)


@pytest.mark.parametrize("wrong", [-600, 0, 600])
@pytest.mark.parametrize("ago", [3_600, 200], ids=["over long ago", "over just now"])
async def test_a_call_of_an_earlier_run_is_drilled_into_whatever_the_hosts_clock_says(wrong, ago):
    simulation = simulated("enterprise", world=World(seed=7, calls_per_hour=600, typical_minutes=10))
    async with simulation.client() as client:
        calls = [call for call in await listed(client) if call.span and call.span.end - call.span.start > 300]
        call = min(calls, key=lambda one: abs(NOON - one.span.end - ago))
        wanted = [one.sid async for one in client.calls.sessions(call, wait=True)]
    for ask in ("sessions", "metrics"):
        async with simulation.client(clock=lambda: simulation.clock() + wrong) as client:
            found = [one.sid async for one in getattr(client.calls, ask)(call, wait=True)]
        assert found == wanted
    async with simulation.client(clock=lambda: simulation.clock() + wrong) as client:
        assert len(await client.calls.timeline(call, "user_count")) >= (call.span.end - call.span.start) // 60 - 1
    async with simulation.client(clock=lambda: simulation.clock() + wrong) as client:
        assert len((await client.calls.sessions_page(call)).items) == len(wanted)
    assert sum(simulation.service.refusals.values()) == 0


async def test_with_a_wrong_clock_one_refusal_tells_when_a_new_call_can_be_asked_about():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        call = next(one for one in await listed(client) if one.span)
    for wrong in (-600, 600):
        async with simulation.client(clock=lambda wrong=wrong: simulation.clock() + wrong) as client:
            with pytest.raises(TooEarly):
                [one async for one in client.calls.sessions(call)]
            with pytest.raises(TooEarly):
                await client.calls.freeze_buckets(call, "audioFreezeRate")
    assert 1 <= simulation.service.refusals["latency"] <= 3  # or another refusal told it, or another answer had to


async def test_a_part_that_is_asked_for_is_waited_for_and_not_the_whole_call():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        call = next(one for one in await listed(client) if one.span and one.span.duration > 60)
        found = client.calls.sessions(call, call.created_ts, call.created_ts + 30, wait=True)
        assert [one.sid async for one in found]
        assert call.created_ts + 330 < simulation.clock() < call.created_ts + 340 < client.calls.askable_at(call)


async def test_metrics_of_all_sessions_outlive_the_start_of_their_call():
    simulation = simulated("premium", world=World(seed=7, calls_per_hour=60, typical_minutes=120))
    async with simulation.client() as client:
        old = (await client.calls.page(*client.calls.recent(HOUR))).items[-1]
        ended = attrs.evolve(old, destroyed_ts=old.created_ts + 6 * HOUR, finished=True)
        age = client.plan.limits["call_details"].available - (simulation.clock() - old.created_ts)
        await asyncio.sleep(age - 30)
        await client.calls.page(*client.calls.recent(60))
        found = client.calls.metrics(ended)
        await asyncio.sleep(60)
        assert [one async for one in found]
        assert found.missing
