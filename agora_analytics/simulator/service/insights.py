"""Handlers of Data Insights: usage and quality by time, and in total, by dimension if requested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter

from agora_analytics.catalogue import Product, QualityMetric, UsageMetric
from agora_analytics.simulator.service.context import Document, Grouping, RequestContext
from agora_analytics.simulator.service.error_responses import invalid
from agora_analytics.simulator.service.params import TimeRange
from agora_analytics.simulator.world import quality
from agora_analytics.simulator.world.population import country_of, shares
from agora_analytics.simulator.world.rng import fraction
from agora_analytics.simulator.world.usage import Usage, peak
from agora_analytics.spans import DAY, HOUR, MINUTE

_BUCKET_SECONDS = {"1d": DAY, "1h": HOUR, "1m": MINUTE}
_PRODUCTS = tuple(Product)
_MAX_UNDERCOUNT = 0.03

_USAGE_OF: dict[str, Callable[[Usage], int]] = {
    "userCount": lambda usage: usage.users,
    "sessionCount": lambda usage: usage.joins,
    "channelCount": lambda usage: usage.channels,
    "totalDuration": lambda usage: usage.video_minutes + usage.audio_minutes,
    "totalVideoDuration": lambda usage: usage.video_minutes,
    "totalAudioDuration": lambda usage: usage.audio_minutes,
}
_REFERENCE_USAGE_OF: dict[str, Callable[[Usage], int]] = {
    "joinSuccessRate": lambda usage: usage.attempts,
    "joinSuccessIn5sRate": lambda usage: usage.attempts,
    "audioFreezeRate": lambda usage: usage.audio_minutes,
    "videoFreezeRate": lambda usage: usage.video_minutes,
    "networkDelay": lambda usage: usage.video_minutes + usage.audio_minutes,
}


def usage_by_time(context: RequestContext) -> Document:
    """Answer with usage by day or hour."""
    time_range = context.time_range("startTs", "endTs")
    metric, size = context.params.one_of("metric", tuple(UsageMetric)), _bucket_seconds(context)
    name = _echo(context, metric)
    return {
        "data": [
            {name: _usage(context, metric, start, start + size), "ts": start}
            for start in _bucket_starts(context, time_range, size)
        ]
    }


def quality_by_time(context: RequestContext) -> Document:
    """Answer with quality by day, hour or minute."""
    time_range = context.time_range("startTs", "endTs")
    metric, size = context.params.one_of("metric", tuple(QualityMetric)), _bucket_seconds(context)
    product = Product(context.params.one_of("productType", _PRODUCTS))
    return {
        "data": [
            {metric: quality.average(context.world, metric, product, start, start + size), "ts": start}
            for start in _bucket_starts(context, time_range, size)
        ]
    }


def usage_total(context: RequestContext) -> Document:
    """Answer with usage over the whole time range, by dimension if one is requested."""
    time_range = context.time_range("startTs", "endTs")
    metric = context.params.one_of("metric", tuple(UsageMetric))
    total = _usage(context, metric, time_range.start, time_range.end)
    # By the API reference, peaks are reported for the whole App ID only, whatever dimension is requested.
    if context.params.optional_text("dimension") is None or metric not in _USAGE_OF:
        return _total(context, {_echo(context, metric): total})
    grouping = context.dimension()
    return {
        "data": [
            {grouping.echo: value, metric: round(total * share)} for value, share in _shares(context, None, grouping)
        ]
    }


def quality_total(context: RequestContext) -> Document:
    """Answer with quality over the whole time range, by dimension if one is requested, highest values first."""
    time_range = context.time_range("startTs", "endTs")
    metric = context.params.one_of("metric", tuple(QualityMetric))
    product = _optional_product(context)
    if context.params.optional_text("dimension") is None:
        return _total(
            context, {metric: quality.average(context.world, metric, product, time_range.start, time_range.end)}
        )
    grouping = context.dimension("channelSize")
    reference = _REFERENCE_USAGE_OF[metric](_usage_of_range(context, time_range.start, time_range.end))
    rows: list[Document] = []
    for value, share in _shares(context, product, grouping):
        rate = quality.average(context.world, metric, product, time_range.start, time_range.end, group=value)
        rows.append({grouping.echo: value, "refUsage": round(reference * share), metric: rate})
    return {"data": sorted(rows, key=itemgetter(metric), reverse=True)}


def _bucket_seconds(context: RequestContext) -> int:
    return _BUCKET_SECONDS[context.params.one_of("aggregateGranularity", context.limits.granularities)]


def _optional_product(context: RequestContext) -> Product | None:
    named = context.params.optional_text("productType")
    return None if named is None else Product(context.params.one_of("productType", _PRODUCTS))


def _echo(context: RequestContext, metric: str) -> str:
    """Return the name that rows use for a metric; peaks have two names."""
    if not (context.variants.echo_other_name and metric.startswith("peak")):
        return metric
    return metric.replace("Current", "Concurrent") if "Current" in metric else metric.replace("Concurrent", "Current")


def _bucket_starts(context: RequestContext, time_range: TimeRange, size: int) -> Iterator[int]:
    """Yield the starts of the buckets in a time range."""
    offset = context.variants.day_starts_at if size == _BUCKET_SECONDS["1d"] else 0
    # Buckets that begin before the range are left out: the service reports no part of a day.
    start = -(-(time_range.start - offset) // size) * size + offset
    yield from range(start, time_range.end + (1 if context.variants.end_inclusive else 0), size)


def _usage(context: RequestContext, metric: str, start: int, end: int) -> int:
    if metric in _USAGE_OF:
        return _USAGE_OF[metric](_usage_of_range(context, start, end))
    # Peaks cannot be added: the highest hour is the peak of the span.
    peaks = [peak(context.world, hour) for hour in _hours(context, start, end)]
    return max((top.channels if "Channels" in metric else top.users for top in peaks), default=0)


def _usage_of_range(context: RequestContext, start: int, end: int) -> Usage:
    return sum((_usage_so_far(context, hour) for hour in _hours(context, start, end)), Usage())


def _hours(context: RequestContext, start: int, end: int) -> range:
    """Return the hours that start in `[start, end)` and that the service knows about."""
    return range(-(-start // HOUR), -(-min(end, context.known_until) // HOUR))


def _usage_so_far(context: RequestContext, hour: int) -> Usage:
    """Return the usage of an hour as reported now: up to 3 % low until `Variants.settles_after` has passed."""
    final = context.world.usage(hour)
    if context.now >= (hour + 1) * HOUR + context.variants.settles_after:
        return final
    return final.scaled(1 - _MAX_UNDERCOUNT * fraction(context.world.seed, "unsettled", hour))


def _total(context: RequestContext, row: Document) -> Document:
    return {"data": row if context.variants.total_as_object else [row]}


def _shares(context: RequestContext, product: Product | None, grouping: Grouping) -> list[tuple[str, float]]:
    """Return the requested values of a dimension with their shares, largest first."""
    country, wanted = _country_filter(context, grouping), context.params.quoted_list("dimensionValues")
    result = [
        (value, share)
        for value, share in sorted(shares(product, grouping.name).items(), key=lambda pair: -pair[1])
        if country is None or country_of(value) == country
    ]
    # By the API reference, channel sizes cannot be filtered.
    if wanted and grouping.name != "channelSize":
        return [pair for pair in result if pair[0] in wanted]
    return result[: grouping.max_groups]


def _country_filter(context: RequestContext, grouping: Grouping) -> str | None:
    """Return the country to filter regions by, or None; other dimensions ignore filters."""
    filters = context.params.values.get("filters")
    if not filters or grouping.name != "region":
        return None
    match filters:
        case [{"name": "country", "value": str(country)}]:
            return country
    raise invalid("filters must be one country")
