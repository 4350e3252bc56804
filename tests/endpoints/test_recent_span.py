"""`recent` before the first answer is by the host's clock: what is given it is about the time that was meant."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from helpers.streaming import DAY, HOUR, NOON, simulated

from agora_analytics import plans
from agora_analytics.cli.commands.realtime import _window
from agora_analytics.cli.commands.search import NewestFirst, SearchBudget
from agora_analytics.cli.options import TimeOptions
from agora_analytics.simulator import HostClock, Simulation, World

BUSY = World(seed=7, calls_per_hour=240)
WRONG = [-600, -90, -30, 30, 90, 600]
NEAR = 5
"""Seconds by which the service's clock may be unknown after one answer, and an answer may be off."""


async def search(client):
    return [call async for call in client.calls.search(*client.calls.recent(HOUR))]


async def page(client):
    return (await client.calls.page(*client.calls.recent(300))).items


async def windows(client):
    return await client.realtime.usage("userCount", *client.realtime.recent(600), product="Native")


async def hours(client):
    return await client.insights.usage("userCount", *client.insights.recent(6 * DAY), granularity="1h")


def began(one) -> int:
    return one.created_ts if hasattr(one, "created_ts") else one.ts


def of(wrong: float) -> tuple[Simulation, HostClock]:
    simulation = simulated("premium", at=NOON + 30, world=BUSY)
    return simulation, HostClock(simulation.service.clock, wrong=wrong)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("ask", [search, page, windows, hours])
async def test_the_first_answer_is_as_with_a_right_clock(ask, wrong):
    answers = []
    for clock_is_wrong in (0, wrong):
        simulation, clock = of(clock_is_wrong)
        async with simulation.client(clock=clock) as client:
            answers.append({began(one) for one in await ask(client)})
        assert sum(simulation.service.refusals.values()) <= 1
    right, found = answers
    edges = (min(right), max(right))
    slack = 20 + NEAR if ask is windows else NEAR
    assert all(min(abs(ts - edge) for edge in edges) <= slack for ts in right ^ found)
    assert len(right & found) > 5


@pytest.mark.parametrize("wrong", [-600, 600])
async def test_a_total_is_over_the_time_that_was_meant(wrong):
    simulation, clock = of(wrong)
    async with simulation.client(clock=clock) as client:
        span = client.insights.recent(2 * DAY)
        totals = await client.insights.usage_total("userCount", *span, dimension="country")
        span = client.insights.recent(2 * DAY)
        assert totals == await client.insights.usage_total("userCount", *span, dimension="country")


@pytest.mark.parametrize("wrong", [-600, 0, 600])
async def test_only_a_clock_that_is_wrong_costs_another_request(wrong):
    simulation, clock = of(wrong)
    async with simulation.client(clock=clock) as client:
        await windows(client)
        await windows(client)
    assert len(simulation.service.log) == 2 + bool(wrong)


async def test_a_span_of_the_callers_own_is_asked_for_as_it_is():
    simulation, clock = of(-600)
    async with simulation.client(clock=clock) as client:
        start, end = (int(clock()) - ago for ago in (660, 60))
        assert len(await client.realtime.usage("userCount", start, end, product="Native")) == 30
    assert len(simulation.service.log) == 1


async def test_a_span_from_before_the_first_answer_is_moved_after_it_too():
    simulation, clock = of(600)
    async with simulation.client(clock=clock) as client:
        span = client.realtime.recent(600)
        await client.calls.page(NOON - 2 * HOUR, NOON - HOUR)
        assert len(await client.realtime.usage("userCount", *span, product="Native")) >= 29
    assert len(simulation.service.log) == 2


@pytest.mark.parametrize("wrong", [0, *WRONG, 7_200])
@pytest.mark.parametrize("ask", ["usage_top", "quality_top"])
async def test_the_newest_top_list_is_as_with_a_right_clock(ask, wrong):
    simulation, clock = of(wrong)
    async with simulation.client(clock=clock) as client:
        endpoint = getattr(plans, f"REALTIME_{ask.upper()}")
        at = await _window(client, endpoint, None)
        about = ("country",) if ask == "usage_top" else ("networkDelay", "country")
        found = await getattr(client.realtime, ask)(*about, at, product="Native")
        newest = client.plan.of_endpoint(endpoint).newest(int(simulation.clock()))
        asked = parse_qs(simulation.service.log[-1].query)
        assert newest - 60 < int(asked["ts"][0]) <= newest - 20
    assert found
    assert found[0].window_start % 20 == 0
    assert sum(simulation.service.refusals.values()) <= (wrong > 0)


async def of_search(client, span):
    newest = NewestFirst(await SearchBudget.of(client, None), span, None, 100)
    return [call async for call in newest.calls()]


async def of_windows(client, span):
    return await client.realtime.usage("userCount", *span, product="Native")


async def of_hours(client, span):
    return await client.insights.usage("userCount", *span, granularity="1h")


@pytest.mark.parametrize("wrong", [0, *WRONG, 7_200])
@pytest.mark.parametrize(
    ("ask", "endpoint", "ago"),
    [
        (of_search, plans.CALL_LISTS, 3 * HOUR),
        (of_windows, plans.REALTIME_USAGE, 1_200),
        (of_hours, plans.INSIGHT_USAGE, 6 * DAY),
    ],
)
async def test_what_ends_now_by_default_ends_now_by_the_services_clock(ask, endpoint, ago, wrong):
    answers = []
    start = NOON - ago
    for clock_is_wrong in (0, wrong):
        simulation, clock = of(clock_is_wrong)
        async with simulation.client(clock=clock) as client:
            span = await TimeOptions(start=str(start)).span(client, endpoint)
            answers.append({began(one) for one in await ask(client, span)})
        assert sum(simulation.service.refusals.values()) <= (clock_is_wrong > 0)
    right, found = answers
    assert found <= right | {max(right) + 20}
    # Where the host's clock is behind, what is asked for ends by that.
    slack = 60 if wrong >= 0 else 3_600 if ask is of_hours else 700
    assert min(right - found, default=NOON) > max(right) - slack


async def test_recent_tells_what_it_cuts(caplog):
    simulation, clock = of(0)
    async with simulation.client(clock=clock) as client:
        for whole in (client.calls.recent(7 * DAY), client.realtime.recent(1_800), client.insights.recent(13 * DAY)):
            assert whole.duration > 1_700
        assert caplog.text == ""
        for group, wanted in ((client.calls, 8 * DAY), (client.realtime, 2_400), (client.insights, 14 * DAY)):
            caplog.clear()
            cut = group.recent(wanted)
            assert f"recent({wanted}) is cut to the newest {cut.duration} s" in caplog.text


@pytest.mark.parametrize("wrong", [-3, -0.7, 0, 0.7, 1.4, 3])
async def test_all_pages_of_a_list_are_about_the_same_time(wrong):
    simulation, clock = of(wrong)
    async with simulation.client(clock=clock) as client:
        results = client.calls.search(*client.calls.recent(HOUR))
        found = [call.call_id async for call in results]
    asked = [parse_qs(entry.query) for entry in simulation.service.log if not entry.refused]
    assert len(asked) > 2
    assert len({(one["start_ts"][0], one["end_ts"][0]) for one in asked}) == 1
    assert (results.narrowed, len(set(found))) == (0, len(found))
