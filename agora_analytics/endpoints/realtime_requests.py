"""The requests behind `client.realtime`."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

import attrs

from agora_analytics._core import merge, validation
from agora_analytics._core.decoding.codec import Decode, points_decoder, ranked_decoder, user_points_decoder
from agora_analytics._core.wire import Param, comma_separated, quoted_list
from agora_analytics.catalogue import RealtimeUsageMetric
from agora_analytics.endpoints.base import EndpointGroup, SpanTracker
from agora_analytics.models import Found, Point, Ranked, Rows, Uid
from agora_analytics.plans import REALTIME_QUALITY, REALTIME_USAGE, Endpoint
from agora_analytics.spans import WINDOW, HostSecond, Instant, Span, seconds


@attrs.frozen
class RequestTemplate:
    """A request to one of the two endpoints by time, without its span."""

    endpoint: Endpoint
    decode: Decode[Rows[Point]]
    params: Mapping[str, Param]

    def over(self, span: Span) -> Mapping[str, Param]:
        """Return the parameters for a span."""
        return {"startTs": span.start, "endTs": span.end, **self.params}


class RealtimeRequests(EndpointGroup):
    """Builds and sends the requests of Real-time Monitoring."""

    _latest = REALTIME_USAGE

    def _usage(
        self, metric: str, product: str, cname: str | None, dimension: str | None, dimension_values: Iterable[str]
    ) -> RequestTemplate:
        metric, dimension = validation.non_empty_str("metric", metric), validation.optional_str("dimension", dimension)
        # A dimension takes effect with `userCount` alone: the answer would not be what was requested.
        if dimension is not None and metric == RealtimeUsageMetric.CHANNEL_COUNT:
            raise ValueError(f"dimension={dimension!r} works with metric='userCount' only, not {metric!r}")
        decode = points_decoder(metric, dimension)
        return RequestTemplate(REALTIME_USAGE, decode, _params(metric, product, cname, dimension, dimension_values))

    def _quality(
        self,
        metric: str,
        product: str,
        cname: str | None,
        dimension: str | None,
        dimension_values: Iterable[str],
        *,
        uids: Iterable[Uid],
    ) -> RequestTemplate:
        users = validation.max_length("uids", validation.uids(uids), validation.UIDS)
        # Without a channel the service silently ignores users, so the answer would be about everyone.
        if users and (cname is None or dimension is not None):
            raise ValueError(f"uids={users!r} need a cname, and exclude a dimension")
        metric, dimension = validation.non_empty_str("metric", metric), validation.optional_str("dimension", dimension)
        decode = user_points_decoder(metric) if users else points_decoder(metric, dimension)
        params = _params(metric, product, cname, dimension, dimension_values) | {"uids": comma_separated(users)}
        return RequestTemplate(REALTIME_QUALITY, decode, params)

    async def _by_time(self, template: RequestTemplate, start: Instant, end: Instant) -> Found[Point]:
        span, tracker, longest = self._open(template.endpoint, start, end, whole=False)
        if span.windows() is None:
            raise ValueError(f"start={span.start} and end={span.end} lie in the same {WINDOW}-second window")
        parts = []
        # Cut at the marks of windows: the window of a start is in its answer, that of an end is not.
        for part in span.slices(longest, WINDOW):
            answer = await tracker.fetch(partial(self._read, template, tracker, part), part, Rows[Point](data=()))
            parts.append(answer.items)
        return tracker.found(merge.merge_points(parts))

    def _read(self, template: RequestTemplate, tracker: SpanTracker, part: Span) -> Coroutine[Any, Any, Rows[Point]]:
        return self._fetch(template.endpoint, template.decode, template.over(tracker.clip(part)))

    async def _top(
        self, endpoint: Endpoint, at: Instant, metric: str, dimension: str, more: Mapping[str, str | None]
    ) -> Found[Ranked]:
        ts = seconds(at, "at")
        by_host = isinstance(at, HostSecond)
        end = HostSecond(ts + WINDOW) if by_host else ts + WINDOW
        span, tracker, _ = self._open(endpoint, at, end)
        metric, dimension = validation.non_empty_str("metric", metric), validation.non_empty_str("dimension", dimension)
        params: dict[str, Param] = {"metric": metric, "dimension": dimension, **more}
        decode = ranked_decoder(metric, dimension)

        def fetch() -> Coroutine[Any, Any, Rows[Ranked]]:
            start = tracker.clip(span).start
            # A shifted time lies on no window's mark any more; a caller's own is sent as it was given.
            window = start // WINDOW * WINDOW if by_host else start
            return self._fetch(endpoint, decode, {"ts": window} | params)

        return tracker.found((await tracker.fetch(fetch, span, Rows[Ranked](data=()))).items)


def _params(
    metric: str, product: str, cname: str | None, dimension: str | None, dimension_values: Iterable[str]
) -> dict[str, Param]:
    values = validation.dimension_values(dimension, dimension_values)
    return {
        "metric": metric,
        "productType": validation.non_empty_str("product", product),
        "cname": validation.optional_str("cname", cname),
        "dimension": dimension,
        "dimensionValues": quoted_list(validation.without_quotes("dimension_values", values)),
    }
