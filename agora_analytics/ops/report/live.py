"""Live reports: the price is known before the requests are sent, and a report beyond `max_requests` is refused."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from agora_analytics._core import validation
from agora_analytics._core.decoding import json
from agora_analytics.catalogue import Product, QualityMetric
from agora_analytics.client import AnalyticsClient, service_time
from agora_analytics.errors import AgoraError, QuotaExhausted, Unauthorized
from agora_analytics.export.selection import Insight, Selection
from agora_analytics.models import Call
from agora_analytics.ops.report import from_export
from agora_analytics.ops.report.call_page import CallData, Chart, SessionRow, call_page, freezes_by
from agora_analytics.ops.web.loads import Load
from agora_analytics.ops.web.parts import CallParts
from agora_analytics.plans import CALL_FREEZE, CALL_LISTS, CALL_SESSIONS, INSIGHT_QUALITY
from agora_analytics.quota.priority import Priority
from agora_analytics.spans import HOUR, MINUTE, Span, iso

__all__ = ["live_call", "live_week"]

_ESTIMATE: Final = 12
"""Requests of an estimate at most."""

_MARGIN: Final = 5
"""Seconds between a span and the newest that is queryable: the clock may be less than exact."""

_MAX_WAIT: Final = HOUR
"""Seconds that the report of a week may take: an export by itself waits for the quota of the next day."""

_CHARTS: Final = (
    ("Users by minute", "", {"user_count": "users"}),
    ("Freeze rate by minute", "fraction", {"audio_freeze_rate": "audio", "video_freeze_rate": "video"}),
    ("Users with freezes by minute", "", {"audio_freeze_user_count": "audio", "video_freeze_user_count": "video"}),
)
"""Title, unit, and the label of each metric of the timeline."""


async def live_week(
    client: AnalyticsClient, *, max_requests: int, on_price: Callable[[int], None] | None = None
) -> str:
    """Return the report of the newest 7 days that the plan keeps, as an HTML document; needs the extra `duckdb`.

    It has calls, and join failures if the plan has Data Insights. Sessions, devices and countries cost requests for
    each call: export them, and use `week`.

    Args:
        client: the client.
        max_requests: the most requests to send. An estimate takes up to 12 of them, so it must be more than that.
        on_price: called with the estimated requests of the report before they are sent; an exception from it ends the
            report.

    Raises:
        ValueError: the report would take more than `max_requests`; only the estimate was sent.
        QuotaExhausted: what is left of the plan's quota does not suffice within an hour.
        AgoraError: any other error of `agora_analytics.errors`.

    """
    validation.instance("client", client, AnalyticsClient)
    most = validation.int_in_range("max_requests", max_requests, _ESTIMATE + 1)
    on_price = validation.none_or(validation.function, "on_price", on_price, "a function")
    await client.quota.snapshot()  # so that the ledger's clock of the service is known
    start, end = map(int, client.calls.recent(timedelta(days=7)))
    products = Product if client.plan.offers(INSIGHT_QUALITY) else ()
    joins = [Insight(QualityMetric.JOIN_SUCCESS_RATE, product=product) for product in products]
    selection = Selection(start, end, datasets=("calls", "insights") if joins else ("calls",), insights=joins)
    await _check_quota(client, {client.plan.counter(CALL_LISTS): 1})
    with tempfile.TemporaryDirectory() as folder:
        try:
            async with asyncio.timeout(_MAX_WAIT):
                estimate = await client.export.estimate(selection)
                _check_price(sum(estimate.requests.values()), most, on_price, spent=estimate.spent)
                await _check_quota(client, estimate.requests)
                made = await client.export.run(selection, folder, format="jsonl", max_requests=most - estimate.spent)
        except TimeoutError:
            raise QuotaExhausted(
                f"the report was not done within {_MAX_WAIT} s: it waited for the plan's quota, or for the service",
                hint="See what is left in client.quota.snapshot() (agora-analytics quota), and make it later.",
            ) from None
        names = "Call Inspector and Data Insights" if joins else "Call Inspector"
        source = f"{names}, {made.requests + estimate.spent} requests"
        return await asyncio.to_thread(from_export.week_from, Path(folder), Span(start, end), source)


async def live_call(
    client: AnalyticsClient,
    call_id: str,
    span: Span,
    *,
    max_requests: int,
    on_price: Callable[[int], None] | None = None,
) -> str:
    """Return the report of one call as an HTML document.

    It has the first 100 sessions of each slice of the call, its timeline, and its freeze rates by network. A part that
    the service refuses is missing, and the report says so.

    Args:
        client: the client.
        call_id: the call.
        span: a time that the call lies in: each slice of it costs requests, so the call's own is best.
        max_requests: the most requests to send.
        on_price: called with the exact number of requests before they are sent; an exception from it ends the report.

    Raises:
        ValueError: the report would take more than `max_requests`, or nothing of the span is queryable; nothing was
            sent.
        AgoraError: the service refuses the credentials or the sessions of the call.

    """
    validation.instance("client", client, AnalyticsClient)
    validation.instance("span", span, Span)
    most = validation.int_in_range("max_requests", max_requests, 1)
    on_price = validation.none_or(validation.function, "on_price", on_price, "a function")
    queried, loads = await _loads(client, validation.non_empty_str("call_id", call_id), span)
    price = sum(load.requests for load in loads)
    _check_price(price, most, on_price)
    found: list[tuple[Load, Mapping[str, Any]]] = []
    notes = []
    for load in loads:
        if load.reason or load.fetch is None:
            notes.append(f"{load.title}: {load.reason}")
            continue
        try:
            found.append((load, json.loads(await load.fetch())))
        except Unauthorized:
            raise
        except AgoraError as error:
            # Without sessions there is nothing to report; anything else is one part less.
            if load.endpoint == CALL_SESSIONS:
                raise
            notes.append(f"{load.title}: {error.args[0]}")
    # In a thread: hundreds of sessions would hold the event loop.
    return await asyncio.to_thread(lambda: call_page(_call_data(call_id, queried, found, notes, price)))


def _check_price(price: int, most: int, on_price: Callable[[int], None] | None, *, spent: int = 0) -> None:
    """Report the price; raises `ValueError` if it is too high, with what an estimate has spent."""
    if on_price is not None:
        on_price(price)
    if price + spent > most:
        after = f" after the {spent} of an estimate" if spent else ""
        raise ValueError(f"max_requests={most}: the report takes {price} requests{after}")


async def _check_quota(client: AnalyticsClient, requests: Mapping[str, int]) -> None:
    """Raise `QuotaExhausted` if requests of an export, by counter, would wait for longer than a report may take."""
    for counter, count in requests.items():
        forecast = await client.quota.forecast(count, counter, priority=Priority.EXPORT)
        if forecast.seconds > _MAX_WAIT:
            raise QuotaExhausted(
                f"the report would wait for the quota of {counter!r} until {iso(forecast.at.timestamp())}",
                hint="Make it after that, or from an export, which may take days.",
                group=counter,
                unit="day",
                resets_in=forecast.seconds,
            )


async def _loads(client: AnalyticsClient, call_id: str, span: Span) -> tuple[Span, list[Load]]:
    """Return what is queryable of a span, and the loads of the report."""
    await client.quota.snapshot()
    now = service_time(client).utc_second()
    limits = client.plan.of_endpoint(CALL_SESSIONS)
    end = min(span.end, limits.newest(now) - _MARGIN)
    if end <= span.start:
        raise ValueError(f"span={span}: details of calls are queryable only some minutes later")
    # As if it were a call that is over: the list of calls would cost more than all of its details.
    call = Call(call_id=call_id, created_ts=span.start, destroyed_ts=end - 1, finished=True)
    parts = CallParts(client, service_time(client).utc_second).standard(call)
    # Not how many users froze how much: each session says it.
    loads = [load for load in parts if load.endpoint != CALL_FREEZE]
    if all(load.reason for load in loads):
        raise ValueError(f"span={span}: {loads[0].reason}")
    return Span(max(span.start, min(limits.oldest(now) + _MARGIN, end - 1)), end), loads


def _call_data(
    call_id: str, span: Span, found: Sequence[tuple[Load, Mapping[str, Any]]], notes: list[str], price: int
) -> CallData:
    by_part = {(load.params["part"], load.params.get("metric")): data for load, data in found}
    listed = by_part["sessions", None]
    sessions = [_session(one) for one in listed["sessions"]]
    points = {metric: data["points"] for (part, metric), data in by_part.items() if part == "timeline"}
    own = _own_span(sessions, span)
    totals = [
        *(("length", own.duration / MINUTE, "min"), ("sessions", len(sessions), "")),
        ("users at once, highest minute", _highest(points.get("user_count", ())), ""),
        ("audio freeze rate, highest minute", _highest(points.get("audio_freeze_rate", ())), "fraction"),
        ("video freeze rate, highest minute", _highest(points.get("video_freeze_rate", ())), "fraction"),
    ]
    return CallData(
        call_id=call_id,
        channel=next((one["cname"] for one in listed["sessions"] if one.get("cname")), None),
        span=own,
        source=f"Call Inspector, {price} requests",
        totals=totals,
        charts=_charts(points),
        sessions=sessions,
        tables=[_breakdown(metric, data) for (part, metric), data in by_part.items() if part == "statistics"],
        notes=[*notes, *_session_notes(sessions, listed["pages"]), *_time_notes(own, span)],
    )


def _session_notes(sessions: Sequence[SessionRow], pages: int) -> Iterator[str]:
    if not sessions:
        yield "the service reports no session of this call in the span"
    if pages > 1:
        yield f"only the first page of {pages} pages of sessions was requested"
    if staying := sum(one.left is None for one in sessions):
        yield f"{staying} sessions have no end: the call was still open, or the service did not send it"


def _time_notes(own: Span, queried: Span) -> Iterator[str]:
    if own.start < queried.start or own.end > queried.end:
        yield f"the call lasted {own}, and what is shown over time, and by network, is of {queried}"


def _own_span(sessions: Sequence[SessionRow], span: Span) -> Span:
    """Return the time of the call, by its sessions; without any the span of the requests."""
    joined = [one.joined for one in sessions if one.joined]
    left = [one.left for one in sessions if one.left]
    return Span(min(joined), max([*left, *joined]) + 1) if joined else span


def _charts(points: Mapping[object, Sequence[tuple[int, float | None]]]) -> list[Chart]:
    return [
        Chart(title=title, unit=unit, series=[(label, points.get(metric, ())) for metric, label in metrics.items()])
        for title, unit, metrics in _CHARTS
    ]


def _breakdown(metric: object, data: Mapping[str, Any]) -> tuple[str, list[tuple[Any, Any, Any]]]:
    rows = [(one.get("dimension_value"), one.get("user_count"), one.get("value")) for one in data["values"]]
    return freezes_by(str(metric), "net"), rows


def _session(one: Mapping[str, Any]) -> SessionRow:
    user = one.get("account") or one.get("uid")
    return SessionRow(
        user=None if user is None else str(user),
        network=one.get("network"),
        device=one.get("device_type"),
        platform=one.get("platform"),
        sdk_version=one.get("sdk_version"),
        joined=one.get("join_ts"),
        left=one.get("leave_ts") if one.get("finished") is not False else None,
        audio=one.get("user_audio_freeze_rate"),
        video=one.get("user_video_freeze_rate"),
    )


def _highest(points: Sequence[tuple[int, float | None]]) -> float | None:
    return max((value for _, value in points if value is not None), default=None)
