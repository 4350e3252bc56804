"""Loads on virtual time: those that take minutes, and those that the day cannot carry."""

from __future__ import annotations

import asyncio

import pytest
from helpers.streaming import DAY, HOUR, USERS, simulated
from helpers.times import NOON
from helpers.web_server import until

from agora_analytics import Plan
from agora_analytics.ops import LiveState
from agora_analytics.ops.web.budget import CounterView, QuotaView
from agora_analytics.ops.web.loads import Load, Loader
from agora_analytics.ops.web.replies import RefusalError
from agora_analytics.ops.web.span_loads import SpanLoads
from agora_analytics.ops.web.usage import METER
from agora_analytics.plans import CALL_FREEZE


def loader_of(state) -> tuple[Loader, SpanLoads]:
    loader = Loader(state.client.plan, lambda: state.monitor.quota, state.now, state.monitor.refresh)
    return loader, SpanLoads(state.client, state.calls, state.now)


def fortnight(spans: SpanLoads):
    end = NOON - 13 * HOUR
    return spans.insight({"metric": "userCount", "start": end - 13 * DAY, "end": end})


async def test_a_load_of_more_requests_than_a_minute_allows_takes_minutes_and_costs_what_was_said():
    async with simulated("premium").client() as client, LiveState(client, USERS, calls=False) as state:
        loader, spans = loader_of(state)
        load = fortnight(spans)
        assert load.requests == 7
        view, data = await loader.load(load, 7)
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
        loader, spans = loader_of(state)
        with pytest.raises(RefusalError, match="more than the") as caught:
            await loader.load(fortnight(spans), 7)
        assert caught.value.retry_after > HOUR
        assert simulation.service.counts["insight_usage"] == spent


async def test_results_are_kept_for_a_while():
    async with simulated("premium").client() as client, LiveState(client, USERS, calls=False) as state:
        loader, spans = loader_of(state)
        load = spans.search({})
        await loader.load(load, 1)
        assert (await loader.load(load, 1))[0].cached
        await asyncio.sleep(61)
        assert not (await loader.load(load, 1))[0].cached


async def test_cancelling_the_desk_ends_what_runs():
    async with simulated("premium").client() as client, LiveState(client, USERS, calls=False) as state:
        loader, spans = loader_of(state)
        task = asyncio.create_task(loader.load(fortnight(spans), 7))
        await asyncio.sleep(30)
        await loader.close()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_loads_at_one_time_do_not_share_what_is_left_of_the_day():
    read, left, plan = [], 3, Plan.of("premium")

    async def refresh() -> None:
        read.append(left)

    loader = Loader(plan, lambda: a_day(read[-1] if read else 2_000), lambda: NOON, refresh)
    release = asyncio.Event()

    async def fetch() -> bytes:
        nonlocal left
        METER.get().requests += 1
        left -= 1
        await release.wait()
        METER.get().requests += 1
        left -= 1
        return b"{}"

    first, second = (
        Load(params={"number": number}, title="", endpoint=CALL_FREEZE, requests=2, fetch=fetch) for number in range(2)
    )
    running = asyncio.create_task(loader.load(first, 2))
    await until(lambda: left == 2)
    with pytest.raises(RefusalError, match="more than the 1 that are left") as caught:
        await loader.load(second, 2)
    assert (caught.value.code, caught.value.retry_after > 0) == ("quota", True)
    release.set()
    view, _ = await running
    assert (view.spent, left) == (2, 1)


def a_day(left: int) -> QuotaView:
    day = CounterView(
        counter="call_details", unit="day", limit=2_000, used=2_000 - left, left=left, waiting={}, free_at=None,
        refusals=0, expected=0, others=0, planned=0, resets_at=NOON - 1,
    )  # fmt: skip
    return QuotaView(at=NOON, enforced=True, counters=(day,))


def test_a_channel_named_none_is_not_every_channel():
    every, one = ({"cname": name, "page": 1} for name in (None, "None"))
    loads = [Load(params=params, title="", endpoint=CALL_FREEZE) for params in (every, one)]
    assert loads[0].key != loads[1].key
