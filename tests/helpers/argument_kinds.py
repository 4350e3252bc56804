"""Every public method, with arguments that it takes and the kind of each."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from helpers.strange_values import SECRET

from agora_analytics import (
    AnalyticsClient,
    Breakdown,
    Call,
    Checkpoint,
    FileCheckpoints,
    FileLedger,
    Filter,
    Insight,
    Limits,
    MemoryCheckpoints,
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


class Silent:
    """A transport on which nothing may be sent."""

    hosts = 1

    def scrub(self, body: bytes) -> bytes:
        return body

    async def send(self, request: object, host: int = 0) -> Response:
        raise AssertionError(f"sent {request} to {host}")

    async def close(self) -> None:
        pass


class Method(NamedTuple):
    """A public callable, arguments that it takes, and the kind of each."""

    name: str
    call: Any
    good: dict[str, Any]
    kinds: dict[str, str]


def client(**options: Any) -> AnalyticsClient:
    given = {"plan": "premium", "app_id": "app", "transport": Silent(), "clock": lambda: NOW} | options
    return AnalyticsClient(given.pop("customer_id", "customer"), given.pop("customer_secret", SECRET), **given)


A, B = NOW - 2 * HOUR, NOW - HOUR
DAY, NOON = NOW - 86_400, NOW - 50_000
TIMES = {"start": "time", "end": "time"}
MAYBE = {"start": "time or None", "end": "time or None"}
CALL = Call(call_id="c1", cname="x", created_ts=A, destroyed_ts=B, finished=True)
ABOUT = {"call": CALL, "start": A, "end": B}
DIMENSION = {"dimension": "text or None", "dimension_values": "list"}
SELECTION = Selection(A, B)
C = client()


def spread(method: Any, name: str, **given: Any) -> Any:
    """Call a method that takes one argument by `*`."""
    value = given.pop(name)
    return method(*(value if isinstance(value, tuple) else (value,)), **given)


METHODS = [
    Method(
        "AnalyticsClient",
        client,
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
        },
    ),
    Method("AnalyticsClient.with_app", C.with_app, {"app_id": "b"}, {"app_id": "app"}),
    Method("AnalyticsClient.with_priority", C.with_priority, {"priority": "stream"}, {"priority": "choice"}),
    Method("Calls.recent", C.calls.recent, {"duration": 60}, {"duration": "duration"}),
    Method(
        "Calls.page",
        C.calls.page,
        {"start": A, "end": B},
        TIMES | {"cname": "text or None", "page_no": "count", "page_size": "count"},
    ),
    Method(
        "Calls.search",
        C.calls.search,
        {"start": A, "end": B},
        TIMES | {"cname": "text or None", "page_size": "count", "max_requests": "count or None"},
    ),
    Method(
        "Calls.sessions_page",
        C.calls.sessions_page,
        ABOUT,
        MAYBE
        | {
            "call": "text",
            "uids": "list",
            "exclude_server_user": "flag",
            "page_no": "count",
            "page_size": "count",
        },
    ),
    Method(
        "Calls.sessions",
        C.calls.sessions,
        ABOUT,
        MAYBE | {"call": "text", "uids": "list", "exclude_server_user": "flag", "wait": "flag"},
    ),
    Method(
        "Calls.metrics",
        C.calls.metrics,
        ABOUT,
        MAYBE | {"call": "text", "sids": "list or None", "exclude_server_user": "flag", "wait": "flag"},
    ),
    Method("Calls.askable_at", C.calls.askable_at, {}, {"call": "object"}),
    Method("Calls.is_askable", C.calls.is_askable, {}, {"call": "object"}),
    Method(
        "Calls.statistics",
        C.calls.statistics,
        ABOUT | {"metric": "x", "dimension": "os"},
        MAYBE | {"call": "text", "metric": "text", "dimension": "text"},
    ),
    Method(
        "Calls.freeze_buckets",
        C.calls.freeze_buckets,
        ABOUT | {"metric": "x"},
        MAYBE | {"call": "text", "metric": "text"},
    ),
    Method("Calls.timeline", C.calls.timeline, ABOUT | {"metric": "x"}, MAYBE | {"call": "text", "metric": "text"}),
    Method(
        "Calls.follow",
        C.calls.follow,
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
    Method("Insights.recent", C.insights.recent, {"duration": 60}, {"duration": "duration"}),
    Method(
        "Insights.usage",
        C.insights.usage,
        {"metric": "userCount", "start": DAY, "end": NOON},
        TIMES | {"metric": "text", "granularity": "granularity"},
    ),
    Method(
        "Insights.quality",
        C.insights.quality,
        {"metric": "networkDelay", "start": DAY, "end": NOON, "product": "Native"},
        TIMES | {"metric": "text", "granularity": "granularity", "product": "text"},
    ),
    Method(
        "Insights.usage_total",
        C.insights.usage_total,
        {"metric": "userCount", "start": DAY, "end": NOON, "dimension": "region"},
        TIMES | DIMENSION | {"metric": "text", "filters": "list"},
    ),
    Method(
        "Insights.quality_total",
        C.insights.quality_total,
        {"metric": "networkDelay", "start": DAY, "end": NOON, "dimension": "region"},
        TIMES | DIMENSION | {"metric": "text", "filters": "list", "product": "text or None"},
    ),
    Method("Realtime.recent", C.realtime.recent, {"duration": 60}, {"duration": "duration"}),
    Method(
        "Realtime.usage",
        C.realtime.usage,
        {"metric": "userCount", "start": NOW - 600, "end": NOW - 90, "product": "Native", "dimension": "os"},
        TIMES | DIMENSION | {"metric": "text", "product": "text", "cname": "text or None"},
    ),
    Method(
        "Realtime.quality",
        C.realtime.quality,
        {"metric": "x", "start": NOW - 600, "end": NOW - 90, "product": "Native", "cname": "c"},
        TIMES | {"metric": "text", "product": "text", "cname": "text or None", "uids": "list"} | DIMENSION,
    ),
    Method(
        "Realtime.usage_top",
        C.realtime.usage_top,
        {"dimension": "os", "at": NOW - 100, "product": "Native"},
        {"dimension": "text", "at": "time", "product": "text", "metric": "text"},
    ),
    Method(
        "Realtime.quality_top",
        C.realtime.quality_top,
        {"metric": "x", "dimension": "os", "at": NOW - 100, "product": "Native"},
        {"metric": "text", "dimension": "text", "at": "time", "product": "text", "extra_metrics": "text or None"},
    ),
    Method(
        "Realtime.watch",
        partial(spread, C.realtime.watch, "series"),
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
        partial(spread, C.realtime.coverage, "series"),
        {"series": Series("userCount", product="Native")},
        {"series": "object", "every": "count"},
    ),
    Method(
        "Exporter.estimate",
        C.export.estimate,
        {"selection": SELECTION},
        {"selection": "object", "order": "choice", "max_requests": "count or None"},
    ),
    Method(
        "Exporter.run",
        C.export.run,
        {"selection": SELECTION, "to": "memory://x", "format": "jsonl"},
        {
            "selection": "object",
            "to": "path",
            "format": "choice",
            "order": "choice",
            "min_users": "count",
            "max_requests": "count or None",
            "concurrency": "count",
            "on_progress": "function or None",
            "state": "path or None",
            "sink_options": "mapping",
            "rebuild": "flag",
        },
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
        {"start": A, "end": B},
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
    Method("Span", Span, {"start": A, "end": B}, TIMES),
    Method("Span.of", Span.of, {"start": A, "end": B}, TIMES),
    Method("Span.slices", Span(A, B).slices, {"longest": 60}, {"longest": "count", "mark": "count"}),
    Method(
        "Span.overlapping",
        Span(A, B).overlapping,
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
    Method("FileCheckpoints", FileCheckpoints, {}, {"folder": "path"}),
    Method("FileLedger", FileLedger, {}, {"path": "path"}),
    *(
        Method(f"MemoryCheckpoints.{name}", getattr(MemoryCheckpoints(), name), {}, {"name": "checkpoint"})
        for name in ("load", "acquire", "release")
    ),
    Method(
        "MemoryCheckpoints.save",
        MemoryCheckpoints().save,
        {"name": "n", "checkpoint": Checkpoint(stream="s")},
        {"name": "checkpoint", "checkpoint": "object"},
    ),
    Method("Plan.of", Plan.of, {}, {"plan": "choice"}),
    Method("Plan", Plan, {"name": "own", "limits": {}}, {"name": "text", "limits": "object", "counters": "object"}),
    Method("Plan.offers", PREMIUM.offers, {}, {"endpoint": "object"}),
    Method("Plan.of_endpoint", PREMIUM.of_endpoint, {}, {"endpoint": "object"}),
    Method("Plan.counter", PREMIUM.counter, {}, {"endpoint": "object"}),
    Method("Plan.with_limits", PREMIUM.with_limits, {"table": "realtime"}, {"table": "choice"}),
    Method("Plan.split", partial(spread, PREMIUM.split, "tables"), {}, {"tables": "object"}),
    Method(
        "Plan.merge",
        PREMIUM.merge,
        {"counter": "x", "endpoints": [CALL_LISTS]},
        {"counter": "text", "endpoints": "list"},
    ),
    Method(
        "Limits",
        Limits,
        {"per_day": 5, "available": 3_600, "delay": 20},
        {
            "per_day": "count",
            "available": "count",
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
        C.quota.forecast,
        {"requests": 1, "counter": CALL_LISTS},
        {"requests": "count", "counter": "choice"},
    ),
    Method(
        "broadcast",
        broadcast,
        {"stream": C.calls.search(A, B)},
        {"stream": "object", "size": "count", "on_overflow": "choice", "history": "count"},
    ),
    Method("Broadcast.subscribe", broadcast(C.calls.search(A, B)).subscribe, {}, {"last": "count"}),
    *(
        Method(f"Window.{name}", getattr(Window(ts=A, values={}), name), {}, {"series": "object"})
        for name in ("points", "value", "by_group")
    ),
    *(Method(made.__name__, made, {}, {"models": "list"}) for made in (to_arrow, to_pandas, to_polars)),
]
