"""What to watch, and which requests that takes: series that one request can serve share it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

import attrs

from agora_analytics._core import validation
from agora_analytics.catalogue import RealtimeUsageMetric
from agora_analytics.models import Point, Uid

__all__ = ["Series"]

_LEAST_WEIGHT: Final = 0.001

_USAGE: Final = frozenset(RealtimeUsageMetric)


def _values(values: Iterable[str]) -> tuple[str, ...]:
    return validation.without_quotes("dimension_values", validation.non_empty_strs("dimension_values", values))


def _users(values: Iterable[Uid]) -> tuple[Uid, ...]:
    return validation.max_length("uids", validation.uids(values), validation.UIDS)


def _weight(name: str, value: object) -> float:
    found = validation.number_in_range(name, value)
    if found < _LEAST_WEIGHT:
        raise ValueError(f"{name}={validation.short_repr(found)}: allowed are numbers from {_LEAST_WEIGHT}")
    return found


@attrs.frozen
class Series:
    """One line of a dashboard: a real-time metric of a product, of the whole project or of a part of it.

    A metric of `RealtimeUsageMetric` counts users or channels, every other one is of quality. `cname` is a channel,
    `dimension` splits by country, network and the like (only `dimension_values`, where given), `uids` are users of a
    `cname`. Series of twice the `weight` are asked for twice as often, where the day's requests do not carry every
    window. Raises `ValueError` or `TypeError` for what cannot be asked.
    """

    metric: str
    product: str = attrs.field(kw_only=True)
    cname: str | None = attrs.field(default=None, kw_only=True)
    dimension: str | None = attrs.field(default=None, kw_only=True)
    dimension_values: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_values)
    uids: tuple[Uid, ...] = attrs.field(default=(), kw_only=True, converter=_users)
    weight: float = attrs.field(default=1.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        validation.apply_rules(
            self, metric=validation.non_empty_str, product=validation.non_empty_str, cname=validation.optional_str
        )
        validation.apply_rules(self, dimension=validation.optional_str, weight=_weight)
        validation.dimension_values(self.dimension, self.dimension_values)
        if self.uids and (self.cname is None or self.dimension is not None or self.usage):
            raise ValueError(f"uids={self.uids!r} need a cname and a metric of quality, and exclude a dimension")

    def __str__(self) -> str:
        parts = (self.metric, self.product, self.cname, self.dimension, *self.dimension_values, *map(str, self.uids))
        return " ".join(filter(None, parts))

    @property
    def usage(self) -> bool:
        """Whether users or channels are counted."""
        return self.metric in _USAGE

    @property
    def grouped(self) -> bool:
        """Whether a window has several values of it: by a dimension or by user, unless just one is asked for."""
        asked = len(self.uids) or len(self.dimension_values)
        return asked > 1 or (self.dimension is not None and asked != 1)

    def of(self, points: Iterable[Point]) -> tuple[Point, ...]:
        """Return the points that are this series' own, of an answer that serves several."""
        if self.uids:
            mine = set(map(str, self.uids))
            return tuple(point for point in points if str(point.uid) in mine)
        if self.dimension_values:
            return tuple(point for point in points if point.dimension_value in self.dimension_values)
        return tuple(points)


@attrs.frozen(kw_only=True)
class Query:
    """What one request asks for, and the places of the series it serves."""

    metric: str
    product: str
    cname: str | None
    dimension: str | None
    dimension_values: tuple[str, ...]
    uids: tuple[Uid, ...]
    usage: bool
    weight: float
    serves: tuple[int, ...]


def queries(series: Sequence[Series]) -> tuple[Query, ...]:
    """Return the fewest requests that serve all series."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, one in enumerate(series):
        whole = () if one.uids or one.dimension_values else ("all",)
        alike.setdefault((one.metric, one.product, one.cname, one.dimension, bool(one.uids), *whole), []).append(place)
    return tuple(chain.from_iterable(_split(series, places) for places in alike.values()))


def _split(series: Sequence[Series], places: Sequence[int]) -> Iterable[Query]:
    """Make one query of series that are alike, or as many as their users need."""
    while places:
        serves: list[int] = []
        uids: dict[Uid, None] = {}
        for place in places:
            more = uids | dict.fromkeys(series[place].uids)
            if len(more) <= validation.UIDS:
                uids = more
                serves.append(place)
        places = [place for place in places if place not in serves]
        yield _query([series[place] for place in serves], serves, tuple(uids))


def _query(series: Sequence[Series], serves: Sequence[int], uids: tuple[Uid, ...]) -> Query:
    first = series[0]
    return Query(
        metric=first.metric,
        product=first.product,
        cname=first.cname,
        dimension=first.dimension,
        dimension_values=tuple(dict.fromkeys(value for one in series for value in one.dimension_values)),
        uids=uids,
        usage=first.usage,
        weight=max(one.weight for one in series),
        serves=tuple(serves),
    )
