"""Plans: the vendor's tables, number by number, and which spans can be queried when."""

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

# The tables as the page prints them, one column a line: requests per second or minute and per day, retention, longest
# query, data delay. Standard has the first two tables, Starter has none.
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

# The page's endpoints under their tables; call details without a row of their own have the numbers of their table.
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
times = st.integers(NOW, NOW + 400 * D)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_has_the_numbers_of_the_vendors_tables(name):
    printed = {}
    for (plan, table), (rate, per_day, retention, longest, delay) in TABLES.items():
        number, unit = rate.split("/")
        if plan == name:
            printed[table] = ({unit: int(number), "day": per_day}, retention, longest, delay)
    actual = {
        table: (limits.rates, limits.retention, limits.longest, limits.delay)
        for table, limits in PLANS[name].limits.items()
    }
    assert actual == printed


def test_every_endpoint_belongs_to_its_table_of_the_vendors_page():
    actual: dict[str, list[str]] = {}
    for endpoint in ENDPOINTS:
        actual.setdefault(endpoint.table, []).append(endpoint.path)
    assert actual == PATHS
    assert {e.name for e in ENDPOINTS if e.method == "POST"} == {"insight_usage_total", "insight_quality_total"}
    assert len({endpoint.name for endpoint in ENDPOINTS}) == 14


def test_only_quality_over_time_has_minute_granularity():
    with_minutes = {
        table for plan in PLANS.values() for table, limits in plan.limits.items() if "1m" in limits.granularities
    }
    assert with_minutes == {"insight_quality"}
    assert {table for table, limits in PREMIUM.limits.items() if limits.granularities[:2] == ("1d", "1h")} == {
        table for table in PREMIUM.limits if table.startswith("insight")
    }


# Which spans can be queried.


def breaks_a_bound(limits: Limits, span: Span, now: int) -> bool:
    """Whether a span violates one of the three strict inequalities of the reference."""
    return not (
        span.end < now - limits.delay
        and span.start > now - limits.retention
        and (limits.longest is None or span.duration < limits.longest)
    )


@given(offered, times, st.data())
def test_no_slice_of_a_valid_span_touches_a_strict_bound(offer, now, data):
    plan, endpoint = offer
    limits = plan.of_endpoint(endpoint)
    oldest, newest = limits.queryable(now)
    start = data.draw(st.one_of(st.just(oldest), st.integers(oldest, newest - 1)))
    end = data.draw(st.one_of(st.just(newest), st.integers(start + 1, newest)))
    span = plan.check(endpoint, Span(start, end), now, whole=False)
    for mark in (1, 20):
        assert not [part for part in span.slices(limits.longest_query, mark) if breaks_a_bound(limits, part, now)]
    for bucket in (M, H, D):
        assert not [
            part for part in span.overlapping(limits.longest_query, bucket) if breaks_a_bound(limits, part, now)
        ]


@given(offered, times)
def test_the_widest_valid_span_is_accepted_and_one_second_more_raises(offer, now):
    plan, endpoint = offer
    limits = plan.of_endpoint(endpoint)
    oldest, newest = limits.queryable(now)
    for wider in (Span(oldest - 1, newest), Span(oldest, newest + 1)):
        assert breaks_a_bound(limits, wider, now)
        with pytest.raises(ValueError, match=r"at (most|least) \d+ now"):
            plan.check(endpoint, wider, now, whole=False)
    longest = Span(newest - limits.longest_query, newest)
    if longest.start >= oldest:
        assert plan.check(endpoint, longest, now) == longest


@given(offered, times)
def test_queryable_at_is_the_first_second_at_which_a_span_can_be_queried(offer, end):
    plan, endpoint = offer
    limits = plan.of_endpoint(endpoint)
    at = limits.queryable_at(end)
    assert limits.newest(at) == end > limits.newest(at - 1)


@given(offered, times, st.integers(1, 60 * D), st.integers(0, 120))
def test_recent_stays_valid_for_two_minutes(offer, now, duration, later):
    plan, endpoint = offer
    span = plan.recent(endpoint, duration, now)
    assert span.end == plan.of_endpoint(endpoint).queryable(now).end, "the newest that can be queried"
    assert span.duration <= duration
    assert plan.check(endpoint, span, now + later, whole=False) == span
    if span.duration < duration:
        assert span.start == now - plan.of_endpoint(endpoint).retention + 1 + 120, "the whole retention"


def test_recent_accepts_durations_and_names_an_invalid_one():
    assert PREMIUM.recent(CALL_LISTS, timedelta(hours=8), NOW) == Span(NOW - 21 - 8 * H, NOW - 21)
    with pytest.raises(ValueError, match="duration=0: it must be at least one second"):
        PREMIUM.recent(CALL_LISTS, 0, NOW)


def test_recent_is_at_least_one_second_on_a_plan_with_short_retention():
    tight = PREMIUM.with_limits("realtime", retention=60, delay=40)
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
def test_a_span_that_cannot_be_queried_raises_with_the_nearest_valid_number(endpoint, span, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        PREMIUM.check(endpoint, span, NOW)
    assert message in str(caught.value)


def test_a_total_without_a_longest_query_may_span_the_whole_retention():
    limits = PREMIUM.of_endpoint(INSIGHT_USAGE_TOTAL)
    assert limits.longest_query == 14 * D - 1
    assert PREMIUM.check(INSIGHT_USAGE_TOTAL, limits.queryable(NOW), NOW).duration == 14 * D - 12 * H - 2


# Plans as values.


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_found_by_its_name_in_any_case(name):
    assert Plan.of(name.upper()) is Plan.of(name) is Plan.of(PLANS[name]) is PLANS[name]
    assert PLANS[name].name == name


@pytest.mark.parametrize("unknown", ["gold", "", None, 3])
def test_an_unknown_plan_raises_and_names_the_four_plans(unknown):
    error = ValueError if isinstance(unknown, str) else TypeError
    with pytest.raises(error, match=r"plan=.*: allowed (are|is) starter, standard, premium, enterprise, or a Plan of"):
        Plan.of(unknown)


@pytest.mark.parametrize(
    ("plan", "endpoint", "others"),
    [
        (STARTER, CALL_LISTS, "standard, premium, enterprise"),
        (STANDARD, REALTIME_USAGE, "premium, enterprise"),
        (STANDARD, INSIGHT_USAGE, "premium, enterprise"),
    ],
)
def test_an_endpoint_outside_a_plan_raises_and_names_the_plans_that_include_it(plan, endpoint, others):
    assert not plan.offers(endpoint)
    with pytest.raises(ValueError, match=rf"plan='{plan.name}' does not include {endpoint}; plans that do: {others}$"):
        plan.of_endpoint(endpoint)


def test_a_table_is_one_counter_until_it_is_split():
    tables = ("call_lists", "call_details", "insight_usage", "insight_quality", "insight_usage_total")
    assert ENTERPRISE.all_counters() == (*tables, "insight_quality_total", "realtime")
    assert STANDARD.all_counters() == ("call_lists", "call_details")
    assert STARTER.all_counters() == ()
    split = ENTERPRISE.split()
    assert split.all_counters() == tuple(endpoint.name for endpoint in ENDPOINTS)
    assert split.rates("realtime_quality_top") == {"minute": 10, "day": 1_440}
    assert len(ENTERPRISE.split("realtime").all_counters()) == 7 + 3
    assert ENTERPRISE.rates("realtime_quality_top") == {}, "a counter without endpoints"


def test_merged_endpoints_have_the_tightest_of_their_limits():
    merged = PREMIUM.merge("all", ENDPOINTS)
    assert merged.all_counters() == ("all",)
    assert merged.rates("all") == {"second": 3, "day": 40, "minute": 3}
    assert PREMIUM.all_counters() != ("all",), "a copy"
    assert PREMIUM.split("realtime").merge("live", [REALTIME_USAGE, REALTIME_QUALITY]).all_counters()[-3:] == (
        "live",
        "realtime_usage_top",
        "realtime_quality_top",
    )


def test_with_limits_returns_a_copy_with_negotiated_numbers():
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
        (lambda: PREMIUM.with_limits("realtime", delay=2_400), ValueError, "retention=2400.*delay=2400"),
        (lambda: PREMIUM.with_limits("realtime", delay=-1), ValueError, "delay"),
    ],
)
def test_impossible_limits_raise_at_once(change, error, message):
    with pytest.raises(error, match=message):
        change()
