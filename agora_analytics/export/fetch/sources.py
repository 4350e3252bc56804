"""Where the rows of an export come from: the endpoint of each source, and the span of each of its requests.

A source (the list of calls, a series of Data Insights or of real-time windows) is read slice by slice. A slice is what
one request covers.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from agora_analytics import models
from agora_analytics._core.decoding import json
from agora_analytics._core.decoding.codec import decoder
from agora_analytics._core.dispatcher import Dispatcher, OnSending, OnSkipped, RequestOptions
from agora_analytics.endpoints.base import Scope
from agora_analytics.endpoints.calls import Calls
from agora_analytics.endpoints.insights import Insights
from agora_analytics.endpoints.realtime import Realtime
from agora_analytics.export.fetch.fetcher import SINGLE_ATTEMPT
from agora_analytics.export.fetch.retention import Probe
from agora_analytics.export.selection import Insight, Selection
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.models import Point, Total
from agora_analytics.plans import (
    CALL_LISTS,
    INSIGHT_QUALITY,
    INSIGHT_QUALITY_TOTAL,
    INSIGHT_USAGE,
    INSIGHT_USAGE_TOTAL,
    REALTIME_QUALITY,
    REALTIME_USAGE,
    Endpoint,
)
from agora_analytics.quota.priority import Priority
from agora_analytics.spans import DAY, HOUR, MINUTE, WINDOW, Span
from agora_analytics.streams.watch.series import Series

if TYPE_CHECKING:
    from agora_analytics.models import Session as _User
else:
    _User = json.struct_like(models.Session)

RowT = TypeVar("RowT", bound=tuple[Any, ...])

_ALLOWED_LATENESS: Final = 300
"""Seconds for which calls and windows may still appear, or change: late data."""

_PROVISIONAL_DAYS: Final = 3
"""Days for which the service may recompute Data Insights."""

_BUCKETS: Final = {"1h": HOUR, "1m": MINUTE}


@attrs.frozen(kw_only=True)
class _UserPage(models.SessionPage):
    sessions: tuple[_User, ...] | None


class _BulkCalls(Calls):
    """Call Inspector with sessions that are plain structs: an export decodes a great many."""

    _session_page = decoder(models.SessionPage, _UserPage)


# One attempt, because retries and rate limits are the fetcher's: it charges each to the budget.
_EXPORT_OPTIONS: Final = RequestOptions(priority=Priority.EXPORT, retry=SINGLE_ATTEMPT, max_rate_limited=0)


@attrs.frozen
class EndpointSet:
    """The endpoints for one App ID, with the priority of exports and without retries of their own."""

    calls: Calls
    insights: Insights
    realtime: Realtime

    @classmethod
    def of(
        cls,
        dispatcher: Dispatcher,
        scope: Scope,
        app_id: str,
        *,
        on_skipped: OnSkipped | None = None,
        on_sending: OnSending | None = None,
    ) -> EndpointSet:
        """Return the endpoints of an App ID."""
        # Without a retention check of their own: the service itself has to refuse what is too old (see `retention`).
        options = attrs.evolve(_EXPORT_OPTIONS, on_skipped=on_skipped, on_sending=on_sending)
        own = attrs.evolve(scope, app_id=app_id, options=options, read_ahead=False, check_age=False)
        return cls(_BulkCalls(dispatcher, own), Insights(dispatcher, own), Realtime(dispatcher, own))


@attrs.frozen
class Slice:
    """What one request covers.

    Its rows are those of `span` that begin before `owned_until`. Spans of neighbours may overlap, since the service
    takes no others; the rows of the overlap belong to the next slice.
    """

    span: Span
    owned_until: int


@attrs.frozen
class CallSource:
    """The list of calls, of one channel or of all."""

    cname: str | None

    endpoint = CALL_LISTS

    def __str__(self) -> str:
        # States and manifests contain the names of sources: they must not change.
        return "calls" if self.cname is None else f"calls {self.cname}"

    def expand(self, span: Span) -> Span:
        """Return the span to request so that all rows of `span` are complete."""
        return span

    def earliest(self, ts: int) -> int:
        """Return the first start of a request that is not before `ts`."""
        return ts

    def final_before(self, now: int) -> int:
        """Return the watermark: the second before which no more calls will appear."""
        return now - _ALLOWED_LATENESS

    def split(self, span: Span, longest: int) -> tuple[Slice, ...]:
        """Split a span into slices, oldest first."""
        return _contiguous(span.slices(longest))

    def probe(self, endpoints: EndpointSet, app: str, second: int) -> Probe:  # noqa: ARG002 - as other sources
        """Return the smallest request that covers a second."""
        return Probe(second, partial(endpoints.calls.page, second, second + 1, page_size=1))


@attrs.frozen
class InsightSource:
    """A series of Data Insights."""

    insight: Insight

    def __str__(self) -> str:
        insight = self.insight
        words = ("insight", insight.metric, insight.product, insight.granularity, insight.dimension)
        return " ".join(filter(None, words))

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint to request."""
        if self.insight.dimension is None:
            return INSIGHT_USAGE if self.insight.usage else INSIGHT_QUALITY
        return INSIGHT_USAGE_TOTAL if self.insight.usage else INSIGHT_QUALITY_TOTAL

    def expand(self, span: Span) -> Span:
        """Return the span to request so that all rows of `span` are complete: by a dimension, whole UTC days."""
        if self.insight.dimension is None:
            return span
        return Span(span.start // DAY * DAY, -(-span.end // DAY) * DAY)

    def earliest(self, ts: int) -> int:
        """Return the first start of a request that is not before `ts`."""
        return ts if self.insight.dimension is None else -(-ts // DAY) * DAY

    def final_before(self, now: int) -> int:
        """Return the second before which nothing is recomputed: the start of the day three days ago."""
        return (now // DAY - _PROVISIONAL_DAYS) * DAY

    def split(self, span: Span, longest: int) -> tuple[Slice, ...]:
        """Split a span into slices of whole buckets, or of one UTC day each by a dimension; oldest first."""
        if self.insight.dimension is None:
            spans = span.overlapping(longest, _BUCKETS.get(self.insight.granularity, DAY))
            return tuple(map(Slice, spans, (*(following.start for following in spans[1:]), span.end)))
        days = (*range(-(-span.start // DAY) * DAY, span.end, DAY), span.end)
        return _contiguous(tuple(Span(*pair) for pair in pairwise(days)))

    def probe(self, endpoints: EndpointSet, app: str, second: int) -> Probe:
        """Return the smallest request that covers a second."""
        start, size = (second, _BUCKETS["1h"]) if self.insight.dimension is None else (second // DAY * DAY, DAY)
        return Probe(start, partial(self.fetch, endpoints, app, Slice(Span(start, start + size), start)))

    async def fetch(self, endpoints: EndpointSet, app: str, wanted: Slice) -> ColumnBatch:
        """Fetch a slice, and return its rows."""
        insight = self.insight
        constants = (insight.metric, insight.product, insight.granularity, insight.dimension)
        return column_batch.insights(app, constants, _owned_rows(await self._rows(endpoints, wanted.span), wanted))

    async def _rows(
        self, endpoints: EndpointSet, span: Span
    ) -> list[tuple[int, float | None, str | None, float | None]]:
        insight, insights = self.insight, endpoints.insights
        if insight.dimension is not None:
            totals: tuple[Total, ...] = (
                await insights.usage_total(insight.metric, *span, dimension=insight.dimension)
                if insight.usage
                else await insights.quality_total(
                    insight.metric, *span, dimension=insight.dimension, product=insight.product
                )
            )
            return [(span.start, total.value, total.dimension_value, total.ref_usage) for total in totals]
        points: tuple[Point, ...] = (
            await insights.usage(insight.metric, *span, granularity=insight.granularity)
            if insight.product is None
            else await insights.quality(insight.metric, *span, product=insight.product, granularity=insight.granularity)
        )
        return [(point.ts, point.value, None, None) for point in points]


@attrs.frozen
class RealtimeSource:
    """A series of 20-second windows."""

    series: Series

    def __str__(self) -> str:
        return f"realtime {self.series}"

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint to request."""
        return REALTIME_USAGE if self.series.usage else REALTIME_QUALITY

    def expand(self, span: Span) -> Span:
        """Return the span to request so that all rows of `span` are complete."""
        return span

    def earliest(self, ts: int) -> int:
        """Return the first start of a request that is not before `ts`."""
        return -(-ts // WINDOW) * WINDOW

    def final_before(self, now: int) -> int:
        """Return the second before which no window changes any more."""
        return (now - _ALLOWED_LATENESS) // WINDOW * WINDOW

    def split(self, span: Span, longest: int) -> tuple[Slice, ...]:
        """Split a span into slices of whole windows, oldest first; none if it has no whole window."""
        start, end = -(-span.start // WINDOW) * WINDOW, span.end // WINDOW * WINDOW
        return _contiguous(Span(start, end).slices(longest, WINDOW)) if start < end else ()

    def probe(self, endpoints: EndpointSet, app: str, second: int) -> Probe:
        """Return the smallest request that covers a second."""
        start = second // WINDOW * WINDOW
        return Probe(start, partial(self.fetch, endpoints, app, Slice(Span(start, start + WINDOW), start)))

    async def fetch(self, endpoints: EndpointSet, app: str, wanted: Slice) -> ColumnBatch:
        """Fetch a slice, and return its rows."""
        series = self.series
        constants = (series.metric, series.product, series.cname, series.dimension)
        return column_batch.realtime(app, constants, _owned_rows(await self._rows(endpoints, wanted.span), wanted))

    async def _rows(self, endpoints: EndpointSet, span: Span) -> list[tuple[int, float | None, str | None, str | None]]:
        series, realtime = self.series, endpoints.realtime
        filters: dict[str, Any] = {
            "product": series.product,
            "cname": series.cname,
            "dimension": series.dimension,
            "dimension_values": series.dimension_values,
        }
        points: tuple[Point, ...] = (
            await realtime.usage(series.metric, *span, **filters)
            if series.usage
            else await realtime.quality(series.metric, *span, uids=series.uids, **filters)
        )
        uids = (None if point.uid is None else str(point.uid) for point in points)
        return [(point.ts, point.value, point.dimension_value, uid) for point, uid in zip(points, uids, strict=True)]


def _contiguous(spans: tuple[Span, ...]) -> tuple[Slice, ...]:
    return tuple(Slice(span, span.end) for span in spans)


def _owned_rows(rows: Iterable[RowT], owner: Slice) -> list[RowT]:
    """Return the rows that belong to a slice."""
    return [row for row in rows if owner.span.start <= row[0] < owner.owned_until]


Source = CallSource | InsightSource | RealtimeSource
SeriesSource = InsightSource | RealtimeSource


def sources(selection: Selection) -> tuple[Source, ...]:
    """Return the sources of a selection, in the order in which they are fetched."""
    lists = [CallSource(cname) for cname in selection.channels or (None,)] if selection.of_calls else []
    return (
        # First, because they expire within the hour.
        *map(RealtimeSource, selection.series),
        *map(InsightSource, selection.insights),
        *lists,
    )
