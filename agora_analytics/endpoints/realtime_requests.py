"""The requests behind `client.realtime`: what is asked, and the spans that one request each is about."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

import attrs

from agora_analytics._core import merge, validation
from agora_analytics._core.decoding.codec import Decode, points_decoder, ranked_decoder, user_points_decoder
from agora_analytics._core.wire import Param, joined, quoted
from agora_analytics.catalogue import RealtimeUsageMetric
from agora_analytics.endpoints.base import EndpointGroup
from agora_analytics.endpoints.retention import Kept
from agora_analytics.models import Found, Point, Ranked, Rows, Uid
from agora_analytics.plans import REALTIME_QUALITY, REALTIME_USAGE, Endpoint
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


class RealtimeRequests(EndpointGroup):
    """Makes the requests of Real-time Monitoring."""

    _latest = REALTIME_USAGE

    def _windows(self, endpoint: Endpoint, start: Instant, end: Instant) -> Span:
        span = self._span(endpoint, start, end, whole=False)
        if span.windows() is None:
            raise ValueError(f"start={span.start} and end={span.end} lie in the same {WINDOW}-second window")
        return span

    def _usage(
        self, metric: str, product: str, cname: str | None, dimension: str | None, dimension_values: Iterable[str]
    ) -> Question:
        metric, dimension = validation.text("metric", metric), validation.optional("dimension", dimension)
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
        users = validation.at_most("uids", validation.uids(uids), validation.UIDS)
        if users and (cname is None or dimension is not None):
            raise ValueError(f"uids={users!r} need a cname, and exclude a dimension")
        metric, dimension = validation.text("metric", metric), validation.optional("dimension", dimension)
        decode = user_points_decoder(metric) if users else points_decoder(metric, dimension)
        params = _params(metric, product, cname, dimension, dimension_values) | {"uids": joined(users)}
        return Question(REALTIME_QUALITY, decode, params)

    async def _by_time(self, question: Question, start: Instant, end: Instant) -> Found[Point]:
        span, kept = self._windows(question.endpoint, start, end), self._meant(question.endpoint, start, end)
        parts = []
        for part in span.slices(self._longest(question.endpoint), WINDOW):
            answer = await kept.ask(partial(self._read, question, kept, part), part, Rows[Point](data=()))
            parts.append(answer.items)
        return kept.found(merge.points(parts))

    def _read(self, question: Question, kept: Kept, part: Span) -> Coroutine[Any, Any, Rows[Point]]:
        return self._fetch(question.endpoint, question.decode, question.over(kept.left(part)))

    async def _top(
        self, endpoint: Endpoint, at: Instant, metric: str, dimension: str, more: Mapping[str, str | None]
    ) -> Found[Ranked]:
        ts = seconds(at, "at")
        by_host = isinstance(at, HostSecond)
        end = HostSecond(ts + WINDOW) if by_host else ts + WINDOW
        span, kept = self._span(endpoint, at, end), self._meant(endpoint, at, end)
        metric, dimension = validation.text("metric", metric), validation.text("dimension", dimension)
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
    values = validation.dimension_values(dimension, dimension_values)
    return {
        "metric": metric,
        "productType": validation.text("product", product),
        "cname": validation.optional("cname", cname),
        "dimension": dimension,
        "dimensionValues": quoted(validation.quotable("dimension_values", values)),
    }
