"""What to watch, and the queries for it: series that one request can answer share a query."""

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
"""Polled a thousandth as often as another series: at most every 5 hours, of which the service keeps one at most.

A smaller weight is of no use, and the interval of one near 0 would be infinite.
"""

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

    ```python
    Series("userCount", product="Native")
    Series("videoFreezeRate", product="Native", dimension="country", dimension_values=("CN", "US"))
    ```

    A metric of `RealtimeUsageMetric` counts users or channels; every other one measures quality. `cname` selects a
    channel, `dimension` groups by country, network and so on (only `dimension_values`, if given), and `uids` selects
    users of a `cname`. If the day's requests do not carry every window, a series of twice the `weight` is polled twice
    as often. Raises `ValueError` or `TypeError` for a series that cannot be queried.
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
        """Whether the metric counts users or channels."""
        return self.metric in _USAGE

    @property
    def grouped(self) -> bool:
        """Whether a window has several values of it: by dimension or by user, unless a single one is selected."""
        selected = len(self.uids) or len(self.dimension_values)
        return selected > 1 or (self.dimension is not None and selected != 1)

    def select(self, points: Iterable[Point]) -> tuple[Point, ...]:
        """Return the points of this series, from an answer for several series."""
        if self.uids:
            # By text: the service may send a numeric user ID as a number or as a text.
            uids = set(map(str, self.uids))
            return tuple(point for point in points if str(point.uid) in uids)
        if self.dimension_values:
            return tuple(point for point in points if point.dimension_value in self.dimension_values)
        return tuple(points)


@attrs.frozen(kw_only=True)
class Query:
    """What one request asks for, and the indexes of the series that it answers."""

    metric: str
    product: str
    cname: str | None
    dimension: str | None
    dimension_values: tuple[str, ...]
    uids: tuple[Uid, ...]
    usage: bool
    weight: float
    series_indexes: tuple[int, ...]


def queries(series: Sequence[Series]) -> tuple[Query, ...]:
    """Return the fewest queries that cover all series."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, one in enumerate(series):
        # An answer for all groups has only the top ones, and may lack those that another series names.
        whole = () if one.uids or one.dimension_values else ("all",)
        key = (one.metric, one.product, one.cname, one.dimension, bool(one.uids), *whole)
        groups.setdefault(key, []).append(index)
    return tuple(chain.from_iterable(_split(series, indexes) for indexes in groups.values()))


def _split(series: Sequence[Series], indexes: Sequence[int]) -> Iterable[Query]:
    """Yield one query for series of one group, or several if they have more users than one request may have."""
    while indexes:
        covered: list[int] = []
        uids: dict[Uid, None] = {}
        for index in indexes:
            more = uids | dict.fromkeys(series[index].uids)
            if len(more) <= validation.UIDS:
                uids = more
                covered.append(index)
        indexes = [index for index in indexes if index not in covered]
        yield _query([series[index] for index in covered], covered, tuple(uids))


def _query(series: Sequence[Series], indexes: Sequence[int], uids: tuple[Uid, ...]) -> Query:
    first = series[0]
    return Query(
        metric=first.metric,
        product=first.product,
        cname=first.cname,
        dimension=first.dimension,
        dimension_values=tuple(dict.fromkeys(value for one in series for value in one.dimension_values)),
        uids=uids,
        usage=first.usage,
        # The heaviest decides: more often than the others need costs no further request.
        weight=max(one.weight for one in series),
        series_indexes=tuple(indexes),
    )
