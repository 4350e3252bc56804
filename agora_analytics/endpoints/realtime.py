"""Real-time Monitoring: the last minutes in 20-second windows, and who leads each window.

One request may span all that the plan keeps (40 or 60 minutes) and costs the same as one window. Times are UTC seconds
or aware datetimes; a window begins on a multiple of 20 s; the window of `start` is in, the window of `end` is out. All
raise `ValueError` or `TypeError` for what the plan or the reference does not allow before anything is sent, and the
errors of `agora_analytics.errors` for what goes wrong afterwards.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

import attrs

from agora_analytics import _checks, _merge
from agora_analytics._codec import Decode, points_decoder, ranked_decoder, user_points_decoder
from agora_analytics._wire import Param, joined, quoted
from agora_analytics.catalogue import RealtimeUsageMetric
from agora_analytics.endpoints._group import EndpointGroup
from agora_analytics.endpoints._kept import Kept
from agora_analytics.models import Found, Point, Ranked, Rows, Uid
from agora_analytics.plans import (
    REALTIME_QUALITY,
    REALTIME_QUALITY_TOP,
    REALTIME_USAGE,
    REALTIME_USAGE_TOP,
    Endpoint,
)
from agora_analytics.spans import WINDOW, HostSecond, Instant, Span, seconds


@attrs.frozen
class Question:
    """What is asked of one of the two endpoints by time, whatever the span."""

    endpoint: Endpoint
    decode: Decode[Rows[Point]]
    params: Mapping[str, Param]

    def over(self, span: Span) -> Mapping[str, Param]:
        """Return the parameters for a span."""
        return {"startTs": span.start, "endTs": span.end, **self.params}


class Realtime(EndpointGroup):
    """`client.realtime`: the four endpoints of Real-time Monitoring."""

    _latest = REALTIME_USAGE

    async def usage(
        self,
        metric: str,
        start: Instant,
        end: Instant,
        *,
        product: str,
        cname: str | None = None,
        dimension: str | None = None,
        dimension_values: Iterable[str] = (),
    ) -> Found[Point]:
        """Return users or channels in use, window by window, in order of time.

        `metric` is one of `RealtimeUsageMetric`; a dimension works with `userCount` only. Without `cname` the whole
        project is counted. A window may be missing. `GET /beta/realtime/usage/by_time_20sec`.
        """
        question = self._usage(metric, product, cname, dimension, dimension_values)
        return await self._by_time(question, start, end)

    async def quality(
        self,
        metric: str,
        start: Instant,
        end: Instant,
        *,
        product: str,
        cname: str | None = None,
        uids: Iterable[Uid] = (),
        dimension: str | None = None,
        dimension_values: Iterable[str] = (),
    ) -> Found[Point]:
        """Return a quality metric, window by window, in order of time.

        `metric` is one of `QualityMetric`. At most 10 `uids`, which need a `cname` and exclude a dimension; their
        points tell them apart by `uid`. A window may be missing. `GET /beta/realtime/quality/by_time_20sec`.
        """
        question = self._quality(metric, product, cname, dimension, dimension_values, uids=uids)
        return await self._by_time(question, start, end)

    async def usage_top(
        self, dimension: str, at: Instant, *, product: str, metric: str = RealtimeUsageMetric.USER_COUNT
    ) -> Found[Ranked]:
        """Return the 20 values of a dimension (device: 50) with the most users in the 20 seconds from `at`.

        In the service's order. `GET /beta/realtime/usage/dimension/top20`.
        """
        params = {"productType": _checks.text("product", product)}
        return await self._top(REALTIME_USAGE_TOP, at, metric, dimension, params)

    async def quality_top(
        self, metric: str, dimension: str, at: Instant, *, product: str, extra_metrics: str | None = None
    ) -> Found[Ranked]:
        """Return the top values of a dimension by a quality metric in the 20 seconds from `at`.

        `extra_metrics="userCount"` adds the users each value rests on. In the service's order.
        `GET /beta/realtime/quality/dimension/top20`.
        """
        params = {
            "productType": _checks.text("product", product),
            "extraMetrics": _checks.optional("extra_metrics", extra_metrics),
        }
        return await self._top(REALTIME_QUALITY_TOP, at, metric, dimension, params)

    def _windows(self, endpoint: Endpoint, start: Instant, end: Instant) -> Span:
        span = self._span(endpoint, start, end, whole=False)
        if span.windows() is None:
            raise ValueError(f"start={span.start} and end={span.end} lie in the same {WINDOW}-second window")
        return span

    def _usage(
        self, metric: str, product: str, cname: str | None, dimension: str | None, dimension_values: Iterable[str]
    ) -> Question:
        metric, dimension = _checks.text("metric", metric), _checks.optional("dimension", dimension)
        if dimension is not None and metric == RealtimeUsageMetric.CHANNEL_COUNT:
            raise ValueError(f"dimension={dimension!r} works with metric='userCount' only, not {metric!r}")
        decode = points_decoder(metric, dimension)
        return Question(REALTIME_USAGE, decode, _params(metric, product, cname, dimension, dimension_values))

    def _quality(
        self,
        metric: str,
        product: str,
        cname: str | None,
        dimension: str | None,
        dimension_values: Iterable[str],
        *,
        uids: Iterable[Uid],
    ) -> Question:
        users = _checks.at_most("uids", _checks.uids(uids), _checks.UIDS)
        if users and (cname is None or dimension is not None):
            raise ValueError(f"uids={users!r} need a cname, and exclude a dimension")
        metric, dimension = _checks.text("metric", metric), _checks.optional("dimension", dimension)
        decode = user_points_decoder(metric) if users else points_decoder(metric, dimension)
        params = _params(metric, product, cname, dimension, dimension_values) | {"uids": joined(users)}
        return Question(REALTIME_QUALITY, decode, params)

    async def _by_time(self, question: Question, start: Instant, end: Instant) -> Found[Point]:
        span, kept = self._windows(question.endpoint, start, end), self._meant(question.endpoint, start, end)
        parts = []
        for part in span.slices(self._longest(question.endpoint), WINDOW):
            answer = await kept.ask(partial(self._read, question, kept, part), part, Rows[Point](data=()))
            parts.append(answer.items)
        return kept.found(_merge.points(parts))

    def _read(self, question: Question, kept: Kept, part: Span) -> Coroutine[Any, Any, Rows[Point]]:
        return self._fetch(question.endpoint, question.decode, question.over(kept.left(part)))

    async def _top(
        self, endpoint: Endpoint, at: Instant, metric: str, dimension: str, more: Mapping[str, str | None]
    ) -> Found[Ranked]:
        ts = seconds(at, "at")
        by_host = isinstance(at, HostSecond)
        end = HostSecond(ts + WINDOW) if by_host else ts + WINDOW
        span, kept = self._span(endpoint, at, end), self._meant(endpoint, at, end)
        metric, dimension = _checks.text("metric", metric), _checks.text("dimension", dimension)
        params: dict[str, Param] = {"metric": metric, "dimension": dimension, **more}
        decode = ranked_decoder(metric, dimension)

        def fetch() -> Coroutine[Any, Any, Rows[Ranked]]:
            start = kept.left(span).start
            window = start // WINDOW * WINDOW if by_host else start
            return self._fetch(endpoint, decode, {"ts": window} | params)

        return kept.found((await kept.ask(fetch, span, Rows[Ranked](data=()))).items)


def _params(
    metric: str, product: str, cname: str | None, dimension: str | None, dimension_values: Iterable[str]
) -> dict[str, Param]:
    values = _checks.dimension_values(dimension, dimension_values)
    return {
        "metric": metric,
        "productType": _checks.text("product", product),
        "cname": _checks.optional("cname", cname),
        "dimension": dimension,
        "dimensionValues": quoted(_checks.quotable("dimension_values", values)),
    }
