"""Insights of a span, and calls found by channel and time: what a viewer can load beside the details of a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs

from agora_analytics._core.decoding.json import encode
from agora_analytics._core.validation import PAGE_SIZE
from agora_analytics.catalogue import Dimension, Product, QualityMetric, UsageMetric
from agora_analytics.client import AnalyticsClient, with_fixed_cost
from agora_analytics.models import Total
from agora_analytics.ops.web.board import CallBoard, CallEntry, listed
from agora_analytics.ops.web.details import points_data
from agora_analytics.ops.web.loads import Load
from agora_analytics.ops.web.parts import MAX_WAIT
from agora_analytics.ops.web.replies import RefusalError, choice_of, int_of, text_of
from agora_analytics.plans import (
    CALL_LISTS,
    INSIGHT_QUALITY,
    INSIGHT_QUALITY_TOTAL,
    INSIGHT_USAGE,
    INSIGHT_USAGE_TOTAL,
    Endpoint,
)
from agora_analytics.spans import DAY, HOUR, Span

_LAST: Final = 2**33
"""More than any number in a query can mean: the year 2242 in seconds."""

_MARGIN: Final = 120
"""Seconds between the oldest second that a viewer may choose and what expires: a viewer takes time to click."""

_WEEK: Final = 7 * DAY
_SEARCH: Final = 8 * HOUR

_KINDS: Final = {
    "usage": INSIGHT_USAGE,
    "quality": INSIGHT_QUALITY,
    "usage_total": INSIGHT_USAGE_TOTAL,
    "quality_total": INSIGHT_QUALITY_TOTAL,
}
_USAGE: Final = tuple(map(str, UsageMetric))
_QUALITY: Final = tuple(map(str, QualityMetric))
_BUCKETS: Final = {"1d": DAY, "1h": HOUR}
_PEAKS: Final = "peak"


@attrs.frozen(kw_only=True)
class TotalsData:
    """Values over a whole span, by the values of a dimension if one was given."""

    metric: str
    dimension: str | None
    totals: tuple[Total, ...]


@attrs.frozen(kw_only=True)
class FoundCalls:
    """One page of the calls of a span, newest first; `total` counts all pages."""

    page: int
    pages: int
    total: int
    calls: list[CallEntry]


class SpanLoads:
    """Makes the loads of spans; each request is sent once, so that the price is exact."""

    def __init__(self, client: AnalyticsClient, board: CallBoard, now: Callable[[], float]) -> None:
        once = with_fixed_cost(client, MAX_WAIT)
        self._calls = once.calls
        self._insights = once.insights
        self._plan = client.plan
        self._board = board
        self._now = now

    def insight(self, values: Mapping[str, Any]) -> Load:
        """Return a load of Data Insights; raises `RefusalError` for parameters that are not allowed."""
        kind = choice_of(values, "kind", tuple(_KINDS))
        endpoint, usage = _KINDS[kind], kind.startswith("usage")
        metric = choice_of(values, "metric", _USAGE if usage else _QUALITY)
        if not self._plan.offers(endpoint):
            return Load(
                params={"kind": kind, "metric": metric},
                title=metric,
                endpoint=endpoint,
                reason=f"the plan {self._plan.name} has no Data Insights",
            )
        span = self._span(endpoint, values, _WEEK, HOUR)
        make = self._insight_total if kind.endswith("_total") else self._insight_over_time
        return make(kind, metric, span, values)

    def search(self, values: Mapping[str, Any]) -> Load:
        """Return a load of one page of calls; raises `RefusalError` for parameters that are not allowed."""
        cname, page = text_of(values, "cname"), int_of(values, "page", 1, 1, _LAST) or 1
        span = self._span(CALL_LISTS, values, _SEARCH, 1)
        longest = self._plan.of_endpoint(CALL_LISTS).longest_query

        async def fetch() -> bytes:
            found = await self._calls.page(*span, cname=cname, page_no=page)
            entries = [listed(call, int(self._now())) for call in found.items]
            for entry in entries:
                # Its details can be opened then, which are found by the id alone.
                self._board.add_found(entry)
            total = len(entries) if found.total_size is None else found.total_size
            return encode(FoundCalls(page=page, pages=max(1, -(-total // PAGE_SIZE)), total=total, calls=entries))

        return Load(
            params={"cname": cname, "start": span.start, "end": span.end, "page": page},
            title="search" if page == 1 else f"search, page {page}",
            endpoint=CALL_LISTS,
            requests=1,
            fetch=fetch,
            lasts=60.0,
            reason=f"one request may span {longest} s at most" if span.duration > longest else "",
        )

    def _insight_over_time(self, kind: str, metric: str, span: Span, values: Mapping[str, Any]) -> Load:
        granularity = choice_of(values, "granularity", tuple(_BUCKETS))
        product = choice_of(values, "product", tuple(map(str, Product))) if kind == "quality" else None
        longest = self._plan.of_endpoint(_KINDS[kind]).longest_query

        async def fetch() -> bytes:
            if product is None:
                found = await self._insights.usage(metric, *span, granularity=granularity)
            else:
                found = await self._insights.quality(metric, *span, product=product, granularity=granularity)
            return encode(points_data(metric, found))

        params = {"kind": kind, "metric": metric, "product": product, "granularity": granularity}
        # As `insights` slices it, so that the price is the number of its requests.
        slices = span.overlapping(longest, _BUCKETS[granularity])
        return _load(params, span, _KINDS[kind], len(slices), fetch)

    def _insight_total(self, kind: str, metric: str, span: Span, values: Mapping[str, Any]) -> Load:
        given = text_of(values, "dimension")
        dimension = choice_of(values, "dimension", tuple(map(str, Dimension))) if given else None
        product = text_of(values, "product") if kind == "quality_total" else None
        if dimension is not None and metric.startswith(_PEAKS):
            raise RefusalError(400, "dimension", f"{metric} is known for the whole project only")

        async def fetch() -> bytes:
            if kind == "usage_total":
                found = await self._insights.usage_total(metric, *span, dimension=dimension)
            else:
                found = await self._insights.quality_total(metric, *span, dimension=dimension, product=product)
            return encode(TotalsData(metric=metric, dimension=dimension, totals=found))

        params = {"kind": kind, "metric": metric, "product": product, "dimension": dimension}
        return _load(params, span, _KINDS[kind], 1, fetch)

    def _span(self, endpoint: Endpoint, values: Mapping[str, Any], default: int, step: int) -> Span:
        """Return the span of a query, by default the newest; raises `RefusalError` if the plan does not keep it."""
        limits, now = self._plan.of_endpoint(endpoint), int(self._now())
        # The newest is rounded, so that viewers who ask within an hour share one result.
        oldest, newest = limits.oldest(now) + _MARGIN, limits.newest(now) // step * step
        end = int_of(values, "end", newest, 1, _LAST) or newest
        start = int_of(values, "start", max(end - default, oldest), 1, _LAST) or oldest
        if not oldest <= start < end <= limits.newest(now):
            raise RefusalError(400, "start", f"start={start}, end={end}: allowed is a span from {oldest} to {newest}")
        return Span(start, end)


def _load(
    params: Mapping[str, object], span: Span, endpoint: Endpoint, requests: int, fetch: Callable[[], Awaitable[bytes]]
) -> Load:
    return Load(
        params={**params, "start": span.start, "end": span.end},
        title=str(params["metric"]),
        endpoint=endpoint,
        requests=requests,
        fetch=fetch,
    )
