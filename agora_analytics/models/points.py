"""Values over time, by dimension and by user: the rows of insights, real-time windows and timelines.

On the wire a row keeps its value under the metric's name and its group under the dimension's: `{"userCount": 42, "sdk":
"4.1.1", "ts": 1631837400}`. So that rows decode directly into their class, each pair of metric and dimension has a
generated subclass of `Point` with fields of those names; `value` and `dimension_value` read them whatever their names.
"""

from __future__ import annotations

from functools import lru_cache
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from agora_analytics._core.decoding.json import Whole
from agora_analytics.spans import moment

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agora_analytics.models.calls import Uid

Number = int | float
"""A count or a measurement, as the service sent it."""


@attrs.frozen(eq=False)
class Point:
    """A value at `ts`, the start of its window or bucket in UTC seconds.

    It also has a field with the metric's own name, and one with the dimension's, if there is one. `Point.of` makes one.

    >>> Point.of(1_795_521_600, 42, metric="userCount", dimension="os", dimension_value="iOS")
    Point(ts=1795521600, userCount=42, os='iOS')
    """

    ts: Whole

    _metric: ClassVar[str] = ""
    _dimension: ClassVar[str | None] = None

    @classmethod
    def of(
        cls,
        ts: int,
        value: Number | None,
        *,
        metric: str = "value",
        dimension: str | None = None,
        dimension_value: str | None = None,
        uid: Uid | None = None,
    ) -> Point:
        """Return a point with these values, as in an answer about `metric` by `dimension`."""
        values: list[Any] = [ts, value]
        values += [dimension_value] if dimension else []
        values += [uid] if uid is not None else []
        return shape(metric, dimension, user=uid is not None)(*values)

    @property
    def value(self) -> Number | None:
        """The metric's value; None if the service sent null."""
        value: Number | None = getattr(self, self._metric)
        return value

    @property
    def dimension_value(self) -> str | None:
        """The dimension's value; None without a dimension."""
        return getattr(self, self._dimension) if self._dimension else None

    @property
    def uid(self) -> Uid | None:
        """The user; None in answers that are not by user."""
        return None

    @property
    def started_at(self) -> datetime | None:
        """`ts` as an aware datetime, UTC."""
        return moment(self.ts)

    def __eq__(self, other: object) -> bool:
        """Compare by content, not by class: the same class may have been generated more than once."""
        return self._said() == other._said() if isinstance(other, Point) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._said())

    def _said(self) -> tuple[Any, ...]:
        return self.ts, self.value, self.dimension_value, self.uid, self._metric, self._dimension

    def __reduce__(self) -> tuple[Callable[..., Point], tuple[Any, ...]]:
        """Pickle by shape and values, since the class is generated."""
        user = self.uid is not None
        return _restore, (self._metric, self._dimension, user, attrs.astuple(self, recurse=False))


def _restore(metric: str, dimension: str | None, user: bool, values: tuple[Any, ...]) -> Point:  # noqa: FBT001 - pickle
    return shape(metric, dimension, user=user)(*values)


_TAKEN = frozenset({"self", "ts", "uid", "of", "value", "dimension_value", "started_at"})
"""Names that the generated class or its constructor has already."""


def can_be_field(name: str) -> bool:
    """Whether a wire name can be a field of a generated class, beside the attributes of every point."""
    # Python normalizes some non-ASCII letters in identifiers, and would not find the field again.
    fits = name.isascii() and name.isidentifier() and not iskeyword(name)
    return fits and not name.startswith("_") and name not in _TAKEN


def group_of(point: Point) -> str | None:
    """Return what distinguishes a point from others of its window: the dimension's value, or the user."""
    return point.dimension_value if point.uid is None else str(point.uid)


@lru_cache(maxsize=256)
def shape(metric: str, dimension: str | None = None, *, user: bool = False) -> type[Point]:
    """Return the class of points about `metric` by `dimension`, and by user; unsuitable names are replaced."""
    metric = metric if can_be_field(metric) else "value"
    if dimension is not None and (not can_be_field(dimension) or dimension == metric):
        dimension = "dimension_value"
    # Cached by the names that are used, so that all unsuitable ones share a class.
    return _make(str(metric), dimension and str(dimension), user)


@lru_cache(maxsize=256)
def _make(metric: str, dimension: str | None, user: bool) -> type[Point]:  # noqa: FBT001 - a cache key
    kinds: dict[str, Any] = {metric: Whole | float | None}
    if dimension:
        kinds[dimension] = str | None
    if user:
        kinds["uid"] = Whole | str | None
    fields = {name: attrs.field(type=kind) for name, kind in kinds.items()}
    made = attrs.make_class("Point", fields, bases=(Point,), frozen=True, slots=True, eq=False)
    made._metric = metric  # type: ignore[attr-defined]  # noqa: SLF001 - completes the class made here
    made._dimension = dimension  # type: ignore[attr-defined]  # noqa: SLF001
    return made


@attrs.frozen
class Total:
    """A value over a whole span; `ref_usage` is the usage (minutes or attempts) behind a quality value."""

    value: Number | None
    dimension_value: str | None = None
    ref_usage: Number | None = None


@attrs.frozen
class Ranked:
    """A dimension's value in one 20-second window's top list; `user_count` comes with `extra_metrics`."""

    dimension_value: str | None
    value: Number | None
    window_start: int | None = None
    window_end: int | None = None
    user_count: Number | None = None
