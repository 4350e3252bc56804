"""Data Insights: usage and quality by time, and over a whole span by dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter

from agora_analytics.catalogue import Product, QualityMetric, UsageMetric
from agora_analytics.simulator.service.context import Document, Grouping, RequestContext
from agora_analytics.simulator.service.error_responses import invalid
from agora_analytics.simulator.service.params import TimeRange
from agora_analytics.simulator.world import quality, usage
from agora_analytics.simulator.world.population import country_of, shares
from agora_analytics.simulator.world.rng import fraction
from agora_analytics.simulator.world.usage import Usage

_HOUR = 3_600
_SIZES = {"1d": 86_400, "1h": _HOUR, "1m": 60}
_PRODUCTS = tuple(Product)
_UNSETTLED = 0.03

_USAGE: dict[str, Callable[[Usage], int]] = {
    "userCount": lambda tally: tally.users,
    "sessionCount": lambda tally: tally.joins,
    "channelCount": lambda tally: tally.channels,
    "totalDuration": lambda tally: tally.video_minutes + tally.audio_minutes,
    "totalVideoDuration": lambda tally: tally.video_minutes,
    "totalAudioDuration": lambda tally: tally.audio_minutes,
}
_REFERENCE: dict[str, Callable[[Usage], int]] = {
    "joinSuccessRate": lambda tally: tally.attempts,
    "joinSuccessIn5sRate": lambda tally: tally.attempts,
    "audioFreezeRate": lambda tally: tally.audio_minutes,
    "videoFreezeRate": lambda tally: tally.video_minutes,
    "networkDelay": lambda tally: tally.video_minutes + tally.audio_minutes,
}


def usage_by_time(context: RequestContext) -> Document:
    """Answer with usage by day or hour."""
    time_range = context.time_range("startTs", "endTs")
    metric, size = context.params.one_of("metric", tuple(UsageMetric)), _size(context)
    name = _echoed(context, metric)
    return {
        "data": [
            {name: _usage(context, metric, start, start + size), "ts": start}
            for start in _marks(context, time_range, size)
        ]
    }


def quality_by_time(context: RequestContext) -> Document:
    """Answer with quality by day, hour or minute."""
    time_range = context.time_range("startTs", "endTs")
    metric, size = context.params.one_of("metric", tuple(QualityMetric)), _size(context)
    product = Product(context.params.one_of("productType", _PRODUCTS))
    return {
        "data": [
            {metric: quality.average(context.world, metric, product, start, start + size), "ts": start}
            for start in _marks(context, time_range, size)
        ]
    }


def usage_total(context: RequestContext) -> Document:
    """Answer with usage over a whole span, by dimension where one is asked for."""
    time_range = context.time_range("startTs", "endTs")
    metric = context.params.one_of("metric", tuple(UsageMetric))
    total = _usage(context, metric, time_range.start, time_range.end)
    # The reference: peaks come for the whole App ID only, whatever dimension is asked for.
    if context.params.optional_text("dimension") is None or metric not in _USAGE:
        return _whole(context, {_echoed(context, metric): total})
    grouping = context.dimension()
    return {
        "data": [{grouping.echo: value, metric: round(total * part)} for value, part in _parts(context, None, grouping)]
    }


def quality_total(context: RequestContext) -> Document:
    """Answer with quality over a whole span, by dimension where one is asked for: the highest values first."""
    time_range = context.time_range("startTs", "endTs")
    metric = context.params.one_of("metric", tuple(QualityMetric))
    product = _maybe_product(context)
    if context.params.optional_text("dimension") is None:
        return _whole(
            context, {metric: quality.average(context.world, metric, product, time_range.start, time_range.end)}
        )
    grouping = context.dimension("channelSize")
    reference = _REFERENCE[metric](_tally(context, time_range.start, time_range.end))
    rows: list[Document] = []
    for value, part in _parts(context, product, grouping):
        rate = quality.average(context.world, metric, product, time_range.start, time_range.end, group=value)
        rows.append({grouping.echo: value, "refUsage": round(reference * part), metric: rate})
    return {"data": sorted(rows, key=itemgetter(metric), reverse=True)}


def _size(context: RequestContext) -> int:
    return _SIZES[context.params.one_of("aggregateGranularity", context.limits.granularities)]


def _maybe_product(context: RequestContext) -> Product | None:
    named = context.params.optional_text("productType")
    return None if named is None else Product(context.params.one_of("productType", _PRODUCTS))


def _echoed(context: RequestContext, metric: str) -> str:
    """Return the name that rows give a metric; peaks have two."""
    if not (context.variants.echo_other_name and metric.startswith("peak")):
        return metric
    return metric.replace("Current", "Concurrent") if "Current" in metric else metric.replace("Concurrent", "Current")


def _marks(context: RequestContext, time_range: TimeRange, size: int) -> Iterator[int]:
    """Yield the starts of the buckets in a time frame."""
    offset = context.variants.day_starts_at if size == _SIZES["1d"] else 0
    start = -(-(time_range.start - offset) // size) * size + offset
    yield from range(start, time_range.end + (1 if context.variants.end_inclusive else 0), size)


def _usage(context: RequestContext, metric: str, start: int, end: int) -> int:
    if metric in _USAGE:
        return _USAGE[metric](_tally(context, start, end))
    peaks = [usage.peak(context.world, hour) for hour in _hours(context, start, end)]
    return max((one.channels if "Channels" in metric else one.users for one in peaks), default=0)


def _tally(context: RequestContext, start: int, end: int) -> Usage:
    return sum((_counted(context, hour) for hour in _hours(context, start, end)), Usage())


def _hours(context: RequestContext, start: int, end: int) -> range:
    """Return the hours that begin in `[start, end)`, as far as the service knows them."""
    return range(-(-start // _HOUR), -(-min(end, context.known_until) // _HOUR))


def _counted(context: RequestContext, hour: int) -> Usage:
    """Return what the service has counted of an hour so far: a little less until its counts are settled."""
    tally = context.world.usage(hour)
    if context.now >= (hour + 1) * _HOUR + context.variants.settles_after:
        return tally
    return tally.scaled(1 - _UNSETTLED * fraction(context.world.seed, "unsettled", hour))


def _whole(context: RequestContext, row: Document) -> Document:
    return {"data": row if context.variants.total_as_object else [row]}


def _parts(context: RequestContext, product: Product | None, grouping: Grouping) -> list[tuple[str, float]]:
    """Return the values of a dimension that were asked for with their parts of the whole, greatest first."""
    country, wanted = _country(context, grouping), context.params.quoted_list("dimensionValues")
    parts = [
        (value, part)
        for value, part in sorted(shares(product, grouping.name).items(), key=lambda pair: -pair[1])
        if country is None or country_of(value) == country
    ]
    if wanted and grouping.name != "channelSize":
        return [pair for pair in parts if pair[0] in wanted]
    return parts[: grouping.most]


def _country(context: RequestContext, grouping: Grouping) -> str | None:
    """Return the country that regions are to be of; filters are ignored for any other dimension."""
    filters = context.params.values.get("filters")
    if not filters or grouping.name != "region":
        return None
    match filters:
        case [{"name": "country", "value": str(country)}]:
            return country
    raise invalid("filters must be one country")
