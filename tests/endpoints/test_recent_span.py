"""`recent` uses the host's clock before the first response: the request is corrected to the intended span."""

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
CLOCK_ERRORS = [-600, -90, -30, 30, 90, 600]
CLOCK_TOLERANCE = 5
"""Seconds by which the service's clock may be uncertain after one response, and a result may differ."""


async def search(client):
    return [call async for call in client.calls.search(*client.calls.recent(HOUR))]


async def page(client):
    return (await client.calls.page(*client.calls.recent(300))).items


async def windows(client):
    return await client.realtime.usage("userCount", *client.realtime.recent(600), product="Native")


async def hours(client):
    return await client.insights.usage("userCount", *client.insights.recent(6 * DAY), granularity="1h")


def start_of(one) -> int:
    return one.created_ts if hasattr(one, "created_ts") else one.ts


def with_host_clock(wrong: float) -> tuple[Simulation, HostClock]:
    simulation = simulated("premium", at=NOON + 30, world=BUSY)
    return simulation, HostClock(simulation.service.clock, wrong=wrong)


@pytest.mark.parametrize("wrong", CLOCK_ERRORS)
@pytest.mark.parametrize("fetch", [search, page, windows, hours])
async def test_the_first_result_is_the_same_as_with_a_correct_clock(fetch, wrong):
    results = []
    for clock_error in (0, wrong):
        simulation, clock = with_host_clock(clock_error)
        async with simulation.client(clock=clock) as client:
            results.append({start_of(one) for one in await fetch(client)})
        assert sum(simulation.service.refusals.values()) <= 1
    expected, actual = results
    edges = (min(expected), max(expected))
    slack = 20 + CLOCK_TOLERANCE if fetch is windows else CLOCK_TOLERANCE
    assert all(min(abs(ts - edge) for edge in edges) <= slack for ts in expected ^ actual)
    assert len(expected & actual) > 5


@pytest.mark.parametrize("wrong", [-600, 600])
async def test_a_total_covers_the_intended_span(wrong):
    simulation, clock = with_host_clock(wrong)
    async with simulation.client(clock=clock) as client:
        span = client.insights.recent(2 * DAY)
        totals = await client.insights.usage_total("userCount", *span, dimension="country")
        span = client.insights.recent(2 * DAY)
        assert totals == await client.insights.usage_total("userCount", *span, dimension="country")


@pytest.mark.parametrize("wrong", [-600, 0, 600])
async def test_only_a_wrong_clock_costs_another_request(wrong):
    simulation, clock = with_host_clock(wrong)
    async with simulation.client(clock=clock) as client:
        await windows(client)
        await windows(client)
    assert len(simulation.service.log) == 2 + bool(wrong)


async def test_a_span_given_by_the_caller_is_requested_unchanged():
    simulation, clock = with_host_clock(-600)
    async with simulation.client(clock=clock) as client:
        start, end = (int(clock()) - ago for ago in (660, 60))
        assert len(await client.realtime.usage("userCount", start, end, product="Native")) == 30
    assert len(simulation.service.log) == 1


async def test_a_recent_span_made_before_the_first_response_is_corrected_after_it():
    simulation, clock = with_host_clock(600)
    async with simulation.client(clock=clock) as client:
        span = client.realtime.recent(600)
        await client.calls.page(NOON - 2 * HOUR, NOON - HOUR)
        assert len(await client.realtime.usage("userCount", *span, product="Native")) >= 29
    assert len(simulation.service.log) == 2


@pytest.mark.parametrize("wrong", [0, *CLOCK_ERRORS, 7_200])
@pytest.mark.parametrize("fetch", ["usage_top", "quality_top"])
async def test_the_newest_top_list_is_the_same_as_with_a_correct_clock(fetch, wrong):
    simulation, clock = with_host_clock(wrong)
    async with simulation.client(clock=clock) as client:
        endpoint = getattr(plans, f"REALTIME_{fetch.upper()}")
        at = await _window(client, endpoint, None)
        arguments = ("country",) if fetch == "usage_top" else ("networkDelay", "country")
        actual = await getattr(client.realtime, fetch)(*arguments, at, product="Native")
        newest = client.plan.of_endpoint(endpoint).newest(int(simulation.clock()))
        params = parse_qs(simulation.service.log[-1].query)
        assert newest - 60 < int(params["ts"][0]) <= newest - 20
    assert actual
    assert actual[0].window_start % 20 == 0
    assert sum(simulation.service.refusals.values()) <= (wrong > 0)


async def search_span(client, span):
    newest = NewestFirst(await SearchBudget.of(client, None), span, None, 100)
    return [call async for call in newest.calls()]


async def windows_of_span(client, span):
    return await client.realtime.usage("userCount", *span, product="Native")


async def hours_of_span(client, span):
    return await client.insights.usage("userCount", *span, granularity="1h")


@pytest.mark.parametrize("wrong", [0, *CLOCK_ERRORS, 7_200])
@pytest.mark.parametrize(
    ("fetch", "endpoint", "ago"),
    [
        (search_span, plans.CALL_LISTS, 3 * HOUR),
        (windows_of_span, plans.REALTIME_USAGE, 1_200),
        (hours_of_span, plans.INSIGHT_USAGE, 6 * DAY),
    ],
)
async def test_a_default_span_ends_now_by_the_services_clock(fetch, endpoint, ago, wrong):
    results = []
    start = NOON - ago
    for clock_error in (0, wrong):
        simulation, clock = with_host_clock(clock_error)
        async with simulation.client(clock=clock) as client:
            span = await TimeOptions(start=str(start)).span(client, endpoint)
            results.append({start_of(one) for one in await fetch(client, span)})
        assert sum(simulation.service.refusals.values()) <= (clock_error > 0)
    expected, actual = results
    assert actual <= expected | {max(expected) + 20}
    # Where the host's clock is behind, the span ends by it.
    slack = 60 if wrong >= 0 else 3_600 if fetch is hours_of_span else 700
    assert min(expected - actual, default=NOON) > max(expected) - slack


async def test_recent_logs_that_it_shortens_a_span(caplog):
    simulation, clock = with_host_clock(0)
    async with simulation.client(clock=clock) as client:
        for span in (client.calls.recent(7 * DAY), client.realtime.recent(1_800), client.insights.recent(13 * DAY)):
            assert span.duration > 1_700
        assert caplog.text == ""
        for group, duration in ((client.calls, 8 * DAY), (client.realtime, 2_400), (client.insights, 14 * DAY)):
            caplog.clear()
            shortened = group.recent(duration)
            assert f"recent({duration}) is cut to the newest {shortened.duration} s" in caplog.text


@pytest.mark.parametrize("wrong", [-3, -0.7, 0, 0.7, 1.4, 3])
async def test_all_pages_of_a_list_have_the_same_span(wrong):
    simulation, clock = with_host_clock(wrong)
    async with simulation.client(clock=clock) as client:
        search_results = client.calls.search(*client.calls.recent(HOUR))
        actual = [call.call_id async for call in search_results]
    params = [parse_qs(entry.query) for entry in simulation.service.log if not entry.refused]
    assert len(params) > 2
    assert len({(one["start_ts"][0], one["end_ts"][0]) for one in params}) == 1
    assert (search_results.narrowed, len(set(actual))) == (0, len(actual))
