"""The vendor's tables of parameters, spelled out: a call for each value, and the request that it must send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from agora_analytics import AnalyticsClient, Filter

DIMENSIONS = ("country", "region", "net", "sdk", "os", "device")
FREEZES = ("audio_freeze_rate", "video_freeze_rate")
TIMELINES = ("user_count", *FREEZES, "audio_freeze_user_count", "video_freeze_user_count")
COUNTS = ("userCount", "sessionCount", "channelCount", "totalDuration", "totalVideoDuration", "totalAudioDuration")
PEAKS = ("peakCurrentChannels", "peakCurrentUsers")
QUALITIES = ("joinSuccessRate", "joinSuccessIn5sRate", "audioFreezeRate", "videoFreezeRate", "networkDelay")
PRODUCTS = ("Native", "WebRTC")

CALL = "/beta/analytics/call"
INSIGHT = "/beta/insight"
REALTIME = "/beta/realtime"

OFFERED_PATHS = {
    "starter": (),
    "standard": (CALL,),
    "premium": (CALL, INSIGHT, REALTIME),
    "enterprise": (CALL, INSIGHT, REALTIME),
}
"""The endpoints of each plan, by their paths."""


@attrs.frozen(kw_only=True)
class Target:
    """The App ID, call, channel and users that the requests are about."""

    now: int
    app_id: str
    call_id: str
    cname: str
    start: int
    sids: tuple[str, ...]
    uid: int
    countries: tuple[str, ...] = ("China", "India")


@attrs.frozen
class Case:
    """A call of the client, and the method, path, query and body that it must send."""

    invoke: Callable[[AnalyticsClient], Any]
    path: str
    query: dict[str, str]
    body: dict[str, Any] | None = None

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"

    @property
    def params(self) -> dict[str, Any]:
        return self.query if self.body is None else self.body


def all_cases(target: Target) -> Iterator[Case]:
    """Yield a case for every value of every parameter of all 14 endpoints."""
    for part in (_lists, _sessions, _statistics, _by_time, _usage_totals, _quality_totals, _usage, _quality, _tops):
        yield from part(target)


def _lists(target: Target) -> Iterator[Case]:
    start, end = target.now - 7_200, target.now - 600
    base = {"appid": target.app_id, "start_ts": f"{start}", "end_ts": f"{end}"}
    for arguments in ({}, {"cname": target.cname}, {"page_no": 2}, {"page_size": 7}, {"page_no": 3, "page_size": 2}):
        expected = {name: str(value) for name, value in arguments.items()}
        query = base | {"page_no": "1", "page_size": "100"} | expected
        yield Case(lambda c, arguments=arguments: c.calls.page(start, end, **arguments), f"{CALL}/lists", query)


def _call_span(target: Target) -> tuple[tuple[int, int], dict[str, str]]:
    start, end = target.start, target.start + 3_000
    return (start, end), {"appid": target.app_id, "call_id": target.call_id, "start_ts": f"{start}", "end_ts": f"{end}"}


def _sessions(target: Target) -> Iterator[Case]:
    span, base = _call_span(target)
    defaults = {"page_no": "1", "page_size": "100", "exclude_server_user": "true"}
    for arguments, expected in (
        ({}, {}),
        ({"exclude_server_user": True}, {}),
        ({"exclude_server_user": False}, {"exclude_server_user": "false"}),
        ({"uids": [target.uid, 7]}, {"uids": f"{target.uid},7"}),
        ({"page_no": 2, "page_size": 1}, {"page_no": "2", "page_size": "1"}),
    ):
        yield Case(
            lambda c, arguments=arguments: c.calls.sessions_page(target.call_id, *span, **arguments),
            f"{CALL}/sessions",
            base | defaults | expected,
        )
    for sids in (target.sids, target.sids[:1]):
        yield Case(
            lambda c, sids=sids: c.calls.metrics(target.call_id, sids, *span),
            f"{CALL}/metrics",
            base | {"sids": ",".join(sids)},
        )


def _statistics(target: Target) -> Iterator[Case]:
    span, base = _call_span(target)
    for metric in FREEZES:
        for dimension in DIMENSIONS:
            yield Case(
                lambda c, metric=metric, dimension=dimension: c.calls.statistics(
                    target.call_id, metric, dimension, *span
                ),
                f"{CALL}/statistics",
                base | {"metric": metric, "dimension": dimension},
            )
        yield Case(
            lambda c, metric=metric: c.calls.freeze_buckets(target.call_id, metric, *span),
            f"{CALL}/freeze/bucket",
            base | {"metric": metric},
        )
    for metric in TIMELINES:
        yield Case(
            lambda c, metric=metric: c.calls.timeline(target.call_id, metric, *span),
            f"{CALL}/statistics/time",
            base | {"metric": metric},
        )


def _day_span(target: Target) -> tuple[int, int]:
    return target.now - 3 * 86_400, target.now - 86_400


def _by_time(target: Target) -> Iterator[Case]:
    start, end = _day_span(target)
    base = {"appid": target.app_id, "startTs": f"{start}", "endTs": f"{end}"}
    for metric in (*COUNTS, *PEAKS):
        for granularity in ("1d", "1h"):
            yield Case(
                lambda c, metric=metric, granularity=granularity: c.insights.usage(
                    metric, start, end, granularity=granularity
                ),
                f"{INSIGHT}/usage/by_time",
                base | {"metric": metric, "aggregateGranularity": granularity},
            )
    for metric in QUALITIES:
        for product in PRODUCTS:
            for granularity in ("1d", "1h", "1m"):
                yield Case(
                    lambda c, metric=metric, product=product, granularity=granularity: c.insights.quality(
                        metric, start, end, product=product, granularity=granularity
                    ),
                    f"{INSIGHT}/quality/by_time",
                    base | {"metric": metric, "productType": product, "aggregateGranularity": granularity},
                )


def _total_filters(target: Target) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield arguments about dimensions, and the members of a body that they become."""
    yield {}, {}
    for dimension in DIMENSIONS:
        yield {"dimension": dimension}, {"dimension": dimension}
    values = list(target.countries)
    yield (
        {"dimension": "country", "dimension_values": values},
        {"dimension": "country", "dimensionValues": values},
    )
    yield (
        {"dimension": "region", "filters": [Filter("country", "China")]},
        {"dimension": "region", "filters": [{"name": "country", "value": "China"}]},
    )


def _usage_totals(target: Target) -> Iterator[Case]:
    span, path = _day_span(target), f"{INSIGHT}/usage/aggregation"
    base = {"startTs": span[0], "endTs": span[1]}
    for metric in (*COUNTS, *PEAKS):
        for arguments, expected in _total_filters(target):
            if not arguments or metric in COUNTS:  # the reference: peaks are for the whole App ID only
                yield Case(
                    lambda c, metric=metric, arguments=arguments: c.insights.usage_total(metric, *span, **arguments),
                    path,
                    {"appid": target.app_id},
                    {**base, "metric": metric, **expected},
                )


def _quality_totals(target: Target) -> Iterator[Case]:
    span, path = _day_span(target), f"{INSIGHT}/quality/aggregation"
    base = {"startTs": span[0], "endTs": span[1]}
    sizes = {"dimension": "channelSize"}
    products = [({"product": product}, {"productType": product}) for product in PRODUCTS]
    for metric in QUALITIES:
        for arguments, expected in (*_total_filters(target), (sizes, sizes), *products):
            yield Case(
                lambda c, metric=metric, arguments=arguments: c.insights.quality_total(metric, *span, **arguments),
                path,
                {"appid": target.app_id},
                {**base, "metric": metric, **expected},
            )


def _window_filters(target: Target) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Yield arguments about channels and dimensions of windows, and the parameters of a query that they become."""
    yield {}, {}
    yield {"cname": target.cname}, {"cname": target.cname}
    for dimension in DIMENSIONS:
        yield {"dimension": dimension}, {"dimension": dimension}
    yield (
        {"dimension": "country", "dimension_values": target.countries},
        {"dimension": "country", "dimensionValues": ",".join(f'"{one}"' for one in target.countries)},
    )


def _window_span(target: Target) -> tuple[tuple[int, int], dict[str, str]]:
    span = target.now - 1_205, target.now - 203
    return span, {"appid": target.app_id, "startTs": f"{span[0]}", "endTs": f"{span[1]}"}


def _usage(target: Target) -> Iterator[Case]:
    span, base = _window_span(target)
    for product in PRODUCTS:
        for metric in ("userCount", "channelCount"):
            for arguments, expected in _window_filters(target):
                if (
                    metric == "userCount" or "dimension" not in arguments
                ):  # the reference: dimensions are for userCount only
                    yield Case(
                        lambda c, metric=metric, product=product, arguments=arguments: c.realtime.usage(
                            metric, *span, product=product, **arguments
                        ),
                        f"{REALTIME}/usage/by_time_20sec",
                        base | {"productType": product, "metric": metric} | expected,
                    )


def _quality(target: Target) -> Iterator[Case]:
    span, base = _window_span(target)
    users = (
        {"cname": target.cname, "uids": [target.uid, 4294967295]},
        {"cname": target.cname, "uids": f"{target.uid},4294967295"},
    )
    for product in PRODUCTS:
        for metric in QUALITIES:
            for arguments, expected in (*_window_filters(target), users):
                yield Case(
                    lambda c, metric=metric, product=product, arguments=arguments: c.realtime.quality(
                        metric, *span, product=product, **arguments
                    ),
                    f"{REALTIME}/quality/by_time_20sec",
                    base | {"productType": product, "metric": metric} | expected,
                )


def _tops(target: Target) -> Iterator[Case]:
    ts = target.now - 203
    for product in PRODUCTS:
        for dimension in DIMENSIONS:
            base = {"appid": target.app_id, "ts": f"{ts}", "productType": product, "dimension": dimension}
            yield Case(
                lambda c, product=product, dimension=dimension: c.realtime.usage_top(dimension, ts, product=product),
                f"{REALTIME}/usage/dimension/top20",
                base | {"metric": "userCount"},
            )
            for metric in QUALITIES:
                for extra in (None, "userCount"):
                    yield Case(
                        lambda c, metric=metric, product=product, dimension=dimension, extra=extra: (
                            c.realtime.quality_top(metric, dimension, ts, product=product, extra_metrics=extra)
                        ),
                        f"{REALTIME}/quality/dimension/top20",
                        base | {"metric": metric} | ({"extraMetrics": extra} if extra else {}),
                    )
