"""Data Insights: usage and quality by time, and over a whole span by dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter

from agora_analytics.catalogue import Product, QualityMetric, UsageMetric
from agora_analytics.simulator.service.context import Case, Document, Grouping
from agora_analytics.simulator.service.error_responses import invalid
from agora_analytics.simulator.service.params import Frame
from agora_analytics.simulator.world import quality, usage
from agora_analytics.simulator.world.population import country_of, shares
from agora_analytics.simulator.world.rng import share
from agora_analytics.simulator.world.usage import Tally
from agora_analytics.spans import HOUR

_SIZES = {"1d": 86_400, "1h": HOUR, "1m": 60}
_PRODUCTS = tuple(Product)
_UNSETTLED = 0.03

_USAGE: dict[str, Callable[[Tally], int]] = {
    "userCount": lambda tally: tally.users,
    "sessionCount": lambda tally: tally.joins,
    "channelCount": lambda tally: tally.channels,
    "totalDuration": lambda tally: tally.video_minutes + tally.audio_minutes,
    "totalVideoDuration": lambda tally: tally.video_minutes,
    "totalAudioDuration": lambda tally: tally.audio_minutes,
}
_REFERENCE: dict[str, Callable[[Tally], int]] = {
    "joinSuccessRate": lambda tally: tally.attempts,
    "joinSuccessIn5sRate": lambda tally: tally.attempts,
    "audioFreezeRate": lambda tally: tally.audio_minutes,
    "videoFreezeRate": lambda tally: tally.video_minutes,
    "networkDelay": lambda tally: tally.video_minutes + tally.audio_minutes,
}


def usage_by_time(case: Case) -> Document:
    """Answer with usage by day or hour."""
    frame = case.frame("startTs", "endTs")
    metric, size = case.asked.one_of("metric", tuple(UsageMetric)), _size(case)
    name = _echoed(case, metric)
    return {
        "data": [{name: _usage(case, metric, start, start + size), "ts": start} for start in _marks(case, frame, size)]
    }


def quality_by_time(case: Case) -> Document:
    """Answer with quality by day, hour or minute."""
    frame = case.frame("startTs", "endTs")
    metric, size = case.asked.one_of("metric", tuple(QualityMetric)), _size(case)
    product = Product(case.asked.one_of("productType", _PRODUCTS))
    return {
        "data": [
            {metric: quality.average(case.world, metric, product, start, start + size), "ts": start}
            for start in _marks(case, frame, size)
        ]
    }


def usage_total(case: Case) -> Document:
    """Answer with usage over a whole span, by dimension where one is asked for."""
    frame = case.frame("startTs", "endTs")
    metric = case.asked.one_of("metric", tuple(UsageMetric))
    total = _usage(case, metric, frame.start, frame.end)
    # The reference: peaks come for the whole App ID only, whatever dimension is asked for.
    if case.asked.maybe_text("dimension") is None or metric not in _USAGE:
        return _whole(case, {_echoed(case, metric): total})
    grouping = case.dimension()
    return {
        "data": [{grouping.echo: value, metric: round(total * part)} for value, part in _parts(case, None, grouping)]
    }


def quality_total(case: Case) -> Document:
    """Answer with quality over a whole span, by dimension where one is asked for: the highest values first."""
    frame = case.frame("startTs", "endTs")
    metric = case.asked.one_of("metric", tuple(QualityMetric))
    product = _maybe_product(case)
    if case.asked.maybe_text("dimension") is None:
        return _whole(case, {metric: quality.average(case.world, metric, product, frame.start, frame.end)})
    grouping = case.dimension("channelSize")
    reference = _REFERENCE[metric](_tally(case, frame.start, frame.end))
    rows: list[Document] = []
    for value, part in _parts(case, product, grouping):
        rate = quality.average(case.world, metric, product, frame.start, frame.end, group=value)
        rows.append({grouping.echo: value, "refUsage": round(reference * part), metric: rate})
    return {"data": sorted(rows, key=itemgetter(metric), reverse=True)}


def _size(case: Case) -> int:
    return _SIZES[case.asked.one_of("aggregateGranularity", case.limits.granularities)]


def _maybe_product(case: Case) -> Product | None:
    named = case.asked.maybe_text("productType")
    return None if named is None else Product(case.asked.one_of("productType", _PRODUCTS))


def _echoed(case: Case, metric: str) -> str:
    """Return the name that rows give a metric; peaks have two."""
    if not (case.quirks.echo_other_name and metric.startswith("peak")):
        return metric
    return metric.replace("Current", "Concurrent") if "Current" in metric else metric.replace("Concurrent", "Current")


def _marks(case: Case, frame: Frame, size: int) -> Iterator[int]:
    """Yield the starts of the buckets in a time frame."""
    offset = case.quirks.day_starts_at if size == _SIZES["1d"] else 0
    start = -(-(frame.start - offset) // size) * size + offset
    yield from range(start, frame.end + (1 if case.quirks.end_inclusive else 0), size)


def _usage(case: Case, metric: str, start: int, end: int) -> int:
    if metric in _USAGE:
        return _USAGE[metric](_tally(case, start, end))
    peaks = [usage.peak(case.world, hour) for hour in _hours(case, start, end)]
    return max((one.channels if "Channels" in metric else one.users for one in peaks), default=0)


def _tally(case: Case, start: int, end: int) -> Tally:
    return sum((_counted(case, hour) for hour in _hours(case, start, end)), Tally())


def _hours(case: Case, start: int, end: int) -> range:
    """Return the hours that begin in `[start, end)`, as far as the service knows them."""
    return range(-(-start // HOUR), -(-min(end, case.known_until) // HOUR))


def _counted(case: Case, hour: int) -> Tally:
    """Return what the service has counted of an hour so far: a little less until its counts are settled."""
    tally = case.world.tally(hour)
    if case.now >= (hour + 1) * HOUR + case.quirks.settles_after:
        return tally
    return tally.scaled(1 - _UNSETTLED * share(case.world.seed, "unsettled", hour))


def _whole(case: Case, row: Document) -> Document:
    return {"data": row if case.quirks.total_as_object else [row]}


def _parts(case: Case, product: Product | None, grouping: Grouping) -> list[tuple[str, float]]:
    """Return the values of a dimension that were asked for with their parts of the whole, greatest first."""
    country, wanted = _country(case, grouping), case.asked.quoted("dimensionValues")
    parts = [
        (value, part)
        for value, part in sorted(shares(product, grouping.name).items(), key=lambda pair: -pair[1])
        if country is None or country_of(value) == country
    ]
    if wanted and grouping.name != "channelSize":
        return [pair for pair in parts if pair[0] in wanted]
    return parts[: grouping.most]


def _country(case: Case, grouping: Grouping) -> str | None:
    """Return the country that regions are to be of; filters are ignored for any other dimension."""
    filters = case.asked.values.get("filters")
    if not filters or grouping.name != "region":
        return None
    match filters:
        case [{"name": "country", "value": str(country)}]:
            return country
    raise invalid("filters must be one country")
