"""Estimates of exports with filters: how close they are, and whether the range has the true number of calls."""

from __future__ import annotations

from statistics import mean

import pytest
from helpers.export_runs import last_hours, request_count
from helpers.times import NOON
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics import Plan
from agora_analytics.export.estimate_lists import ListSample, SliceSample, calls_range, design_effect, wilson
from agora_analytics.export.selection import wants
from agora_analytics.models import Call, CallPage
from agora_analytics.simulator import Service, Simulation, Variants, World
from agora_analytics.spans import Span

SHORT_CALLS = {"calls_per_hour": 50.0, "typical_minutes": 0.2, "long_share": 0.0, "large_share": 0.0}
FILTERS = ({"min_freeze_rate": 0.03}, {"min_freeze_rate": 0.06, "finished": True}, {"finished": True})


@pytest.fixture
def simulate(clock):
    """Return a function that simulates a service with some 50 short calls an hour; lists are of at most 24 hours."""

    def simulate(seed: int = 1, **variants) -> Simulation:
        service = Service(
            World(seed=seed, **SHORT_CALLS), Plan.of("enterprise"), clock=clock, variants=Variants(**variants)
        )
        return Simulation(service)

    return simulate


async def errors(simulation: Simulation, hours: int) -> list[tuple[float, bool, bool]]:
    """Return for each filter the relative error, whether the range holds the true number, and whether there is one."""
    found = []
    async with simulation.client() as client:
        calls = [call async for call in client.calls.search(NOON - hours * 3_600, NOON - 600)]
        for filters in FILTERS:
            selection = last_hours(hours, "calls", **filters)
            estimate = await client.export.estimate(selection)
            right = sum(wants(selection, call) for call in calls)
            low, high = estimate.calls_range or (estimate.calls, estimate.calls)
            assert low <= estimate.calls <= high
            error = abs(estimate.calls - right) / max(1, right)
            found.append((error, low <= right <= high, estimate.calls_range is not None))
    return found


async def test_an_estimate_with_filters_is_exact_where_six_pages_are_all(simulate):
    for seed in range(1, 5):
        assert await errors(simulate(seed), 8) == [(0.0, True, False)] * len(FILTERS)


@pytest.mark.slow
async def test_the_range_of_an_estimate_with_filters_holds_the_true_number_of_calls(simulate):
    found = [one for seed in range(1, 7) for hours in (20, 36) for one in await errors(simulate(seed), hours)]
    assert all(is_sample for _, _, is_sample in found)
    assert mean(within for _, within, _ in found) >= 0.9
    assert mean(error for error, _, _ in found) < 0.25


async def test_an_estimate_with_filters_takes_six_requests_of_a_list_at_most(simulate):
    for hours, spent in ((1, 1), (8, 4), (20, 6), (240, 6)):
        simulation = simulate()
        async with simulation.client() as client:
            estimate = await client.export.estimate(last_hours(hours, "calls", min_freeze_rate=0.03))
        assert estimate.spent == request_count(simulation) == spent


async def test_an_estimate_has_no_range_without_something_to_judge_by(simulate):
    async with simulate().client() as client:
        assert (await client.export.estimate(last_hours(240, "calls"))).calls_range is None
        channels = ("one", "two")
        selection = last_hours(20, "calls", min_freeze_rate=0.03, channels=channels)
        assert (await client.export.estimate(selection)).calls_range is None
    async with simulate(totals=False).client() as client:
        assert (await client.export.estimate(last_hours(20, "calls", min_freeze_rate=0.03))).calls_range is None


@pytest.mark.parametrize("beyond", ["refused", "repeated", "empty"])
async def test_an_estimate_does_not_need_pages_that_the_service_does_not_serve(simulate, beyond):
    async with simulate(max_rows=100, beyond=beyond).client() as client:
        estimate = await client.export.estimate(last_hours(8, "calls", finished=True))
    assert estimate.calls_range is not None
    assert estimate.calls_range[0] <= estimate.calls <= estimate.calls_range[1]


# The calculation


@given(st.floats(0, 1), st.floats(1, 10_000))
def test_an_interval_contains_the_share_and_lies_between_nothing_and_all(share, count):
    low, high = wilson(share, count)
    assert -1e-9 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1 + 1e-9


def test_pages_that_differ_say_less():
    assert design_effect([(100, 0), (100, 100)]) == 200
    assert design_effect([(100, 10), (100, 10)]) == design_effect([(100, 10)]) == design_effect([(100, 0)] * 6) == 1


def test_the_errors_of_two_lists_add_up_as_of_independent_samples():
    span = Span(0, 100)
    one = ListSample([(span, 1_000.0)], False, (), 0.1, (70.0, 140.0))
    whole = ListSample([(span, 20.0)], False, (), 0.5, (10.0, 10.0))
    unknown = ListSample([(span, 20.0)], False, (), 0.5, None)
    assert calls_range([one]) == calls_range([one, ListSample([], False, (), 1.0, (0.0, 0.0))]) == (70, 140)
    assert calls_range([one, whole]) == (80, 150)
    assert calls_range([one, one]) == (157, 257)
    assert calls_range([whole]) is calls_range([one, unknown]) is calls_range([]) is None


def test_a_call_that_moved_to_another_page_counts_once():
    calls = [Call(call_id=name, cname="x") for name in "abc"]
    sample = SliceSample(3)
    sample.add(1, CallPage(calls=tuple(calls[:2])))
    sample.add(2, CallPage(calls=tuple(calls[1:])))
    assert [call.call_id for call in sample.calls] == ["a", "b", "c"]
