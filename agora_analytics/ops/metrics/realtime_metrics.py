"""Real-time values as metrics: for each series those of its newest final window, with few values a dimension."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import chain
from typing import Final

import attrs

from agora_analytics._core.decoding.scanner import Steps
from agora_analytics.models import Point
from agora_analytics.models.points import group_of
from agora_analytics.ops.metrics.families import Family, Value, label
from agora_analytics.streams.events import Window
from agora_analytics.streams.watch.series import Series

MAX_VALUES: Final = 20
"""Values of a dimension that are shown; the rest is `OTHER`."""

OTHER: Final = "other"

_LEAST: Final = 1e-9
"""Weight of a value without users: not zero, which a mean cannot be divided by."""

_SLICE: Final = 200
"""Points between two breaks."""

_QUALITY: Final = "in the newest final window, as a fraction: 0.05 is 5 %."
BY_METRIC: Final = {
    "userCount": Family("agora_realtime_users", "Users in the newest final window."),
    "channelCount": Family("agora_realtime_channels", "Channels in the newest final window."),
    "joinSuccessRate": Family("agora_realtime_join_success_ratio", f"Successful joins {_QUALITY}"),
    "joinSuccessIn5sRate": Family("agora_realtime_join_success_in_5s_ratio", f"Joins within 5 seconds {_QUALITY}"),
    "audioFreezeRate": Family("agora_realtime_audio_freeze_ratio", f"Audio time frozen {_QUALITY}"),
    "videoFreezeRate": Family("agora_realtime_video_freeze_ratio", f"Video time frozen {_QUALITY}"),
    "networkDelay": Family("agora_realtime_network_delay_ratio", f"Time with a delay over 400 ms {_QUALITY}"),
}
ANY = Family("agora_realtime_value", "A metric that this version does not know, in the newest final window.")
WINDOW_START = Family(
    "agora_realtime_window_timestamp_seconds", "Start of the newest final window of the series, by the service's clock."
)

FAMILIES: Final = (*BY_METRIC.values(), ANY, WINDOW_START)


@attrs.define
class _Group:
    """One value of a dimension, or several that are shown as one: sums for a count, and for a weighted mean."""

    total: float = 0.0
    weighted: float = 0.0
    weight: float = 0.0

    @property
    def mean(self) -> float:
        """The mean of what was added."""
        return self.weighted / self.weight

    def add(self, value: float, weight: float) -> None:
        """Add a value."""
        self.merge(_Group(value, value * weight, weight))

    def merge(self, other: _Group) -> None:
        """Add the values of another group."""
        self.total += other.total
        self.weighted += other.weighted
        self.weight += other.weight


@attrs.frozen(kw_only=True)
class SeriesValues:
    """The values of a series in one final window, by label: one, or one for each shown value of the dimension."""

    series: Series
    ts: int
    values: Mapping[str, float]

    def samples(self, app: str) -> Iterator[Value]:
        """Yield the samples."""
        series, labels = self.series, {"app": app, "product": label(self.series.product)}
        if series.cname is not None:
            labels |= {"channel": label(series.cname)}
        metric = {"metric": label(series.metric)}
        dimension = {"dimension": label(series.dimension)} if series.dimension else {}
        yield Value(WINDOW_START, labels | metric | dimension, self.ts)
        family = BY_METRIC.get(series.metric, ANY)
        if family is ANY:
            labels |= metric
        for name, value in self.values.items():
            yield Value(family, labels | dimension | {"value": name} if dimension else labels, value)


def users_behind(series: Series, window: Window) -> tuple[Point, ...]:
    """Return the users of a window by the dimension of a series of quality; empty if they are not watched."""
    key = series.product, series.cname, series.dimension
    if series.usage or series.dimension is None:
        return ()
    alike = (one for one in window.values if (one.product, one.cname, one.dimension) == key)
    return next((window.points(one) for one in alike if one.metric == "userCount"), ())


def newest_values(found: Iterable[tuple[str, SeriesValues]]) -> Iterator[Value]:
    """Yield the samples of the series of several App IDs; of what several watches have, the newest."""
    seen: set[tuple[str, ...]] = set()
    # Two samples of the same labels would make Prometheus refuse the whole scrape.
    for app, values in sorted(found, key=lambda pair: -pair[1].ts):
        for value in values.samples(app):
            key = (value.family.name, *value.labels.values())
            if key not in seen:
                seen.add(key)
                yield value


def reduced(
    series: Series, points: Iterable[Point], users: Iterable[Point], shown: Container[str]
) -> Steps[dict[str, float]]:
    """Return the values of a series by label: of at most 20 values of its dimension, and `other`.

    Counts are summed, largest first. Quality is averaged, weighted by the `users` of the same window where these are
    watched too, and those with most users come first; without them, those that are `shown` already.
    """
    weights: dict[str | None, float | None] = {}
    for number, point in enumerate(users, 1):
        weights[group_of(point)] = _number(point)
        if not number % _SLICE:
            yield None
    groups: defaultdict[str, _Group] = defaultdict(_Group)
    for number, point in enumerate(points, 1):
        value = _number(point)
        if value is not None:
            weight = max(weights.get(group_of(point)) or 0.0, _LEAST) if weights else 1.0
            groups[label(group_of(point))].add(value, weight)
        if not number % _SLICE:
            yield None
    if len(groups) > MAX_VALUES:
        # Without users, those that were shown before, so that the series of a dashboard do not change all the time.
        def rank(name: str) -> float:
            return groups[name].total if series.usage else groups[name].weight if weights else name in shown

        # A value of the service may itself be called `other`: it joins the rest.
        kept = yield from _highest([name for name in groups if name != OTHER], rank)
        groups = yield from _with_other(groups, kept)
    return {name: group.total if series.usage else group.mean for name, group in groups.items()}


def _highest(names: Sequence[str], rank: Callable[[str], float]) -> Steps[list[str]]:
    """Return the names of highest rank that are shown, the highest first."""
    highest: list[str] = []
    for start in range(0, len(names), _SLICE):
        highest = nlargest(MAX_VALUES, chain(highest, names[start : start + _SLICE]), key=rank)
        yield None
    return highest


def _with_other(groups: Mapping[str, _Group], kept: Iterable[str]) -> Steps[defaultdict[str, _Group]]:
    """Return the groups that are kept, and the sum of the others."""
    found: defaultdict[str, _Group] = defaultdict(_Group, {name: groups[name] for name in kept})
    for number, name in enumerate(groups.keys() - found.keys(), 1):
        found[OTHER].merge(groups[name])
        if not number % _SLICE:
            yield None
    return found


def _number(point: Point) -> float | None:
    """Return the value of a point; None for null, and for a whole number too large for a sample."""
    try:
        return None if point.value is None else float(point.value)
    except OverflowError:
        return None
