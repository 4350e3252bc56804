"""Loads on virtual time: those that take minutes, and those that the day cannot carry."""

from __future__ import annotations

import asyncio

import pytest
from helpers.streaming import DAY, HOUR, USERS, simulated
from helpers.times import NOON

from agora_analytics.ops import LiveState
from agora_analytics.ops.web.loads import LoadDesk
from agora_analytics.ops.web.replies import RefusalError
from agora_analytics.ops.web.span_loads import SpanLoads


def desk_of(state) -> tuple[LoadDesk, SpanLoads]:
    desk = LoadDesk(state.client.plan, lambda: state.monitor.quota, state.now, state.monitor.refresh)
    return desk, SpanLoads(state.client, state.calls, state.now)


def fortnight(spans: SpanLoads):
    end = NOON - 13 * HOUR
    return spans.insight({"metric": "userCount", "start": end - 13 * DAY, "end": end})


async def test_a_load_of_more_requests_than_a_minute_allows_takes_minutes_and_costs_what_was_said():
    async with simulated("premium").client() as client, LiveState(client, USERS, calls=False) as state:
        desk, spans = desk_of(state)
        load = fortnight(spans)
        assert load.requests == 7
        view, data = await desk.load(load, 7)
        assert view.spent == 7
        assert asyncio.get_running_loop().time() > 60
        assert data.count(b"[") >= 13


async def test_a_load_that_the_day_cannot_carry_is_refused_before_it_spends():
    simulation = simulated("premium")
    async with simulation.client() as client, LiveState(client, USERS, calls=False) as state:
        while 40 - simulation.service.counts["insight_usage"] >= 7:
            await client.insights.usage("userCount", *client.insights.recent(3 * DAY))
        await asyncio.sleep(10)
        spent = simulation.service.counts["insight_usage"]
        desk, spans = desk_of(state)
        with pytest.raises(RefusalError, match="more than the") as caught:
            await desk.load(fortnight(spans), 7)
        assert caught.value.retry_after > HOUR
        assert simulation.service.counts["insight_usage"] == spent


async def test_results_are_kept_for_a_while():
    async with simulated("premium").client() as client, LiveState(client, USERS, calls=False) as state:
        desk, spans = desk_of(state)
        load = spans.search({})
        await desk.load(load, 1)
        assert (await desk.load(load, 1))[0].cached
        await asyncio.sleep(61)
        assert not (await desk.load(load, 1))[0].cached


async def test_cancelling_the_desk_ends_what_runs():
    async with simulated("premium").client() as client, LiveState(client, USERS, calls=False) as state:
        desk, spans = desk_of(state)
        task = asyncio.create_task(desk.load(fortnight(spans), 7))
        await asyncio.sleep(30)
        await desk.close()
        with pytest.raises(asyncio.CancelledError):
            await task
