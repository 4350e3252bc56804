"""Rows whose keys are not known beforehand: the value and its group are found by elimination.

The service may echo another name than the one asked for (`sdkVersion` for `sdk`, `peakConcurrentUsers` for
`peakCurrentUsers`). What is neither a timestamp nor usage nor the dimension is the value; what is left of text is the
dimension's. A row in which that is not one clear choice is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from reprlib import repr as shorten
from typing import Any, TypeVar

from agora_analytics.errors import DecodeError
from agora_analytics.models.points import Number, Point, Ranked, Total

Row = Mapping[str, Any]
T = TypeVar("T")

_OTHER = frozenset({"ts", "refUsage", "windowStartTs", "windowEndTs", "uid"})


def rows_of(data: object) -> list[Row]:
    """Return the rows of an answer's `data`: a list, an object with a `list`, one row alone, or nothing."""
    rows = data.get("list", [data] if data else []) if isinstance(data, dict) else data
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise DecodeError(
            f"the answer does not fit the reference: expected rows, got {shorten(rows)} at $.data", path="$.data"
        )
    return rows


def points(data: object, metric: str, dimension: str | None) -> tuple[Point, ...]:
    """Read rows of timestamp, value and, where one was asked for, dimension."""
    return _each(data, lambda row: _point(row, metric, dimension))


def user_points(data: object, metric: str) -> tuple[Point, ...]:
    """Read rows by user, each `{"uid": …, "values": […]}`, into points that carry the user."""
    by_user = _each(
        data, lambda row: [_point(value, metric, None, uid=_uid(row["uid"])) for value in rows_of(row["values"])]
    )
    return tuple(point for points in by_user for point in points)


def totals(data: object, metric: str, dimension: str | None) -> tuple[Total, ...]:
    """Read rows over a whole span."""
    return _each(data, lambda row: Total(*_split(row, metric, dimension), _number(row.get("refUsage"))))


def ranked(data: object, metric: str, dimension: str) -> tuple[Ranked, ...]:
    """Read rows of a top list; the user count beside a quality metric is not its value."""
    return _each(data, lambda row: _ranked(row, metric, dimension))


def _each(data: object, read: Callable[[Row], T]) -> tuple[T, ...]:
    """Read every row, and say which one does not fit."""
    result = []
    for index, row in enumerate(rows_of(data)):
        try:
            result.append(read(row))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            reason = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            path = f"$.data[{index}]"
            raise DecodeError(f"the answer does not fit the reference: {reason} at {path}", path=path) from error
    return tuple(result)


def _point(row: Row, metric: str, dimension: str | None, uid: int | str | None = None) -> Point:
    value, group = _split(row, metric, dimension)
    return Point.of(_whole(row["ts"]), value, metric=metric, dimension=dimension, dimension_value=group, uid=uid)


def _ranked(row: Row, metric: str, dimension: str) -> Ranked:
    users = row.get("userCount") if metric != "userCount" else None
    rest = row if users is None else {key: value for key, value in row.items() if key != "userCount"}
    value, group = _split(rest, metric, dimension)
    start, end = row.get("windowStartTs"), row.get("windowEndTs")
    return Ranked(
        dimension_value=group,
        value=value,
        windowStartTs=None if start is None else _whole(start),
        windowEndTs=None if end is None else _whole(end),
        userCount=_number(users),
    )


def _split(row: Row, metric: str, dimension: str | None) -> tuple[Number | None, str | None]:
    """Tell a row's value from its dimension's value."""
    rest = {key: value for key, value in row.items() if key not in _OTHER}
    value_key = (
        metric if metric in rest else _only(rest, "value", lambda key: key != dimension and not _is_text(rest[key]))
    )
    value = _number(rest.pop(value_key))
    if dimension is None:
        return value, None
    group_key = dimension if dimension in rest else _only(rest, f"{dimension!r}", lambda key: _is_text(rest[key]))
    group = rest[group_key]
    return value, None if group is None else str(group)


def _only(row: Row, what: str, fits: Callable[[str], bool]) -> str:
    keys = [key for key in row if fits(key)]
    if len(keys) != 1:
        raise ValueError(f"cannot tell which of {sorted(row)} is the {what}")
    return keys[0]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _number(value: object) -> Number | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if not isinstance(value, str):
        raise TypeError(f"expected a number, got {shorten(value)}")
    return int(value) if value.isdecimal() else float(value)


def _whole(value: object) -> int:
    number = _number(value)
    if number is None:
        raise TypeError("expected seconds, got None")
    return int(number)


def _uid(value: object) -> int | str:
    if isinstance(value, str) and not value.isdecimal():
        return value
    return _whole(value)
