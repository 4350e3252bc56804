"""Live reports: the price is known before the requests are sent, and a report beyond `max_requests` is refused."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.decoding import json
from agora_analytics.catalogue import Product, QualityMetric
from agora_analytics.client import AnalyticsClient, service_time
from agora_analytics.errors import AgoraError, ExportError, QuotaExhausted
from agora_analytics.export.report import ExportProgress, ExportReport, Skipped
from agora_analytics.export.selection import Insight, Selection
from agora_analytics.models import Call
from agora_analytics.ops.report import from_export
from agora_analytics.ops.report.call_page import CallData, Chart, SessionRow, call_page, freezes_by
from agora_analytics.ops.web.loads import Load
from agora_analytics.ops.web.parts import CallParts, FailureCallback
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
    client: AnalyticsClient,
    *,
    max_requests: int,
    on_price: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_missing: Callable[[str], None] | None = None,
) -> str:
    """Return the report of the newest 7 days that the plan keeps, as an HTML document; needs the extra `duckdb`.

    It has calls, and join failures if the plan has Data Insights. Sessions, devices and countries cost requests for
    each call: export them, and use `week`.

    Args:
        client: the client.
        max_requests: the most requests to send. An estimate takes up to 12 of them, so it must be more than that.
        on_price: called with the estimated requests of the report before they are sent; an exception from it ends the
            report.
        on_progress: called with the requests made so far, those of the estimate included: after the estimate, then
            about once a second; an exception from it ends the report.
        on_missing: called at the end with each part that was refused or is pending, and why; the report says it too.

    Raises:
        ValueError: the report would take more than `max_requests`; only the estimate was sent.
        QuotaExhausted: what is left of the plan's quota does not suffice within an hour.
        AgoraError: any other error of `agora_analytics.errors`, before there was any row. After that the report is made
            of the rows that there are, and says what is missing and why.

    """
    validation.instance("client", client, AnalyticsClient)
    most = validation.int_in_range("max_requests", max_requests, _ESTIMATE + 1)
    on_price, on_progress, on_missing = _callbacks(on_price, on_progress, on_missing)
    await client.quota.snapshot()  # so that the ledger's clock of the service is known
    span = Span(*map(int, client.calls.recent(timedelta(days=7))))
    selection = _selection(client, span)
    await _check_quota(client, {client.plan.counter(CALL_LISTS): 1})
    with tempfile.TemporaryDirectory() as folder:
        made = await _export(client, selection, folder, most, on_price=on_price, on_progress=on_progress)
        on_progress(made.requests)
        names = "Call Inspector and Data Insights" if selection.insights else "Call Inspector"
        # Progress is reported once a second: the last requests before a failure may be missing.
        source = f"{names}, {'at least ' if made.failure else ''}{made.requests} requests"
        page = await asyncio.to_thread(from_export.week_from, Path(folder), span, source, made.pending)
    for part in (*made.pending, *map(_skipped, made.report.skipped)):
        on_missing(part)
    return page


async def live_call(
    client: AnalyticsClient,
    call_id: str,
    span: Span,
    *,
    max_requests: int,
    on_price: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_missing: Callable[[str], None] | None = None,
) -> str:
    """Return the report of one call as an HTML document.

    It has the first 100 sessions of each slice of the call, its timeline, and its freeze rates by network. A part that
    is refused, or fails, after sessions were answered is missing, and the report says so.

    Args:
        client: the client.
        call_id: the call.
        span: a time that the call lies in: each slice of it costs requests, so the call's own is best.
        max_requests: the most requests to send.
        on_price: called with the exact number of requests before they are sent; an exception from it ends the report.
        on_progress: called after each part with the price of all parts so far; an exception from it ends the report.
        on_missing: called at the end with each part that was refused or failed, and why; the report says it too.

    Raises:
        ValueError: the report would take more than `max_requests`, or nothing of the span is queryable; nothing was
            sent.
        AgoraError: the first request, for the sessions of the call, was refused or failed.

    """
    validation.instance("client", client, AnalyticsClient)
    validation.instance("span", span, Span)
    most = validation.int_in_range("max_requests", max_requests, 1)
    on_price, on_progress, on_missing = _callbacks(on_price, on_progress, on_missing)
    failures: list[tuple[Span, AgoraError]] = []
    call_id = validation.non_empty_str("call_id", call_id)
    queried, loads = await _loads(client, call_id, span, lambda *failure: failures.append(failure))
    price = sum(load.requests for load in loads if not load.reason)
    _check_price(price, most, on_price)
    found, missing = await _fetch(loads, failures, on_progress)
    for part in missing:
        on_missing(part)
    notes = [*(f"{load.title}: {load.reason}" for load in loads if load.reason), *missing]
    # Of a part that fails, the remaining slices are not requested.
    source = f"Call Inspector, {'at most ' if missing else ''}{price} requests"
    # In a thread: hundreds of sessions would hold the event loop.
    return await asyncio.to_thread(lambda: call_page(_call_data(call_id, queried, found, notes, source)))


async def _fetch(
    loads: Sequence[Load], failures: list[tuple[Span, AgoraError]], on_progress: Callable[[int], None]
) -> tuple[list[tuple[Load, Mapping[str, Any]]], list[str]]:
    """Return what was answered, and what is missing and why; `failures` are slices that the running load lacks."""
    found: list[tuple[Load, Mapping[str, Any]]] = []
    missing: list[str] = []
    price = 0
    for load in loads:
        if load.reason or load.fetch is None:
            continue
        try:
            found.append((load, json.loads(await load.fetch())))
        except AgoraError as error:
            # The first load, so nothing is lost; without sessions there is nothing to report.
            if load.endpoint == CALL_SESSIONS:
                raise
            missing.append(f"{load.title}: {error.args[0]}")
        missing += [f"{load.title}, {span}: {error.args[0]}" for span, error in failures]
        failures.clear()
        price += load.requests
        on_progress(price)
    return found, missing


@attrs.frozen
class _Exported:
    """All requests, those of the estimate included, and what ended them early, if anything did."""

    requests: int
    report: ExportReport
    failure: str = ""

    @property
    def pending(self) -> list[str]:
        """What was not requested, and why; what was refused is in the report."""
        if not (self.failure or self.report.pending):
            return []
        return [f"{self.report.pending} spans are missing: {self.failure or 'max_requests does not suffice'}"]


async def _export(
    client: AnalyticsClient,
    selection: Selection,
    folder: str,
    most: int,
    *,
    on_price: Callable[[int], None],
    on_progress: Callable[[int], None],
) -> _Exported:
    """Export what the report of a week is made from; raises what ended the requests before there was any row."""
    over = asyncio.get_running_loop().time() + _MAX_WAIT
    async with _until(over):
        estimate = await client.export.estimate(selection)
    spent = estimate.spent
    _check_price(sum(estimate.requests.values()), most, on_price, spent=spent)
    on_progress(spent)
    await _check_quota(client, estimate.requests)
    progress = _WeekProgress(on_progress, spent, spent)
    run = partial(client.export.run, selection, folder, format="jsonl")
    try:
        async with _until(over):
            made = await run(max_requests=most - spent, on_progress=progress)
    except AgoraError as error:
        # Files that cannot be written fail again.
        if error is progress.raised or isinstance(error, ExportError):
            raise
        made = await run(max_requests=0)
        if not any(made.rows.values()):
            raise
        return _Exported(progress.sent, made, str(error.args[0]))
    return _Exported(spent + made.requests, made)


@attrs.define
class _WeekProgress:
    """Counts requests for a callback, beside those of the estimate, and remembers what that raised."""

    on_progress: Callable[[int], None]
    spent: int
    sent: int
    raised: BaseException | None = None

    def __call__(self, progress: ExportProgress) -> None:
        self.sent = self.spent + progress.requests
        try:
            self.on_progress(self.sent)
        except BaseException as error:
            self.raised = error
            raise


@asynccontextmanager
async def _until(moment: float) -> AsyncIterator[None]:
    limit = asyncio.timeout_at(moment)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise  # of a callback
        raise QuotaExhausted(
            f"the report was not done within {_MAX_WAIT} s: it waited for the plan's quota, or for the service",
            hint="See what is left in client.quota.snapshot() (agora-analytics quota), and make it later.",
        ) from None


def _selection(client: AnalyticsClient, span: Span) -> Selection:
    """Return what the report of a week is made from."""
    products = Product if client.plan.offers(INSIGHT_QUALITY) else ()
    joins = [Insight(QualityMetric.JOIN_SUCCESS_RATE, product=product) for product in products]
    return Selection(*span, datasets=("calls", "insights") if joins else ("calls",), insights=joins)


def _skipped(one: Skipped) -> str:
    when = f", {one.span}" if one.span else ""
    return f"{one.what}{when}: {one.reason}"


def _callbacks(
    on_price: Callable[[int], None] | None,
    on_progress: Callable[[int], None] | None,
    on_missing: Callable[[str], None] | None,
) -> tuple[Callable[[int], None], Callable[[int], None], Callable[[str], None]]:
    """Return the callbacks of a report; one that is not given does nothing."""
    given = {"on_price": on_price, "on_progress": on_progress, "on_missing": on_missing}
    for name, one in given.items():
        validation.none_or(validation.function, name, one, "a function")
    return on_price or _ignore, on_progress or _ignore, on_missing or _ignore


def _ignore(_: object) -> None:
    """Do nothing."""


def _check_price(price: int, most: int, on_price: Callable[[int], None], *, spent: int = 0) -> None:
    """Report the price; raises `ValueError` if it is too high, with what an estimate has spent."""
    on_price(price)
    if price + spent > most:
        after = f" after the {spent} of an estimate" if spent else ""
        raise ValueError(f"max_requests={most}: the report takes {price} requests{after}: allow {price + spent}")


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


async def _loads(
    client: AnalyticsClient, call_id: str, span: Span, on_failure: FailureCallback
) -> tuple[Span, list[Load]]:
    """Return what is queryable of a span, and the loads of the report."""
    await client.quota.snapshot()
    now = service_time(client).utc_second()
    limits = client.plan.of_endpoint(CALL_SESSIONS)
    end = min(span.end, limits.newest(now) - _MARGIN)
    if end <= span.start:
        raise ValueError(f"span={span}: details of calls are queryable only some minutes later")
    # As if it were a call that is over: the list of calls would cost more than all of its details.
    call = Call(call_id=call_id, created_ts=span.start, destroyed_ts=end - 1, finished=True)
    parts = CallParts(client, service_time(client).utc_second, on_failure=on_failure).standard(call)
    # Not how many users froze how much: each session says it.
    loads = [load for load in parts if load.endpoint != CALL_FREEZE]
    if all(load.reason for load in loads):
        raise ValueError(f"span={span}: {loads[0].reason}")
    return Span(max(span.start, min(limits.oldest(now) + _MARGIN, end - 1)), end), loads


def _call_data(
    call_id: str, span: Span, found: Sequence[tuple[Load, Mapping[str, Any]]], notes: list[str], source: str
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
        source=source,
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
