"""Data Insights: usage and quality of the whole project by hour, day or dimension.

Spans are half-open, in UTC seconds or aware datetimes; durations are minutes, rates fractions. The last two or three
days are provisional: the service recomputes them. All methods raise `ValueError` or `TypeError` before anything is sent
if the plan or the API does not allow the arguments, and the errors of `agora_analytics.errors` afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable
from typing import Any

import attrs

from agora_analytics._core import merge, validation
from agora_analytics._core.decoding.codec import points_decoder, totals_decoder
from agora_analytics._core.wire import Param
from agora_analytics.catalogue import Dimension, UsageMetric
from agora_analytics.endpoints.base import EndpointGroup, SpanTracker
from agora_analytics.models import Found, Point, Rows, Total
from agora_analytics.plans import (
    INSIGHT_QUALITY,
    INSIGHT_QUALITY_TOTAL,
    INSIGHT_USAGE,
    INSIGHT_USAGE_TOTAL,
    Endpoint,
)
from agora_analytics.spans import Instant, Span

__all__ = ["Filter", "Insights"]

_PEAKS = frozenset(metric for metric in UsageMetric if metric.startswith("peak"))
_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}


@attrs.frozen
class Filter:
    """A filter of totals by region: the reference knows `name="country"`, with one country as `value`."""

    name: str
    value: str

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(self, name=validation.non_empty_str, value=validation.non_empty_str)


class Insights(EndpointGroup):
    """`client.insights`: the four endpoints of Data Insights."""

    _latest = INSIGHT_USAGE

    async def usage(self, metric: str, start: Instant, end: Instant, *, granularity: str = "1d") -> Found[Point]:
        """Return a usage metric by hour or day, in order of time, in as many requests as the plan's days need.

        ```python
        week = client.insights.recent(timedelta(days=7))
        for point in await client.insights.usage("userCount", *week):
            print(point.started_at, point.value)
        ```

        `metric` is one of `UsageMetric`, `granularity` of `Granularity`; other texts are passed on. The service
        decides whether the bucket of `end` is included. `GET /beta/insight/usage/by_time`.
        """
        span, tracker, longest = self._open(INSIGHT_USAGE, start, end, whole=False)
        return await self._by_time(INSIGHT_USAGE, span, metric, _by(granularity), tracker=tracker, longest=longest)

    async def quality(
        self, metric: str, start: Instant, end: Instant, *, product: str, granularity: str = "1d"
    ) -> Found[Point]:
        """Return a quality metric of a product by minute, hour or day, in order of time.

        ```python
        day = client.insights.recent(timedelta(days=1))
        points = await client.insights.quality("videoFreezeRate", *day, product="Native", granularity="1h")
        print(max(point.value or 0.0 for point in points))
        ```

        `metric` is one of `QualityMetric`, `product` of `Product`, `granularity` of `Granularity` (the minute's literal
        is unverified); other texts are passed on. `GET /beta/insight/quality/by_time`.
        """
        span, tracker, longest = self._open(INSIGHT_QUALITY, start, end, whole=False)
        params = _by(granularity) | {"productType": validation.non_empty_str("product", product)}
        return await self._by_time(INSIGHT_QUALITY, span, metric, params, tracker=tracker, longest=longest)

    async def usage_total(
        self,
        metric: str,
        start: Instant,
        end: Instant,
        *,
        dimension: str | None = None,
        dimension_values: Iterable[str] = (),
        filters: Iterable[Filter] = (),
    ) -> Found[Total]:
        """Return a usage metric over a whole span, in total or by a dimension's top values, in one request.

        ```python
        day = client.insights.recent(timedelta(days=1))
        for total in await client.insights.usage_total("userCount", *day, dimension="country"):
            print(total.dimension_value, total.value)
        ```

        Without `dimension_values` a dimension answers with its top 20 (device: 50), in the service's order. `filters`
        need the dimension `region`; peak metrics take no dimension. `POST /beta/insight/usage/aggregation`.
        """
        metric = validation.non_empty_str("metric", metric)
        # The service would answer for the whole App ID, as if no dimension had been given.
        if dimension is not None and metric in _PEAKS:
            raise ValueError(f"metric={metric!r} is known for the whole project only: no dimension is allowed")
        span, tracker, _ = self._open(INSIGHT_USAGE_TOTAL, start, end)
        body = _body(span, metric, dimension, dimension_values, filters)
        return await self._total(INSIGHT_USAGE_TOTAL, body, span, tracker)

    async def quality_total(
        self,
        metric: str,
        start: Instant,
        end: Instant,
        *,
        dimension: str | None = None,
        dimension_values: Iterable[str] = (),
        filters: Iterable[Filter] = (),
        product: str | None = None,
    ) -> Found[Total]:
        """Return a quality metric over a whole span, in total or by a dimension's top values, in one request.

        ```python
        day = client.insights.recent(timedelta(days=1))
        for total in await client.insights.quality_total("networkDelay", *day, dimension="os"):
            print(total.dimension_value, total.value, total.ref_usage)
        ```

        As `usage_total`; `ref_usage` of each total is the usage that it is based on. The dimension `channelSize` has
        steps of its own and takes no values; `product` is sent when given. `POST /beta/insight/quality/aggregation`.
        """
        span, tracker, _ = self._open(INSIGHT_QUALITY_TOTAL, start, end)
        body = _body(span, metric, dimension, dimension_values, filters)
        if body["dimensionValues"] and body["dimension"] == Dimension.CHANNEL_SIZE:
            raise ValueError("dimension_values: dimension 'channelSize' takes none, its steps are preset")
        body |= {"productType": validation.optional_str("product", product)}
        return await self._total(INSIGHT_QUALITY_TOTAL, body, span, tracker)

    async def _by_time(
        self,
        endpoint: Endpoint,
        span: Span,
        metric: str,
        params: dict[str, str],
        *,
        tracker: SpanTracker,
        longest: int,
    ) -> Found[Point]:
        """Fetch slice by slice; each bucket is whole in one slice, whatever hour the service's days start at."""
        metric = validation.non_empty_str("metric", metric)
        decode = points_decoder(metric)
        bucket = _bucket(params["aggregateGranularity"])

        def fetch(part: Span) -> Coroutine[Any, Any, Rows[Point]]:
            times: dict[str, Param] = {"startTs": part.start, "endTs": part.end, "metric": metric}
            return self._fetch(endpoint, decode, times | params)

        # Alone, because its answer may show that the host's clock was wrong.
        first = span.overlapping(longest, bucket)[0]
        parts = [(await tracker.fetch(lambda: fetch(tracker.clip(first)), first, Rows[Point](data=()))).items]
        # The first answer may have shifted the span: the other slices follow it.
        for part in tracker.moved(span).overlapping(longest, bucket)[1:]:
            answer = tracker.record(await fetch(part))
            # A bucket that began before the slice may come with its rest only; the slice before has it whole.
            parts.append(tuple(point for point in answer.items if point.ts >= part.start))
        return tracker.found(merge.merge_points(parts))

    async def _total(self, endpoint: Endpoint, body: dict[str, Any], span: Span, tracker: SpanTracker) -> Found[Total]:
        decode = totals_decoder(body["metric"], body["dimension"])

        def fetch() -> Coroutine[Any, Any, Rows[Total]]:
            clipped = tracker.clip(span)
            return self._fetch(endpoint, decode, {}, body | {"startTs": clipped.start, "endTs": clipped.end})

        return tracker.found((await tracker.fetch(fetch, span, Rows[Total](data=()))).items)


def _by(granularity: str) -> dict[str, str]:
    return {"aggregateGranularity": validation.granularity("granularity", granularity)}


def _body(
    span: Span, metric: str, dimension: str | None, dimension_values: Iterable[str], filters: Iterable[Filter]
) -> dict[str, Any]:
    """Return the body of a request for totals, without what only quality has."""
    dimension = validation.optional_str("dimension", dimension)
    chosen = validation.instances("filters", filters, Filter)
    # The reference has filters for regions only: elsewhere the service might ignore them without a word.
    if chosen and dimension != Dimension.REGION:
        raise ValueError(f"filters={chosen!r} go with dimension='region' only, not {dimension!r}")
    return {
        "startTs": span.start,
        "endTs": span.end,
        "metric": validation.non_empty_str("metric", metric),
        "dimension": dimension,
        "dimensionValues": validation.dimension_values(dimension, dimension_values) or None,
        "filters": [attrs.asdict(one) for one in chosen] or None,
    }


def _bucket(granularity: str) -> int:
    """Return the seconds of a granularity like `1h`; a day, the longest, if it cannot be parsed."""
    found = re.fullmatch(r"([0-9]{1,9})([mhd])", granularity)
    # A day where it is unknown, so that slices overlap too much rather than too little.
    return int(found[1]) * _SECONDS[found[2]] if found else _SECONDS["d"]
