"""Pricing plans: the vendor's tables of rate limits and retention as data, and which spans are queryable at a moment.

The reference's inequalities are strict (`end < now - delay`, `start > now - retention`, `end - start < longest`), so
all bounds here are one second inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import attrs

from agora_analytics._core import validation
from agora_analytics.spans import DAY, HOUR, MINUTE, Span, length

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

__all__ = ["ENTERPRISE", "PREMIUM", "STANDARD", "STARTER", "Limits", "Plan"]

ValueT = TypeVar("ValueT")

Unit = Literal["second", "minute", "day"]
"""Windows of rate limits: fixed UTC seconds, minutes and days of the service's clock."""

WINDOWS: Final[dict[Unit, int]] = {"second": 1, "minute": 60, "day": 86_400}
"""Seconds in each unit."""

_MARGIN: Final = 120
"""Seconds for which `Plan.recent` keeps its oldest span queryable: its requests may have to queue."""


@attrs.frozen
class Endpoint:
    """One of the 14 endpoints: name, method, path, and the table of the reference that limits it."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    table: str

    def __str__(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"


CALL_LISTS: Final = Endpoint("call_lists", "GET", "/beta/analytics/call/lists", "call_lists")
CALL_SESSIONS: Final = Endpoint("call_sessions", "GET", "/beta/analytics/call/sessions", "call_details")
CALL_METRICS: Final = Endpoint("call_metrics", "GET", "/beta/analytics/call/metrics", "call_details")
CALL_STATISTICS: Final = Endpoint("call_statistics", "GET", "/beta/analytics/call/statistics", "call_details")
CALL_FREEZE: Final = Endpoint("call_freeze", "GET", "/beta/analytics/call/freeze/bucket", "call_details")
CALL_TIMELINE: Final = Endpoint("call_timeline", "GET", "/beta/analytics/call/statistics/time", "call_details")
INSIGHT_USAGE: Final = Endpoint("insight_usage", "GET", "/beta/insight/usage/by_time", "insight_usage")
INSIGHT_QUALITY: Final = Endpoint("insight_quality", "GET", "/beta/insight/quality/by_time", "insight_quality")
INSIGHT_USAGE_TOTAL: Final = Endpoint(
    "insight_usage_total", "POST", "/beta/insight/usage/aggregation", "insight_usage_total"
)
INSIGHT_QUALITY_TOTAL: Final = Endpoint(
    "insight_quality_total", "POST", "/beta/insight/quality/aggregation", "insight_quality_total"
)
REALTIME_USAGE: Final = Endpoint("realtime_usage", "GET", "/beta/realtime/usage/by_time_20sec", "realtime")
REALTIME_QUALITY: Final = Endpoint("realtime_quality", "GET", "/beta/realtime/quality/by_time_20sec", "realtime")
REALTIME_USAGE_TOP: Final = Endpoint("realtime_usage_top", "GET", "/beta/realtime/usage/dimension/top20", "realtime")
REALTIME_QUALITY_TOP: Final = Endpoint(
    "realtime_quality_top", "GET", "/beta/realtime/quality/dimension/top20", "realtime"
)

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    CALL_LISTS,
    CALL_SESSIONS,
    CALL_METRICS,
    CALL_STATISTICS,
    CALL_FREEZE,
    CALL_TIMELINE,
    INSIGHT_USAGE,
    INSIGHT_QUALITY,
    INSIGHT_USAGE_TOTAL,
    INSIGHT_QUALITY_TOTAL,
    REALTIME_USAGE,
    REALTIME_QUALITY,
    REALTIME_USAGE_TOP,
    REALTIME_QUALITY_TOP,
)
"""All 14, in the reference's order."""


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return validation.non_empty_strs("granularities", values)


@attrs.frozen(kw_only=True)
class Limits:
    """One column of one of the reference's tables.

    `per_second`, `per_minute` (None: unlimited) and `per_day` are requests. `retention` (how far back data is
    kept), `delay` (how far data is behind now) and `longest` (a query must be shorter; None: unlimited) are seconds.
    Raises `ValueError` or `TypeError` for limits that no request could satisfy.
    """

    per_day: int
    retention: int
    delay: int
    per_second: int | None = None
    per_minute: int | None = None
    longest: int | None = None
    granularities: tuple[str, ...] = attrs.field(default=(), converter=_names)

    def __attrs_post_init__(self) -> None:
        count, seconds = partial(validation.int_in_range, least=1), partial(validation.int_in_range, least=2)
        validation.apply_rules(self, per_day=count, retention=seconds, delay=partial(validation.int_in_range, least=0))
        validation.apply_rules(self, **dict.fromkeys(("per_second", "per_minute"), partial(validation.none_or, count)))
        validation.apply_rules(self, longest=partial(validation.none_or, seconds))
        # The strict bounds take a second at each end, and one must be left.
        if self.retention < self.delay + 3:
            msg = f"retention={self.retention} with delay={self.delay} leaves nothing: it must be delay + 3 or more"
            raise ValueError(msg)

    @property
    def rates(self) -> dict[Unit, int]:
        """Requests allowed per unit, limited units only, shortest first."""
        rates: dict[Unit, int | None] = {
            "second": self.per_second,
            "minute": self.per_minute,
            "day": self.per_day,
        }
        return {unit: rate for unit, rate in rates.items() if rate is not None}

    @property
    def longest_query(self) -> int:
        """Seconds that one request may span: less than `longest` and `retention`."""
        return (self.retention if self.longest is None else min(self.longest, self.retention)) - 1

    def queryable(self, now: int) -> Span:
        """Return the span that is queryable at `now`."""
        return Span(self.oldest(now), self.newest(now))

    def oldest(self, now: int) -> int:
        """Return the first second that is queryable at `now`."""
        return now - self.retention + 1

    def newest(self, now: int) -> int:
        """Return the last `end` that is queryable at `now`."""
        return now - self.delay - 1

    def queryable_at(self, end: int) -> int:
        """Return when a span that ends at `end` becomes queryable."""
        return end + self.delay + 1


def _endpoint(value: Endpoint) -> Endpoint:
    if not isinstance(value, Endpoint):
        raise validation.type_error("endpoint", value, "an Endpoint")
    return value


class _Table(Mapping[str, ValueT]):
    """An immutable, hashable mapping, so that a plan can be a key, a default, and shared between threads."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, ValueT]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> ValueT:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"<{', '.join(self._values)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _Table, (self._values,)


def _limits(values: Mapping[str, Limits]) -> Mapping[str, Limits]:
    return _Table(validation.mapping("limits", values, Limits))


def _counters(values: Mapping[str, str]) -> Mapping[str, str]:
    return _Table(validation.mapping("counters", values, str))


@attrs.frozen
class Plan:
    """A pricing plan: the limits of each table, and which endpoints share a counter.

    >>> plan = Plan.of("premium").with_limits("realtime", per_day=1_000)
    >>> plan.rates("realtime")
    {'minute': 3, 'day': 1000}
    >>> print(plan.of_endpoint(CALL_LISTS).queryable(now=1_795_521_600))
    2026-11-17T12:00:01Z..2026-11-24T11:59:39Z

    `limits` maps a table's name to its limits; it lacks tables that the plan does not include. `counters` maps an
    endpoint's name to the counter that it spends from, where that is not its table's. `with_limits`, `split`, `merge`
    and `attrs.evolve` return changed copies. A plan is immutable, and can be hashed and pickled.
    """

    name: str
    limits: Mapping[str, Limits] = attrs.field(converter=_limits)
    counters: Mapping[str, str] = attrs.field(factory=dict, converter=_counters)
    # A cache, filled at first use: no part of the plan's value.
    _rates: dict[str, dict[Unit, int]] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, name=validation.non_empty_str)

    @classmethod
    def of(cls, plan: Plan | str) -> Plan:
        """Return the plan of this name (`starter`, `standard`, `premium`, `enterprise`), or the plan itself.

        Raises `ValueError` for any other name, `TypeError` for anything else.
        """
        if isinstance(plan, Plan):
            return plan
        name = validation.enum_value(plan)
        if not isinstance(name, str):
            raise validation.type_error("plan", plan, f"{', '.join(PLANS)}, or a Plan of your own")
        if name.lower() not in PLANS:
            msg = f"plan={validation.short_repr(name)}: allowed are {', '.join(PLANS)}, or a Plan of your own"
            raise ValueError(msg)
        return PLANS[name.lower()]

    def offers(self, endpoint: Endpoint) -> bool:
        """Whether the plan includes this endpoint."""
        return _endpoint(endpoint).table in self.limits

    def of_endpoint(self, endpoint: Endpoint) -> Limits:
        """Return an endpoint's limits; raises `ValueError` that names the plans with it if this one lacks it."""
        limits = self.limits.get(_endpoint(endpoint).table)
        if limits is None:
            others = ", ".join(plan.name for plan in PLANS.values() if plan.offers(endpoint)) or "none"
            raise ValueError(f"plan={self.name!r} does not include {endpoint}; plans that do: {others}")
        return limits

    def counter(self, endpoint: Endpoint) -> str:
        """Return the name of the counter that a request to this endpoint spends from."""
        # Whether endpoints of one table share a count is unknown: one counter a table is the safe reading.
        return self.counters.get(_endpoint(endpoint).name, endpoint.table)

    def rates(self, counter: str) -> dict[Unit, int]:
        """Return requests per unit of a counter: the lowest of all endpoints that share it; empty if there are none."""
        return dict(self._all_rates().get(counter, {}))

    def all_counters(self) -> tuple[str, ...]:
        """Return the counters of all included endpoints, in the reference's order."""
        return tuple(self._all_rates())

    def _all_rates(self) -> Mapping[str, dict[Unit, int]]:
        """Return the rates of each counter, computed at first use."""
        if not self._rates:
            found: dict[str, dict[Unit, int]] = {}
            for endpoint in filter(self.offers, ENDPOINTS):
                rates = found.setdefault(self.counter(endpoint), {})
                for unit, rate in self.limits[endpoint.table].rates.items():
                    # The lowest, so that no endpoint exceeds its own limit, whichever endpoints share the counter.
                    rates[unit] = min(rate, rates.get(unit, rate))
            self._rates.update(found)  # in one step, for thread safety
        return self._rates

    def with_limits(self, table: str, **changes: object) -> Plan:
        """Return a copy with other limits for one table, such as `plan.with_limits("realtime", per_day=1000)`."""
        table = validation.non_empty_str("table", table)
        if table not in self.limits:
            known = ", ".join(self.limits) or "none"
            raise ValueError(f"table={validation.short_repr(table)}: plan {self.name!r} has {known}")
        changed = attrs.evolve(self.limits[table], **changes)  # type: ignore[arg-type]  # checked by Limits itself
        return attrs.evolve(self, limits={**self.limits, table: changed})

    def split(self, *tables: str) -> Plan:
        """Return a copy in which each endpoint of these tables (by default of all) has a counter of its own."""
        known = sorted({endpoint.table for endpoint in ENDPOINTS})
        tables = tuple(validation.one_of("tables", table, known) for table in tables)
        own = {e.name: e.name for e in ENDPOINTS if not tables or e.table in tables}
        return attrs.evolve(self, counters={**self.counters, **own})

    def merge(self, counter: str, endpoints: Iterable[Endpoint]) -> Plan:
        """Return a copy in which these endpoints share one counter, with the lowest of their limits."""
        counter = validation.non_empty_str("counter", counter)
        shared = {endpoint.name: counter for endpoint in validation.instances("endpoints", endpoints, Endpoint)}
        return attrs.evolve(self, counters={**self.counters, **shared})

    def check(self, endpoint: Endpoint, span: Span, now: int | None, *, whole: bool = True) -> Span:
        """Return the span if it is queryable at `now`; otherwise raise `ValueError` with the nearest allowed value.

        With `now=None` (the service's time is uncertain) the age is not checked. With `whole`, one request must be
        able to carry the span.
        """
        limits = self.of_endpoint(endpoint)
        if now is not None:
            self._check_age(endpoint, span, now)
        if whole and span.duration > limits.longest_query:
            msg = (
                f"end - start = {span.duration} s is longer than one request may span (plan {self.name!r}, {endpoint}):"
                f" at most {limits.longest_query} s"
            )
            raise ValueError(msg)
        return span

    def _check_age(self, endpoint: Endpoint, span: Span, now: int) -> None:
        limits = self.of_endpoint(endpoint)
        newest, oldest = limits.newest(now), limits.oldest(now)
        if span.end > newest:
            what = "lies in the future" if span.end > now else f"is newer than the delay of {limits.delay} s allows"
            raise ValueError(f"end={span.end} {what} (plan {self.name!r}, {endpoint}): at most {newest} now")
        if span.start < oldest:
            back = f"{limits.retention} s back"
            msg = (
                f"start={span.start} is older than the plan keeps (plan {self.name!r}, {endpoint}, {back}):"
                f" at least {oldest} now"
            )
            raise ValueError(msg)

    def recent(self, endpoint: Endpoint, duration: timedelta | int, now: int) -> Span:
        """Return the newest span of this duration that stays queryable from `now` for two minutes.

        It is cut to the plan's retention.
        """
        queryable = self.of_endpoint(endpoint).queryable(now)
        # A plan may keep less than the margin: then one second is left.
        oldest = min(queryable.start + _MARGIN, queryable.end - 1)
        return Span(max(oldest, queryable.end - length(duration)), queryable.end)


def is_cut(wanted: timedelta | int, span: Span) -> bool:
    """Whether `Plan.recent` cut a span by more than a hundredth, or by more than ten minutes if that is less."""
    return length(wanted) - span.duration > min(10 * MINUTE, length(wanted) // 100)


def _plan(
    name: str,
    lists: tuple[int, int, int, int, int],
    details: tuple[int, int],
    insights: tuple[int, int, int, int, int] | None = None,
    realtime: tuple[int, int, int, int] | None = None,
) -> Plan:
    """Build a plan from the numbers of its column, in the tables' order and units."""
    # A table of the reference after another: longer than 25 lines for that.
    per_second, per_day, days, hours, delay = lists
    detail_hours, detail_delay = details
    calls = Limits(per_second=per_second, per_day=per_day, retention=days * DAY, longest=hours * HOUR, delay=delay)
    tables = {
        "call_lists": calls,
        # The reference gives both the same frequency and retention.
        "call_details": attrs.evolve(calls, longest=detail_hours * HOUR, delay=detail_delay),
    }
    if insights:
        per_minute, per_day, kept, longest, usage_delay = insights
        usage = Limits(
            per_minute=per_minute,
            per_day=per_day,
            retention=kept * DAY,
            longest=longest * DAY,
            delay=usage_delay * HOUR,
            granularities=("1d", "1h"),
        )
        # Six hours on every plan, where the delay of usage differs.
        quality = attrs.evolve(usage, delay=6 * HOUR)
        tables["insight_usage"] = usage
        # The page promises minutes without their literal: "1m" is a guess.
        tables["insight_quality"] = attrs.evolve(quality, granularities=("1d", "1h", "1m"))
        # The reference names no longest query for totals: the retention alone limits it.
        tables["insight_usage_total"] = attrs.evolve(usage, longest=None)
        tables["insight_quality_total"] = attrs.evolve(quality, longest=None)
    if realtime:
        per_minute, per_day, minutes, delay = realtime
        tables["realtime"] = Limits(
            per_minute=per_minute,
            per_day=per_day,
            retention=minutes * MINUTE,
            # One request may carry all that is kept, at the price of one window.
            longest=minutes * MINUTE,
            delay=delay,
        )
    return Plan(name, tables)


STARTER: Final = Plan("starter", {})
"""Has no access to the API."""
# Call lists: per second, per day, days kept, hours a query, delay in s; details: the last two of these. Insights: per
# minute, per day, days kept, days a query, hours of delay. Real-time: per minute, per day, minutes kept, s of delay.
STANDARD: Final = _plan("standard", (1, 1_000, 1, 8, 60), (1, 300))
"""Call Inspector alone."""
PREMIUM: Final = _plan("premium", (3, 2_000, 7, 16, 20), (3, 150), (3, 40, 14, 3, 12), (3, 480, 40, 40))
"""All endpoints, at 480 real-time requests a day."""
ENTERPRISE: Final = _plan("enterprise", (10, 10_000, 15, 24, 20), (6, 100), (10, 60, 30, 7, 6), (10, 1_440, 60, 20))
"""All endpoints, at 1,440 real-time requests a day."""

PLANS: Final[dict[str, Plan]] = {plan.name: plan for plan in (STARTER, STANDARD, PREMIUM, ENTERPRISE)}
"""The four pricing plans by name."""
