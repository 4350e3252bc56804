"""Where the rows of an export come from: what one request asks of whom, and for how much of the time."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from agora_analytics import models
from agora_analytics._core.decoding import json
from agora_analytics._core.decoding.codec import decoder
from agora_analytics._core.dispatcher import Dispatcher, OnSkipped, RequestOptions
from agora_analytics.endpoints.base import Scope
from agora_analytics.endpoints.calls import Calls
from agora_analytics.endpoints.insights import Insights
from agora_analytics.endpoints.realtime import Realtime
from agora_analytics.export.fetch.fetcher import ONCE
from agora_analytics.export.fetch.retention import Question
from agora_analytics.export.selection import Insight, Selection
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import Batch
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
from agora_analytics.quota.wait_queue import Priority
from agora_analytics.spans import DAY, WINDOW, Span
from agora_analytics.streams.watch.series import Series

if TYPE_CHECKING:
    from agora_analytics.models import Session as _User
else:
    _User = json.struct_like(models.Session)

RowT = TypeVar("RowT", bound=tuple[Any, ...])

_LATE: Final = 300
"""Seconds within which calls and windows may still appear, or change."""

_PROVISIONAL_DAYS: Final = 3
_BUCKETS: Final = {"1h": 3_600, "1m": 60}


@attrs.frozen(kw_only=True)
class _UserPage(models.SessionPage):
    sessions: tuple[_User, ...] | None


class _Calls(Calls):
    """Call Inspector, whose sessions are no more than their fields: an export reads a great many."""

    _session_page = decoder(models.SessionPage, _UserPage)


_OPTIONS: Final = RequestOptions(priority=Priority.EXPORT, retry=ONCE, max_rate_limited=0)


@attrs.frozen
class Groups:
    """The endpoints for one App ID, in the priority of exports."""

    calls: Calls
    insights: Insights
    realtime: Realtime

    @classmethod
    def of(cls, session: Dispatcher, scope: Scope, app_id: str, on_skipped: OnSkipped | None = None) -> Groups:
        """Return the groups of an App ID."""
        # What is too old, the service itself has to say (see `_expiry`).
        options = attrs.evolve(_OPTIONS, on_skipped=on_skipped)
        mine = attrs.evolve(scope, app_id=app_id, options=options, read_ahead=False, check_age=False)
        return cls(_Calls(session, mine), Insights(session, mine), Realtime(session, mine))


@attrs.frozen
class Slice:
    """What one request asks for: `span`, of which only what begins before `keep` counts; the next has the rest."""

    span: Span
    keep: int


@attrs.frozen
class CallSource:
    """The list of calls, of one channel or of all."""

    cname: str | None

    endpoint = CALL_LISTS

    def __str__(self) -> str:
        return "calls" if self.cname is None else f"calls {self.cname}"

    def whole(self, span: Span) -> Span:
        """Return what must be asked for so that a span is whole."""
        return span

    def first(self, moment: int) -> int:
        """Return the first moment from which on can be asked, not before another."""
        return moment

    def settled(self, now: int) -> int:
        """Return until when nothing more will appear."""
        return now - _LATE

    def cut(self, span: Span, longest: int) -> tuple[Slice, ...]:
        """Return what one request after the other asks for."""
        return _tiles(span.slices(longest))

    def about(self, groups: Groups, app: str, second: int) -> Question:  # noqa: ARG002 - as the others'
        """Return the smallest question about a second."""
        return Question(second, partial(groups.calls.page, second, second + 1, page_size=1))


@attrs.frozen
class InsightSource:
    """A series of Data Insights."""

    insight: Insight

    def __str__(self) -> str:
        one = self.insight
        return " ".join(filter(None, ("insight", one.metric, one.product, one.granularity, one.dimension)))

    @property
    def endpoint(self) -> Endpoint:
        """What is asked."""
        if self.insight.dimension is None:
            return INSIGHT_USAGE if self.insight.usage else INSIGHT_QUALITY
        return INSIGHT_USAGE_TOTAL if self.insight.usage else INSIGHT_QUALITY_TOTAL

    def whole(self, span: Span) -> Span:
        """Return what must be asked for so that a span is whole: by a dimension, whole UTC days."""
        if self.insight.dimension is None:
            return span
        return Span(span.start // DAY * DAY, -(-span.end // DAY) * DAY)

    def first(self, moment: int) -> int:
        """Return the first moment from which on can be asked, not before another."""
        return moment if self.insight.dimension is None else -(-moment // DAY) * DAY

    def settled(self, now: int) -> int:
        """Return until when nothing is computed anew: the start of the day three days ago."""
        return (now // DAY - _PROVISIONAL_DAYS) * DAY

    def cut(self, span: Span, longest: int) -> tuple[Slice, ...]:
        """Return what one request after the other asks for: whole buckets, or one UTC day."""
        if self.insight.dimension is None:
            spans = span.overlapping(longest, _BUCKETS.get(self.insight.granularity, DAY))
            return tuple(map(Slice, spans, (*(one.start for one in spans[1:]), span.end)))
        marks = (*range(-(-span.start // DAY) * DAY, span.end, DAY), span.end)
        return _tiles(tuple(Span(*pair) for pair in pairwise(marks)))

    def about(self, groups: Groups, app: str, second: int) -> Question:
        """Return the smallest question about a second."""
        start, size = (second, _BUCKETS["1h"]) if self.insight.dimension is None else (second // DAY * DAY, DAY)
        return Question(start, partial(self.ask, groups, app, Slice(Span(start, start + size), start)))

    async def ask(self, groups: Groups, app: str, one: Slice) -> Batch:
        """Ask for a slice, and return its rows."""
        mine = self.insight
        alike = (mine.metric, mine.product, mine.granularity, mine.dimension)
        return column_batch.insights(app, alike, _own(await self._rows(groups, one.span), one))

    async def _rows(self, groups: Groups, span: Span) -> list[tuple[int, float | None, str | None, float | None]]:
        one, insights = self.insight, groups.insights
        if one.dimension is not None:
            totals: tuple[Total, ...] = (
                await insights.usage_total(one.metric, *span, dimension=one.dimension)
                if one.usage
                else await insights.quality_total(one.metric, *span, dimension=one.dimension, product=one.product)
            )
            return [(span.start, total.value, total.dimension_value, total.ref_usage) for total in totals]
        points: tuple[Point, ...] = (
            await insights.usage(one.metric, *span, granularity=one.granularity)
            if one.product is None
            else await insights.quality(one.metric, *span, product=one.product, granularity=one.granularity)
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
        """What is asked."""
        return REALTIME_USAGE if self.series.usage else REALTIME_QUALITY

    def whole(self, span: Span) -> Span:
        """Return what must be asked for so that a span is whole."""
        return span

    def first(self, moment: int) -> int:
        """Return the first moment from which on can be asked, not before another."""
        return -(-moment // WINDOW) * WINDOW

    def settled(self, now: int) -> int:
        """Return until when no window changes any more."""
        return (now - _LATE) // WINDOW * WINDOW

    def cut(self, span: Span, longest: int) -> tuple[Slice, ...]:
        """Return what one request after the other asks for; nothing where no whole window is in it."""
        start, end = -(-span.start // WINDOW) * WINDOW, span.end // WINDOW * WINDOW
        return _tiles(Span(start, end).slices(longest, WINDOW)) if start < end else ()

    def about(self, groups: Groups, app: str, second: int) -> Question:
        """Return the smallest question about a second."""
        start = second // WINDOW * WINDOW
        return Question(start, partial(self.ask, groups, app, Slice(Span(start, start + WINDOW), start)))

    async def ask(self, groups: Groups, app: str, one: Slice) -> Batch:
        """Ask for a slice, and return its rows."""
        mine = self.series
        alike = (mine.metric, mine.product, mine.cname, mine.dimension)
        return column_batch.realtime(app, alike, _own(await self._rows(groups, one.span), one))

    async def _rows(self, groups: Groups, span: Span) -> list[tuple[int, float | None, str | None, str | None]]:
        one, realtime = self.series, groups.realtime
        asked: dict[str, Any] = {
            "product": one.product,
            "cname": one.cname,
            "dimension": one.dimension,
            "dimension_values": one.dimension_values,
        }
        points: tuple[Point, ...] = (
            await realtime.usage(one.metric, *span, **asked)
            if one.usage
            else await realtime.quality(one.metric, *span, uids=one.uids, **asked)
        )
        uids = (None if point.uid is None else str(point.uid) for point in points)
        return [(point.ts, point.value, point.dimension_value, uid) for point, uid in zip(points, uids, strict=True)]


def _tiles(spans: tuple[Span, ...]) -> tuple[Slice, ...]:
    return tuple(Slice(span, span.end) for span in spans)


def _own(rows: Iterable[RowT], one: Slice) -> list[RowT]:
    """Return the rows that are a slice's own."""
    return [row for row in rows if one.span.start <= row[0] < one.keep]


Source = CallSource | InsightSource | RealtimeSource
SeriesSource = InsightSource | RealtimeSource


def sources(selection: Selection) -> tuple[Source, ...]:
    """Return where the rows of a selection come from, in the order in which they are asked for."""
    lists = [CallSource(cname) for cname in selection.channels or (None,)] if selection.of_calls else []
    return (
        *map(RealtimeSource, selection.series),
        *map(InsightSource, selection.insights),
        *lists,
    )
