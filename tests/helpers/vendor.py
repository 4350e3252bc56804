"""The vendor's tables of parameters, spelled out: what asks for each value, and what must be sent."""

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

OFFERED = {
    "starter": (),
    "standard": (CALL,),
    "premium": (CALL, INSIGHT, REALTIME),
    "enterprise": (CALL, INSIGHT, REALTIME),
}
"""Which part of the reference each plan has."""


@attrs.frozen(kw_only=True)
class Place:
    """What there is to ask about."""

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
    """A question: what asks it, and the method, path, query and body that must be sent."""

    ask: Callable[[AnalyticsClient], Any]
    path: str
    query: dict[str, str]
    body: dict[str, Any] | None = None

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"

    @property
    def asked(self) -> dict[str, Any]:
        return self.query if self.body is None else self.body


def every(place: Place) -> Iterator[Case]:
    """Yield every value of every parameter of all 14 endpoints."""
    for part in (_lists, _sessions, _statistics, _by_time, _usage_totals, _quality_totals, _usage, _quality, _tops):
        yield from part(place)


def _lists(at: Place) -> Iterator[Case]:
    start, end = at.now - 7_200, at.now - 600
    frame = {"appid": at.app_id, "start_ts": f"{start}", "end_ts": f"{end}"}
    for given in ({}, {"cname": at.cname}, {"page_no": 2}, {"page_size": 7}, {"page_no": 3, "page_size": 2}):
        told = {name: str(value) for name, value in given.items()}
        query = frame | {"page_no": "1", "page_size": "100"} | told
        yield Case(lambda c, given=given: c.calls.page(start, end, **given), f"{CALL}/lists", query)


def _about(at: Place) -> tuple[tuple[int, int], dict[str, str]]:
    start, end = at.start, at.start + 3_000
    return (start, end), {"appid": at.app_id, "call_id": at.call_id, "start_ts": f"{start}", "end_ts": f"{end}"}


def _sessions(at: Place) -> Iterator[Case]:
    span, about = _about(at)
    usual = {"page_no": "1", "page_size": "100", "exclude_server_user": "true"}
    for given, told in (
        ({}, {}),
        ({"exclude_server_user": True}, {}),
        ({"exclude_server_user": False}, {"exclude_server_user": "false"}),
        ({"uids": [at.uid, 7]}, {"uids": f"{at.uid},7"}),
        ({"page_no": 2, "page_size": 1}, {"page_no": "2", "page_size": "1"}),
    ):
        yield Case(
            lambda c, given=given: c.calls.sessions_page(at.call_id, *span, **given),
            f"{CALL}/sessions",
            about | usual | told,
        )
    for sids in (at.sids, at.sids[:1]):
        yield Case(
            lambda c, sids=sids: c.calls.metrics(at.call_id, sids, *span),
            f"{CALL}/metrics",
            about | {"sids": ",".join(sids)},
        )


def _statistics(at: Place) -> Iterator[Case]:
    span, about = _about(at)
    for metric in FREEZES:
        for dimension in DIMENSIONS:
            yield Case(
                lambda c, metric=metric, dimension=dimension: c.calls.statistics(at.call_id, metric, dimension, *span),
                f"{CALL}/statistics",
                about | {"metric": metric, "dimension": dimension},
            )
        yield Case(
            lambda c, metric=metric: c.calls.freeze_buckets(at.call_id, metric, *span),
            f"{CALL}/freeze/bucket",
            about | {"metric": metric},
        )
    for metric in TIMELINES:
        yield Case(
            lambda c, metric=metric: c.calls.timeline(at.call_id, metric, *span),
            f"{CALL}/statistics/time",
            about | {"metric": metric},
        )


def _days(at: Place) -> tuple[int, int]:
    return at.now - 3 * 86_400, at.now - 86_400


def _by_time(at: Place) -> Iterator[Case]:
    start, end = _days(at)
    frame = {"appid": at.app_id, "startTs": f"{start}", "endTs": f"{end}"}
    for metric in (*COUNTS, *PEAKS):
        for grain in ("1d", "1h"):
            yield Case(
                lambda c, metric=metric, grain=grain: c.insights.usage(metric, start, end, granularity=grain),
                f"{INSIGHT}/usage/by_time",
                frame | {"metric": metric, "aggregateGranularity": grain},
            )
    for metric in QUALITIES:
        for product in PRODUCTS:
            for grain in ("1d", "1h", "1m"):
                yield Case(
                    lambda c, metric=metric, product=product, grain=grain: c.insights.quality(
                        metric, start, end, product=product, granularity=grain
                    ),
                    f"{INSIGHT}/quality/by_time",
                    frame | {"metric": metric, "productType": product, "aggregateGranularity": grain},
                )


def _groups(at: Place) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield what is given of dimensions, and what a body then holds."""
    yield {}, {}
    for dimension in DIMENSIONS:
        yield {"dimension": dimension}, {"dimension": dimension}
    values = list(at.countries)
    yield (
        {"dimension": "country", "dimension_values": values},
        {"dimension": "country", "dimensionValues": values},
    )
    yield (
        {"dimension": "region", "filters": [Filter("country", "China")]},
        {"dimension": "region", "filters": [{"name": "country", "value": "China"}]},
    )


def _usage_totals(at: Place) -> Iterator[Case]:
    span, path = _days(at), f"{INSIGHT}/usage/aggregation"
    frame = {"startTs": span[0], "endTs": span[1]}
    for metric in (*COUNTS, *PEAKS):
        for given, told in _groups(at):
            if not given or metric in COUNTS:  # the reference: peaks are of the whole App ID only
                yield Case(
                    lambda c, metric=metric, given=given: c.insights.usage_total(metric, *span, **given),
                    path,
                    {"appid": at.app_id},
                    {**frame, "metric": metric, **told},
                )


def _quality_totals(at: Place) -> Iterator[Case]:
    span, path = _days(at), f"{INSIGHT}/quality/aggregation"
    frame = {"startTs": span[0], "endTs": span[1]}
    sizes = {"dimension": "channelSize"}
    products = [({"product": product}, {"productType": product}) for product in PRODUCTS]
    for metric in QUALITIES:
        for given, told in (*_groups(at), (sizes, sizes), *products):
            yield Case(
                lambda c, metric=metric, given=given: c.insights.quality_total(metric, *span, **given),
                path,
                {"appid": at.app_id},
                {**frame, "metric": metric, **told},
            )


def _narrowed(at: Place) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Yield what is given of channels and dimensions of real-time windows, and what a query then holds."""
    yield {}, {}
    yield {"cname": at.cname}, {"cname": at.cname}
    for dimension in DIMENSIONS:
        yield {"dimension": dimension}, {"dimension": dimension}
    yield (
        {"dimension": "country", "dimension_values": at.countries},
        {"dimension": "country", "dimensionValues": ",".join(f'"{one}"' for one in at.countries)},
    )


def _windows(at: Place) -> tuple[tuple[int, int], dict[str, str]]:
    span = at.now - 1_205, at.now - 203
    return span, {"appid": at.app_id, "startTs": f"{span[0]}", "endTs": f"{span[1]}"}


def _usage(at: Place) -> Iterator[Case]:
    span, frame = _windows(at)
    for product in PRODUCTS:
        for metric in ("userCount", "channelCount"):
            for given, told in _narrowed(at):
                if metric == "userCount" or "dimension" not in given:  # the reference: a dimension goes with userCount
                    yield Case(
                        lambda c, metric=metric, product=product, given=given: c.realtime.usage(
                            metric, *span, product=product, **given
                        ),
                        f"{REALTIME}/usage/by_time_20sec",
                        frame | {"productType": product, "metric": metric} | told,
                    )


def _quality(at: Place) -> Iterator[Case]:
    span, frame = _windows(at)
    users = {"cname": at.cname, "uids": [at.uid, 4294967295]}, {"cname": at.cname, "uids": f"{at.uid},4294967295"}
    for product in PRODUCTS:
        for metric in QUALITIES:
            for given, told in (*_narrowed(at), users):
                yield Case(
                    lambda c, metric=metric, product=product, given=given: c.realtime.quality(
                        metric, *span, product=product, **given
                    ),
                    f"{REALTIME}/quality/by_time_20sec",
                    frame | {"productType": product, "metric": metric} | told,
                )


def _tops(at: Place) -> Iterator[Case]:
    ts = at.now - 203
    for product in PRODUCTS:
        for dimension in DIMENSIONS:
            about = {"appid": at.app_id, "ts": f"{ts}", "productType": product, "dimension": dimension}
            yield Case(
                lambda c, product=product, dimension=dimension: c.realtime.usage_top(dimension, ts, product=product),
                f"{REALTIME}/usage/dimension/top20",
                about | {"metric": "userCount"},
            )
            for metric in QUALITIES:
                for extra in (None, "userCount"):
                    yield Case(
                        lambda c, metric=metric, product=product, dimension=dimension, extra=extra: (
                            c.realtime.quality_top(metric, dimension, ts, product=product, extra_metrics=extra)
                        ),
                        f"{REALTIME}/quality/dimension/top20",
                        about | {"metric": metric} | ({"extraMetrics": extra} if extra else {}),
                    )
