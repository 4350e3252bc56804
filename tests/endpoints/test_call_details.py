"""Details of listed calls: what is queryable now, or all of it once it is queryable."""

from __future__ import annotations

import asyncio

import attrs
import pytest
from helpers.streaming import HOUR, NOON, simulated

from agora_analytics import Call, PlanRefused, TooEarly
from agora_analytics.simulator import World

BUSY = World(seed=7, calls_per_hour=600, typical_minutes=2)
PLANS = ("standard", "premium", "enterprise")


async def recent_calls(client) -> list[Call]:
    return [call async for call in client.calls.search(*client.calls.recent(HOUR))]


@pytest.mark.parametrize("plan", PLANS)
async def test_waiting_returns_all_sessions_of_calls_that_just_ended(plan):
    simulation = simulated(plan, world=BUSY)
    async with simulation.client() as client:
        calls = await recent_calls(client)
        assert not client.calls.is_queryable(calls[0])
        ended = [call for call in calls[:40] if call.finished]
        for call in ended:
            sessions = [session async for session in client.calls.sessions(call, wait=True)]
            assert {one.sid for one in sessions} == {
                one.sid for one in simulation.world.sessions(call_in_world(simulation, call)) if not one.server
            }
        assert all(map(client.calls.is_queryable, ended))
    assert not simulation.service.refusals


def call_in_world(simulation, call: Call):
    candidates = simulation.world.calls_during(call.created_ts - 60, call.created_ts + 60)
    return next(one for one in candidates if one.call_id == call.call_id)


@pytest.mark.parametrize("plan", PLANS)
async def test_without_waiting_available_sessions_are_returned_or_too_early_says_when(plan, caplog):
    simulation = simulated(plan, world=BUSY)
    caplog.set_level("INFO")
    early: list[TooEarly] = []
    async with simulation.client() as client:
        calls = (await recent_calls(client))[:40]
        for call in calls:
            try:
                assert all([session.sid async for session in client.calls.sessions(call)])
            except TooEarly as error:
                early.append(error)
        assert all(NOON < error.queryable_at <= max(map(client.calls.queryable_at, calls)) for error in early)
    assert not simulation.service.refusals
    assert early or "is queryable now" in caplog.text


async def test_details_are_available_at_the_time_that_too_early_names():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        call = (await recent_calls(client))[0]
        with pytest.raises(TooEarly) as caught:
            client.calls.sessions(call)
        await asyncio.sleep(caught.value.queryable_at - simulation.clock() + 1)
        page = await client.calls.sessions_page(call)
        assert page.code == 200


async def test_the_remaining_part_of_a_partly_expired_call_is_returned():
    simulation = simulated("premium", world=World(seed=7, calls_per_hour=60, typical_minutes=120))
    async with simulation.client() as client:
        oldest = (await client.calls.page(*client.calls.recent(HOUR))).items[-1]
        retention = client.plan.limits["call_details"].retention
        await asyncio.sleep(retention - (simulation.clock() - oldest.created_ts) + 60)
        # After days without a request, the service's clock is uncertain.
        await client.calls.page(*client.calls.recent(60))
        ended = attrs.evolve(oldest, destroyed_ts=oldest.created_ts + 600, finished=True)
        page = await client.calls.sessions_page(ended)
        assert page.code == 200


ONE_REQUEST = {
    "sessions_page": (),
    "statistics": ("audio_freeze_rate", "os"),
    "freeze_buckets": ("audio_freeze_rate",),
    "timeline": ("user_count",),
}


@pytest.mark.parametrize("method", ONE_REQUEST)
async def test_details_of_a_call_that_just_ended_report_its_missing_end(method):
    simulation = simulated("standard", world=World(seed=7, calls_per_hour=60, typical_minutes=20))
    async with simulation.client() as client:
        calls = await recent_calls(client)
        new_call = next(call for call in calls if call.span and call.span.end > NOON - 200 and call.span.duration > 600)
        details = await getattr(client.calls, method)(new_call, *ONE_REQUEST[method])
        [span] = details.missing
        assert span.end == new_call.span.end
        assert span.start == pytest.approx(simulation.clock() - 300, abs=3)
        await asyncio.sleep(600)
        assert (await getattr(client.calls, method)(new_call, *ONE_REQUEST[method])).missing == ()


@pytest.mark.parametrize("method", ONE_REQUEST)
async def test_details_of_a_partly_expired_call_report_its_missing_start(method):
    simulation = simulated("premium", world=World(seed=7, calls_per_hour=60, typical_minutes=120))
    async with simulation.client() as client:
        old_call = (await client.calls.page(*client.calls.recent(HOUR))).items[-1]
        ended = attrs.evolve(old_call, destroyed_ts=old_call.created_ts + 600, finished=True)
        retention = client.plan.limits["call_details"].retention
        await asyncio.sleep(retention - (simulation.clock() - old_call.created_ts) + 60)
        # After days without a request, the service's clock is uncertain.
        await client.calls.page(*client.calls.recent(60))
        details = await getattr(client.calls, method)(ended, *ONE_REQUEST[method])
        [span] = details.missing
        assert span.start == old_call.created_ts
        assert span.end == pytest.approx(simulation.clock() - retention, abs=5)


@pytest.mark.parametrize("method", ["sessions_page", "statistics", "freeze_buckets"])
async def test_a_call_too_long_for_one_request_raises_with_the_longest_span_allowed(method):
    simulation = simulated("standard", world=World(seed=7, calls_per_hour=60, typical_minutes=120))
    async with simulation.client() as client:
        calls = [call async for call in client.calls.search(NOON - 12 * HOUR, NOON - 4 * HOUR)]
        longest = client.plan.limits["call_details"].longest_query
        long_call = next(call for call in calls if call.span and call.span.duration > longest)
        sent = len(simulation.service.log)
        with pytest.raises(PlanRefused, match="lasted") as caught:
            await getattr(client.calls, method)(long_call, *ONE_REQUEST[method])
        assert (caught.value.kind, caught.value.limit) == ("length", longest)
        assert len(simulation.service.log) == sent
        for part in long_call.span.slices(caught.value.limit):
            await getattr(client.calls, method)(long_call, *ONE_REQUEST[method], *part)
        with pytest.raises(ValueError, match="end"):
            await getattr(client.calls, method)(long_call, *ONE_REQUEST[method], *long_call.span)


async def test_metrics_include_server_users_if_requested():
    simulation = simulated("enterprise", world=World(seed=7, calls_per_hour=200))
    async with simulation.client() as client:
        for call in [call async for call in client.calls.search(NOON - 2 * HOUR, NOON - HOUR)][:60]:
            all_sids = [one.sid async for one in client.calls.sessions(call, exclude_server_user=False)]
            user_sids = [one.sid async for one in client.calls.sessions(call)]
            if len(all_sids) > len(user_sids):
                break
        assert [one.sid async for one in client.calls.metrics(call)] == user_sids
        assert [one.sid async for one in client.calls.metrics(call, exclude_server_user=False)] == all_sids


async def test_a_session_is_delivered_once_however_many_batches_have_its_user():
    simulation = simulated("enterprise")
    async with simulation.client() as client:
        call = next(iter([call async for call in client.calls.search(NOON - 2 * HOUR, NOON - HOUR) if call.finished]))
        user_ids = [one.uid async for one in client.calls.sessions(call)]
        uids = [*user_ids, *(f"nobody-{number}" for number in range(10)), *(str(user) for user in user_ids)]
        all_sids = [one.sid async for one in client.calls.sessions(call, uids=uids)]
    assert len(all_sids) == len(set(all_sids)) == len(user_ids)


@pytest.mark.parametrize("wrong", [-600, 0, 600])
@pytest.mark.parametrize("ago", [3_600, 200], ids=["ended long ago", "ended just now"])
async def test_details_of_a_call_of_an_earlier_run_are_complete_with_any_host_clock(wrong, ago):
    simulation = simulated("enterprise", world=World(seed=7, calls_per_hour=600, typical_minutes=10))
    async with simulation.client() as client:
        calls = [call for call in await recent_calls(client) if call.span and call.span.end - call.span.start > 300]
        call = min(calls, key=lambda one: abs(NOON - one.span.end - ago))
        expected = [one.sid async for one in client.calls.sessions(call, wait=True)]
    for method in ("sessions", "metrics"):
        async with simulation.client(clock=lambda: simulation.clock() + wrong) as client:
            results = [one.sid async for one in getattr(client.calls, method)(call, wait=True)]
        assert results == expected
    async with simulation.client(clock=lambda: simulation.clock() + wrong) as client:
        assert len(await client.calls.timeline(call, "user_count")) >= (call.span.end - call.span.start) // 60 - 1
    async with simulation.client(clock=lambda: simulation.clock() + wrong) as client:
        assert len((await client.calls.sessions_page(call)).items) == len(expected)
    assert sum(simulation.service.refusals.values()) == 0


async def test_with_a_wrong_clock_one_error_response_tells_when_details_are_available():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        call = next(one for one in await recent_calls(client) if one.span)
    for wrong in (-600, 600):
        async with simulation.client(clock=lambda wrong=wrong: simulation.clock() + wrong) as client:
            with pytest.raises(TooEarly):
                [one async for one in client.calls.sessions(call)]
            with pytest.raises(TooEarly):
                await client.calls.freeze_buckets(call, "audioFreezeRate")
    assert 1 <= simulation.service.refusals["latency"] <= 3  # more if the first one did not tell the time


async def test_waiting_for_a_part_of_a_call_does_not_wait_for_the_whole_call():
    simulation = simulated("standard", world=BUSY)
    async with simulation.client() as client:
        call = next(one for one in await recent_calls(client) if one.span and one.span.duration > 60)
        results = client.calls.sessions(call, call.created_ts, call.created_ts + 30, wait=True)
        assert [one.sid async for one in results]
        assert call.created_ts + 330 < simulation.clock() < call.created_ts + 340 < client.calls.queryable_at(call)


async def test_metrics_are_returned_although_the_start_of_their_call_expires_meanwhile():
    simulation = simulated("premium", world=World(seed=7, calls_per_hour=60, typical_minutes=120))
    async with simulation.client() as client:
        old_call = (await client.calls.page(*client.calls.recent(HOUR))).items[-1]
        ended = attrs.evolve(old_call, destroyed_ts=old_call.created_ts + 6 * HOUR, finished=True)
        time_left = client.plan.limits["call_details"].retention - (simulation.clock() - old_call.created_ts)
        await asyncio.sleep(time_left - 30)
        await client.calls.page(*client.calls.recent(60))
        results = client.calls.metrics(ended)
        await asyncio.sleep(60)
        assert [one async for one in results]
        assert results.missing
