"""Every public method, with valid arguments and the kind of each argument."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from helpers.strange_values import SECRET

from agora_analytics import (
    AnalyticsClient,
    Breakdown,
    Call,
    Checkpoint,
    FileLedger,
    Filter,
    Insight,
    Limits,
    Plan,
    Retry,
    Selection,
    Series,
    Span,
    Timeouts,
    Window,
    broadcast,
    to_arrow,
    to_pandas,
    to_polars,
)
from agora_analytics.plans import CALL_LISTS, PREMIUM
from agora_analytics.protocols import Response

NOW = 1_795_521_600
HOUR = 3_600


class NoSendTransport:
    """A transport that fails on every request."""

    hosts = 1

    def scrub(self, body: bytes) -> bytes:
        return body

    async def send(self, request: object, host: int = 0) -> Response:
        raise AssertionError(f"sent {request} to {host}")

    async def close(self) -> None:
        pass


class Method(NamedTuple):
    """A public callable, valid arguments for it, and the kind of each argument."""

    name: str
    call: Any
    valid: dict[str, Any]
    kinds: dict[str, str]


def make_client(**options: Any) -> AnalyticsClient:
    settings = {"plan": "premium", "app_id": "app", "transport": NoSendTransport(), "clock": lambda: NOW} | options
    return AnalyticsClient(settings.pop("customer_id", "customer"), settings.pop("customer_secret", SECRET), **settings)


START, END = NOW - 2 * HOUR, NOW - HOUR
DAY, NOON = NOW - 86_400, NOW - 50_000
TIMES = {"start": "time", "end": "time"}
CALL_KINDS = {"start": "time or None", "end": "time or None", "call": "text"}
CALL = Call(call_id="c1", cname="x", created_ts=START, destroyed_ts=END, finished=True)
CALL_ARGUMENTS = {"call": CALL, "start": START, "end": END}
DIMENSION = {"dimension": "text or None", "dimension_values": "list"}
SELECTION = Selection(START, END)
CLIENT = make_client()


def call_with_varargs(method: Any, name: str, **arguments: Any) -> Any:
    """Call a method that takes one of its arguments as `*args`."""
    value = arguments.pop(name)
    return method(*(value if isinstance(value, tuple) else (value,)), **arguments)


METHODS = [
    Method(
        "AnalyticsClient",
        make_client,
        {},
        {
            "customer_id": "secret",
            "customer_secret": "secret",
            "plan": "choice",
            "on_bad_row": "choice",
            "app_id": "app or None",
            "base_url": "hosts",
            "session": "object or None",
            "timeouts": "object or None",
            "retry": "object or None",
            "max_wait": "number or None",
            "max_bytes": "count",
            "read_ahead": "flag",
            "ledger": "object or None",
            "close_ledger": "flag",
            "quotas": "flag",
            "checkpoints": "object or None",
            "transport": "object or None",
            "clock": "function",
            "observers": "list",
        },
    ),
    Method("AnalyticsClient.with_app", CLIENT.with_app, {"app_id": "b"}, {"app_id": "app"}),
    Method("AnalyticsClient.with_priority", CLIENT.with_priority, {"priority": "stream"}, {"priority": "choice"}),
    Method("Calls.recent", CLIENT.calls.recent, {"duration": 60}, {"duration": "duration"}),
    Method(
        "Calls.page",
        CLIENT.calls.page,
        {"start": START, "end": END},
        TIMES | {"cname": "text or None", "page_no": "count", "page_size": "count"},
    ),
    Method(
        "Calls.search",
        CLIENT.calls.search,
        {"start": START, "end": END},
        TIMES | {"cname": "text or None", "page_size": "count", "max_requests": "count or None"},
    ),
    Method(
        "Calls.sessions_page",
        CLIENT.calls.sessions_page,
        CALL_ARGUMENTS,
        CALL_KINDS
        | {
            "uids": "list",
            "exclude_server_user": "flag",
            "page_no": "count",
            "page_size": "count",
        },
    ),
    Method(
        "Calls.sessions",
        CLIENT.calls.sessions,
        CALL_ARGUMENTS,
        CALL_KINDS | {"uids": "list", "exclude_server_user": "flag", "wait": "flag"},
    ),
    Method(
        "Calls.metrics",
        CLIENT.calls.metrics,
        CALL_ARGUMENTS,
        CALL_KINDS | {"sids": "list or None", "exclude_server_user": "flag", "wait": "flag"},
    ),
    Method("Calls.queryable_at", CLIENT.calls.queryable_at, {}, {"call": "object"}),
    Method("Calls.is_queryable", CLIENT.calls.is_queryable, {}, {"call": "object"}),
    Method(
        "Calls.statistics",
        CLIENT.calls.statistics,
        CALL_ARGUMENTS | {"metric": "x", "dimension": "os"},
        CALL_KINDS | {"metric": "text", "dimension": "text"},
    ),
    Method(
        "Calls.freeze_buckets",
        CLIENT.calls.freeze_buckets,
        CALL_ARGUMENTS | {"metric": "x"},
        CALL_KINDS | {"metric": "text"},
    ),
    Method("Calls.timeline", CLIENT.calls.timeline, CALL_ARGUMENTS | {"metric": "x"}, CALL_KINDS | {"metric": "text"}),
    Method(
        "Calls.follow",
        CLIENT.calls.follow,
        {},
        {
            "start": "time or None",
            "stop": "time or None",
            "checkpoint": "checkpoint",
            "allowed_lateness": "count",
            "every": "count",
            "with_sessions": "flag",
            "late_sessions": "flag",
        },
    ),
    Method("Insights.recent", CLIENT.insights.recent, {"duration": 60}, {"duration": "duration"}),
    Method(
        "Insights.usage",
        CLIENT.insights.usage,
        {"metric": "userCount", "start": DAY, "end": NOON},
        TIMES | {"metric": "text", "granularity": "granularity"},
    ),
    Method(
        "Insights.quality",
        CLIENT.insights.quality,
        {"metric": "networkDelay", "start": DAY, "end": NOON, "product": "Native"},
        TIMES | {"metric": "text", "granularity": "granularity", "product": "text"},
    ),
    Method(
        "Insights.usage_total",
        CLIENT.insights.usage_total,
        {"metric": "userCount", "start": DAY, "end": NOON, "dimension": "region"},
        TIMES | DIMENSION | {"metric": "text", "filters": "list"},
    ),
    Method(
        "Insights.quality_total",
        CLIENT.insights.quality_total,
        {"metric": "networkDelay", "start": DAY, "end": NOON, "dimension": "region"},
        TIMES | DIMENSION | {"metric": "text", "filters": "list", "product": "text or None"},
    ),
    Method("Realtime.recent", CLIENT.realtime.recent, {"duration": 60}, {"duration": "duration"}),
    Method(
        "Realtime.usage",
        CLIENT.realtime.usage,
        {"metric": "userCount", "start": NOW - 600, "end": NOW - 90, "product": "Native", "dimension": "os"},
        TIMES | DIMENSION | {"metric": "text", "product": "text", "cname": "text or None"},
    ),
    Method(
        "Realtime.quality",
        CLIENT.realtime.quality,
        {"metric": "x", "start": NOW - 600, "end": NOW - 90, "product": "Native", "cname": "c"},
        TIMES | {"metric": "text", "product": "text", "cname": "text or None", "uids": "list"} | DIMENSION,
    ),
    Method(
        "Realtime.usage_top",
        CLIENT.realtime.usage_top,
        {"dimension": "os", "at": NOW - 100, "product": "Native"},
        {"dimension": "text", "at": "time", "product": "text", "metric": "text"},
    ),
    Method(
        "Realtime.quality_top",
        CLIENT.realtime.quality_top,
        {"metric": "x", "dimension": "os", "at": NOW - 100, "product": "Native"},
        {"metric": "text", "dimension": "text", "at": "time", "product": "text", "extra_metrics": "text or None"},
    ),
    Method(
        "Realtime.watch",
        partial(call_with_varargs, CLIENT.realtime.watch, "series"),
        {"series": Series("userCount", product="Native")},
        {
            "series": "object",
            "start": "time or None",
            "stop": "time or None",
            "checkpoint": "checkpoint",
            "allowed_lateness": "count",
            "final_after": "count",
            "revisions": "flag",
            "only_final": "flag",
            "every": "count",
            "gaps": "flag",
        },
    ),
    Method(
        "Realtime.coverage",
        partial(call_with_varargs, CLIENT.realtime.coverage, "series"),
        {"series": Series("userCount", product="Native")},
        {"series": "object", "every": "count"},
    ),
    Method("Filter", Filter, {"name": "country", "value": "China"}, {"name": "text", "value": "text"}),
    Method(
        "Series",
        Series,
        {"metric": "x", "product": "Native"},
        {
            "metric": "text",
            "product": "text",
            "cname": "text or None",
            "dimension": "text or None",
            "dimension_values": "list",
            "uids": "list",
            "weight": "number",
        },
    ),
    Method("Breakdown", Breakdown, {"metric": "x", "dimension": "os"}, {"metric": "text", "dimension": "text"}),
    Method(
        "Insight",
        Insight,
        {"metric": "x"},
        {
            "metric": "text",
            "product": "text or None",
            "granularity": "granularity",
            "dimension": "text or None",
        },
    ),
    Method(
        "Selection",
        Selection,
        {"start": START, "end": END},
        TIMES
        | {
            "datasets": "list",
            "apps": "list",
            "channels": "list",
            "min_freeze_rate": "number or None",
            "finished": "flag",
            "mids": "list",
            "statistics": "list",
            "insights": "list",
            "series": "list",
        },
    ),
    Method("Span", Span, {"start": START, "end": END}, TIMES),
    Method("Span.of", Span.of, {"start": START, "end": END}, TIMES),
    Method("Span.slices", Span(START, END).slices, {"longest": 60}, {"longest": "count", "mark": "count"}),
    Method(
        "Span.overlapping",
        Span(START, END).overlapping,
        {"longest": 60, "bucket": 20},
        {"longest": "count", "bucket": "count"},
    ),
    Method(
        "Checkpoint",
        Checkpoint,
        {"stream": "s"},
        {"stream": "text", "done": "list", "open": "object", "version": "count"},
    ),
    Method("Checkpoint.with_done", Checkpoint(stream="s").with_done, {}, {"span": "object"}),
    Method("FileLedger", FileLedger, {}, {"path": "path"}),
    Method("Plan.of", Plan.of, {}, {"plan": "choice"}),
    Method("Plan", Plan, {"name": "own", "limits": {}}, {"name": "text", "limits": "object", "counters": "object"}),
    Method("Plan.offers", PREMIUM.offers, {}, {"endpoint": "object"}),
    Method("Plan.of_endpoint", PREMIUM.of_endpoint, {}, {"endpoint": "object"}),
    Method("Plan.counter", PREMIUM.counter, {}, {"endpoint": "object"}),
    Method("Plan.with_limits", PREMIUM.with_limits, {"table": "realtime"}, {"table": "choice"}),
    Method("Plan.split", partial(call_with_varargs, PREMIUM.split, "tables"), {}, {"tables": "object"}),
    Method(
        "Plan.merge",
        PREMIUM.merge,
        {"counter": "x", "endpoints": [CALL_LISTS]},
        {"counter": "text", "endpoints": "list"},
    ),
    Method(
        "Limits",
        Limits,
        {"per_day": 5, "retention": 3_600, "delay": 20},
        {
            "per_day": "count",
            "retention": "count",
            "delay": "count",
            "per_second": "count or None",
            "per_minute": "count or None",
            "longest": "count or None",
            "granularities": "list",
        },
    ),
    Method("Retry", Retry, {}, {"attempts": "count", "base": "number", "cap": "number", "total": "number"}),
    Method("Timeouts", Timeouts, {}, {"total": "number", "connect": "number", "read": "number or None"}),
    Method(
        "Quota.forecast",
        CLIENT.quota.forecast,
        {"requests": 1, "counter": CALL_LISTS},
        {"requests": "count", "counter": "choice", "priority": "choice"},
    ),
    Method(
        "broadcast",
        broadcast,
        {"stream": CLIENT.calls.search(START, END)},
        {"stream": "object", "size": "count", "on_overflow": "choice", "history": "count"},
    ),
    Method("Broadcast.subscribe", broadcast(CLIENT.calls.search(START, END)).subscribe, {}, {"last": "count"}),
    *(
        Method(f"Window.{name}", getattr(Window(ts=START, values={}), name), {}, {"series": "object"})
        for name in ("points", "value", "by_group")
    ),
    *(Method(function.__name__, function, {}, {"models": "list"}) for function in (to_arrow, to_pandas, to_polars)),
]
