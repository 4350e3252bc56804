"""Plans: the vendor's tables, number by number, and what may be asked when."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics.plans import (
    CALL_LISTS,
    CALL_METRICS,
    CALL_SESSIONS,
    ENDPOINTS,
    ENTERPRISE,
    INSIGHT_USAGE,
    INSIGHT_USAGE_TOTAL,
    PLANS,
    PREMIUM,
    REALTIME_QUALITY,
    REALTIME_USAGE,
    STANDARD,
    STARTER,
    Limits,
    Plan,
)
from agora_analytics.spans import Span

NOW = 1_795_521_600
S, M, H, D = 1, 60, 3_600, 86_400

# The tables as the page prints them, one column a line: requests per second or minute and per day, data available, what
# one query may span, data delay. Standard and Starter have only the first, or none.
TABLES = {
    ("standard", "call_lists"): ("1/second", 1_000, 1 * D, 8 * H, 60 * S),
    ("premium", "call_lists"): ("3/second", 2_000, 7 * D, 16 * H, 20 * S),
    ("enterprise", "call_lists"): ("10/second", 10_000, 15 * D, 24 * H, 20 * S),
    ("standard", "call_details"): ("1/second", 1_000, 1 * D, 1 * H, 300 * S),
    ("premium", "call_details"): ("3/second", 2_000, 7 * D, 3 * H, 150 * S),
    ("enterprise", "call_details"): ("10/second", 10_000, 15 * D, 6 * H, 100 * S),
    ("premium", "insight_usage"): ("3/minute", 40, 14 * D, 3 * D, 12 * H),
    ("enterprise", "insight_usage"): ("10/minute", 60, 30 * D, 7 * D, 6 * H),
    ("premium", "insight_quality"): ("3/minute", 40, 14 * D, 3 * D, 6 * H),
    ("enterprise", "insight_quality"): ("10/minute", 60, 30 * D, 7 * D, 6 * H),
    ("premium", "insight_usage_total"): ("3/minute", 40, 14 * D, None, 12 * H),
    ("enterprise", "insight_usage_total"): ("10/minute", 60, 30 * D, None, 6 * H),
    ("premium", "insight_quality_total"): ("3/minute", 40, 14 * D, None, 6 * H),
    ("enterprise", "insight_quality_total"): ("10/minute", 60, 30 * D, None, 6 * H),
    ("premium", "realtime"): ("3/minute", 480, 40 * M, 40 * M, 40 * S),
    ("enterprise", "realtime"): ("10/minute", 1_440, 60 * M, 60 * M, 20 * S),
}

# The page's endpoints under their tables; the service facts say that the call details without a row have its numbers.
PATHS = {
    "call_lists": ["/beta/analytics/call/lists"],
    "call_details": [
        "/beta/analytics/call/sessions",
        "/beta/analytics/call/metrics",
        "/beta/analytics/call/statistics",
        "/beta/analytics/call/freeze/bucket",
        "/beta/analytics/call/statistics/time",
    ],
    "insight_usage": ["/beta/insight/usage/by_time"],
    "insight_quality": ["/beta/insight/quality/by_time"],
    "insight_usage_total": ["/beta/insight/usage/aggregation"],
    "insight_quality_total": ["/beta/insight/quality/aggregation"],
    "realtime": [
        "/beta/realtime/usage/by_time_20sec",
        "/beta/realtime/quality/by_time_20sec",
        "/beta/realtime/usage/dimension/top20",
        "/beta/realtime/quality/dimension/top20",
    ],
}

OFFERED = [(plan, endpoint) for plan in PLANS.values() for endpoint in ENDPOINTS if plan.offers(endpoint)]
offered = st.sampled_from(OFFERED)
moments = st.integers(NOW, NOW + 400 * D)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_its_columns_of_the_tables(name):
    printed = {}
    for (plan, table), (rate, per_day, available, longest, delay) in TABLES.items():
        number, unit = rate.split("/")
        if plan == name:
            printed[table] = ({unit: int(number), "day": per_day}, available, longest, delay)
    found = {
        table: (limits.rates, limits.available, limits.longest, limits.delay)
        for table, limits in PLANS[name].limits.items()
    }
    assert found == printed


def test_the_endpoints_stand_under_the_tables_of_the_page():
    found: dict[str, list[str]] = {}
    for endpoint in ENDPOINTS:
        found.setdefault(endpoint.table, []).append(endpoint.path)
    assert found == PATHS
    assert {e.name for e in ENDPOINTS if e.method == "POST"} == {"insight_usage_total", "insight_quality_total"}
    assert len({endpoint.name for endpoint in ENDPOINTS}) == 14


def test_minutes_are_for_quality_over_time_alone():
    with_minutes = {table for plan in PLANS.values() for table, it in plan.limits.items() if "1m" in it.granularities}
    assert with_minutes == {"insight_quality"}
    assert {table for table, it in PREMIUM.limits.items() if it.granularities[:2] == ("1d", "1h")} == {
        table for table in PREMIUM.limits if table.startswith("insight")
    }


# What can be asked.


def breaks_a_bound(limits: Limits, span: Span, now: int) -> bool:
    """The reference's three inequalities, which are strict."""
    return not (
        span.end < now - limits.delay
        and span.start > now - limits.available
        and (limits.longest is None or span.duration < limits.longest)
    )


@given(offered, moments, st.data())
def test_no_slice_of_anything_askable_touches_a_strict_bound(which, now, data):
    plan, endpoint = which
    limits = plan.of_endpoint(endpoint)
    oldest, newest = limits.askable(now)
    start = data.draw(st.one_of(st.just(oldest), st.integers(oldest, newest - 1)))
    end = data.draw(st.one_of(st.just(newest), st.integers(start + 1, newest)))
    asked = plan.check(endpoint, Span(start, end), now, whole=False)
    for mark in (1, 20):
        assert not [part for part in asked.slices(limits.longest_query, mark) if breaks_a_bound(limits, part, now)]
    for bucket in (M, H, D):
        assert not [
            part for part in asked.overlapping(limits.longest_query, bucket) if breaks_a_bound(limits, part, now)
        ]


@given(offered, moments)
def test_nothing_that_could_be_asked_is_refused(which, now):
    plan, endpoint = which
    limits = plan.of_endpoint(endpoint)
    oldest, newest = limits.askable(now)
    for wider in (Span(oldest - 1, newest), Span(oldest, newest + 1)):
        assert breaks_a_bound(limits, wider, now)
        with pytest.raises(ValueError, match=r"at (most|least) \d+ now"):
            plan.check(endpoint, wider, now, whole=False)
    longest = Span(newest - limits.longest_query, newest)
    if longest.start >= oldest:
        assert plan.check(endpoint, longest, now) == longest


@given(offered, moments)
def test_a_span_can_be_asked_from_the_first_moment_at_which_it_is_the_newest(which, end):
    plan, endpoint = which
    limits = plan.of_endpoint(endpoint)
    at = limits.askable_at(end)
    assert limits.newest(at) == end > limits.newest(at - 1)


@given(offered, moments, st.integers(1, 60 * D), st.integers(0, 120))
def test_recent_stays_askable_for_two_minutes(which, now, duration, later):
    plan, endpoint = which
    span = plan.recent(endpoint, duration, now)
    assert span.end == plan.of_endpoint(endpoint).askable(now).end, "the newest there is"
    assert span.duration <= duration
    assert plan.check(endpoint, span, now + later, whole=False) == span
    if span.duration < duration:
        assert span.start == now - plan.of_endpoint(endpoint).available + 1 + 120, "all that the plan keeps"


def test_recent_takes_durations_and_names_a_bad_one():
    assert PREMIUM.recent(CALL_LISTS, timedelta(hours=8), NOW) == Span(NOW - 21 - 8 * H, NOW - 21)
    with pytest.raises(ValueError, match="duration=0: it must be at least one second"):
        PREMIUM.recent(CALL_LISTS, 0, NOW)


def test_recent_of_a_plan_that_keeps_hardly_anything_is_a_second_at_least():
    tight = PREMIUM.with_limits("realtime", available=60, delay=40)
    assert tight.recent(REALTIME_USAGE, 600, NOW) == Span(NOW - 42, NOW - 41)


@pytest.mark.parametrize(
    ("endpoint", "span", "message"),
    [
        (
            CALL_LISTS,
            Span(NOW - H, NOW + 60),
            (
                f"end={NOW + 60} lies in the future (plan 'premium', GET /beta/analytics/call/lists):"
                f" at most {NOW - 21} now"
            ),
        ),
        (CALL_LISTS, Span(NOW - H, NOW - 20), f"end={NOW - 20} is newer than the delay of 20 s allows (plan 'premium'"),
        (INSIGHT_USAGE, Span(NOW - D, NOW), "newer than the delay of 43200 s allows (plan 'premium', GET"),
        (
            CALL_SESSIONS,
            Span(NOW - 7 * D, NOW - H),
            (
                f"start={NOW - 7 * D} is older than the plan keeps (plan 'premium', GET /beta/analytics/call/sessions,"
                f" 604800 s back): at least {NOW - 604_799} now"
            ),
        ),
        (
            CALL_METRICS,
            Span(NOW - 4 * H, NOW - H),
            (
                "end - start = 10800 s is longer than one request may span (plan 'premium',"
                " GET /beta/analytics/call/metrics): at most 10799 s"
            ),
        ),
        (INSIGHT_USAGE_TOTAL, Span(NOW - 14 * D, NOW - D), "older than the plan keeps"),
    ],
)
def test_a_span_that_cannot_be_asked_is_refused_with_the_number_that_can(endpoint, span, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        PREMIUM.check(endpoint, span, NOW)
    assert message in str(caught.value)


def test_a_total_without_a_longest_query_spans_all_that_is_kept():
    limits = PREMIUM.of_endpoint(INSIGHT_USAGE_TOTAL)
    assert limits.longest_query == 14 * D - 1
    assert PREMIUM.check(INSIGHT_USAGE_TOTAL, limits.askable(NOW), NOW).duration == 14 * D - 12 * H - 2


# Plans as values.


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_found_by_its_name_in_any_case(name):
    assert Plan.of(name.upper()) is Plan.of(name) is Plan.of(PLANS[name]) is PLANS[name]
    assert PLANS[name].name == name


@pytest.mark.parametrize("bad", ["gold", "", None, 3])
def test_an_unknown_plan_names_the_four(bad):
    error = ValueError if isinstance(bad, str) else TypeError
    with pytest.raises(error, match=r"plan=.*: allowed (are|is) starter, standard, premium, enterprise, or a Plan of"):
        Plan.of(bad)


@pytest.mark.parametrize(
    ("plan", "endpoint", "who"),
    [
        (STARTER, CALL_LISTS, "standard, premium, enterprise"),
        (STANDARD, REALTIME_USAGE, "premium, enterprise"),
        (STANDARD, INSIGHT_USAGE, "premium, enterprise"),
    ],
)
def test_an_endpoint_that_a_plan_lacks_names_the_plans_that_have_it(plan, endpoint, who):
    assert not plan.offers(endpoint)
    with pytest.raises(ValueError, match=rf"plan='{plan.name}' does not include {endpoint}; plans that do: {who}$"):
        plan.of_endpoint(endpoint)


def test_a_table_is_a_counter_until_split():
    tables = ("call_lists", "call_details", "insight_usage", "insight_quality", "insight_usage_total")
    assert ENTERPRISE.all_counters() == (*tables, "insight_quality_total", "realtime")
    assert STANDARD.all_counters() == ("call_lists", "call_details")
    assert STARTER.all_counters() == ()
    split = ENTERPRISE.split()
    assert split.all_counters() == tuple(endpoint.name for endpoint in ENDPOINTS)
    assert split.rates("realtime_quality_top") == {"minute": 10, "day": 1_440}
    assert len(ENTERPRISE.split("realtime").all_counters()) == 7 + 3
    assert ENTERPRISE.rates("realtime_quality_top") == {}, "a counter that nothing spends from"


def test_merged_endpoints_are_as_tight_as_the_tightest():
    merged = PREMIUM.merge("all", ENDPOINTS)
    assert merged.all_counters() == ("all",)
    assert merged.rates("all") == {"second": 3, "day": 40, "minute": 3}
    assert PREMIUM.all_counters() != ("all",), "a copy"
    assert PREMIUM.split("realtime").merge("live", [REALTIME_USAGE, REALTIME_QUALITY]).all_counters()[-3:] == (
        "live",
        "realtime_usage_top",
        "realtime_quality_top",
    )


def test_negotiated_numbers_are_a_copy_away():
    plan = PREMIUM.with_limits("realtime", per_day=1_000, delay=20)
    assert (plan.rates("realtime"), plan.limits["realtime"].delay) == ({"minute": 3, "day": 1_000}, 20)
    assert (PREMIUM.limits["realtime"].per_day, plan.limits["call_lists"]) == (480, PREMIUM.limits["call_lists"])
    assert attrs.evolve(plan, name="ours").name == "ours"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda: PREMIUM.with_limits("calls", per_day=1), ValueError, "table='calls': plan 'premium' has call_lists, "),
        (lambda: STARTER.with_limits("call_lists", per_day=1), ValueError, "plan 'starter' has none"),
        (lambda: PREMIUM.with_limits("realtime", per_hour=1), TypeError, "per_hour"),
        (lambda: PREMIUM.split("realtime", "calls"), ValueError, "tables=.*'calls'.*allowed are call_details, "),
        (lambda: PREMIUM.with_limits("realtime", per_day=0), ValueError, "per_day"),
        (lambda: PREMIUM.with_limits("realtime", per_minute=-1), ValueError, "per_minute"),
        (lambda: PREMIUM.with_limits("realtime", per_day="many"), TypeError, "per_day"),
        (lambda: PREMIUM.with_limits("realtime", longest=1), ValueError, "longest"),
        (lambda: PREMIUM.with_limits("realtime", delay=2_400), ValueError, "available=2400.*delay=2400"),
        (lambda: PREMIUM.with_limits("realtime", delay=-1), ValueError, "delay"),
    ],
)
def test_numbers_that_cannot_work_are_refused_at_once(change, error, message):
    with pytest.raises(error, match=message):
        change()
