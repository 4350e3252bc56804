"""Rows whose keys are not known in advance: value and group are found by elimination.

The service may echo another name than the requested one (`sdkVersion` for `sdk`, `peakConcurrentUsers` for
`peakCurrentUsers`). The number that is neither a timestamp nor usage is the value, the remaining text the dimension's.
An ambiguous row is an error, never a guess.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from agora_analytics._core.decoding.json import MisfitError, short_repr
from agora_analytics.models.points import Number, Point, Ranked, Total, shape

Row = Mapping[str, Any]
T = TypeVar("T")

_OTHER = frozenset({"ts", "refUsage", "windowStartTs", "windowEndTs", "uid"})
"""Keys that are neither a row's value nor its dimension."""


def point(row: object, metric: str, dimension: str | None) -> Point:
    """Read a row of timestamp, value and, where one was given, dimension."""
    return _read(row, lambda fields: _point(fields, metric, dimension))


def user_points(row: object, metric: str) -> tuple[Point, ...]:
    """Read a row of a user, `{"uid": …, "values": […]}`, into points that carry the user."""
    return _read(row, lambda fields: _user_points(fields, metric))


def total(row: object, metric: str, dimension: str | None) -> Total:
    """Read a row over a whole span."""
    return _read(
        row, lambda fields: Total(*_value_and_group(fields, metric, dimension), _number(fields.get("refUsage")))
    )


def ranked(row: object, metric: str, dimension: str) -> Ranked:
    """Read a row of a top list; the user count beside a quality metric is not its value."""
    return _read(row, lambda fields: _ranked(fields, metric, dimension))


def number(value: object) -> Number:
    """Read a number, or text that says one as JSON does; raises `MisfitError`."""
    if type(value) is int and -_TOO_LARGE <= value < _TOO_LARGE:
        return value  # nearly always
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        # As an int where possible: a float would lose the last digits of a large number.
        value = int(value) if _is_digits(value) else float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
        raise MisfitError(f"expected a number, got {short_repr(value)}")
    if isinstance(value, int) and not -_TOO_LARGE <= value < _TOO_LARGE:
        raise MisfitError(f"expected a number, got {short_repr(value)}")
    return value


def decimal(value: object) -> float:
    """Read a number as a float, which holds numbers of more than 64 bits too; raises `MisfitError`."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    # As the strict decoder does: what becomes of a number must not depend on the rows beside it.
    if isinstance(value, int | float) and not isinstance(value, bool) and -_MAX_ITEM <= value <= _MAX_ITEM:
        return float(value)
    raise MisfitError(f"expected a number, got {short_repr(value)}")


def whole(value: object) -> int:
    """Read a whole number, or text that says one; raises `MisfitError` for others, also for 2.5."""
    if type(value) is int and -_TOO_LARGE <= value < _TOO_LARGE:
        return value  # nearly always
    try:
        found = number(value)
    except MisfitError:
        # Not whole, so that the error below speaks of a whole number.
        found = 0.5
    if found != int(found) or not -_TOO_LARGE <= found < _TOO_LARGE:
        raise MisfitError(f"expected a whole number, got {short_repr(value)}")
    return int(found)


def uid(value: object) -> int | str:
    """Read a user ID: numeric text becomes a number, other text stays as it is."""
    # Up to 18 digits surely fit 64 bits; longer ones stay a text.
    if isinstance(value, str) and not (_is_digits(value) and len(value) < _DIGITS and value[0] != "-"):
        return value
    return whole(value)


_TOO_LARGE = 1 << 63
"""The first number that files and data frames cannot hold as an integer of 64 bits."""

_MAX_ITEM = sys.float_info.max
_DIGITS = 19
"""Digits of the largest number of 64 bits: one with as many may be too large."""

# Bounded lengths, so that no text takes long to convert.
_NUMBER = re.compile(r"-?[0-9]{1,308}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


def _is_digits(value: str) -> bool:
    return value.isascii() and value.removeprefix("-").isdecimal()


def _read(row: object, read: Callable[[Row], T]) -> T:
    if not isinstance(row, dict):
        raise MisfitError(f"expected an object, got {short_repr(row)}")
    try:
        return read(row)
    except KeyError as error:
        raise MisfitError(f"field {error} is missing") from error


def _user_points(row: Row, metric: str) -> tuple[Point, ...]:
    user, values = row["uid"], row["values"]
    # The reference shows a list; other answers wrap lists in an object, so both are read.
    if isinstance(values, dict):
        values = values.get("list", [values] if values else [])
    if not isinstance(values, list | None):
        raise MisfitError(f"expected rows, got {short_repr(values)}", ".values")
    known = uid(user) if values else None
    return tuple(_read(value, lambda one: _point(one, metric, None, known)) for value in values or ())


def _point(row: Row, metric: str, dimension: str | None, user: int | str | None = None) -> Point:
    value, group = _value_and_group(row, metric, dimension)
    values = (group,) if dimension else ()
    users = () if user is None else (user,)
    make: Callable[..., Point] = shape(metric, dimension, user=user is not None)
    return make(whole(row["ts"]), value, *values, *users)


def _ranked(row: Row, metric: str, dimension: str) -> Ranked:
    users = row.get("userCount") if metric != "userCount" else None
    rest = row if users is None else {key: value for key, value in row.items() if key != "userCount"}
    value, group = _value_and_group(rest, metric, dimension)
    start, end = row.get("windowStartTs"), row.get("windowEndTs")
    return Ranked(
        dimension_value=group,
        value=value,
        window_start=None if start is None else whole(start),
        window_end=None if end is None else whole(end),
        user_count=_number(users),
    )


def _value_and_group(row: Row, metric: str, dimension: str | None) -> tuple[Number | None, str | None]:
    """Split a row into its value and its dimension's value."""
    if metric in row and (dimension is None or dimension in row):  # nearly always
        return _number(row[metric]), None if dimension is None else _group(row[dimension], dimension)
    rest = {key: value for key, value in row.items() if key not in _OTHER}
    value_key = (
        metric
        if metric in rest
        else _single_key(rest, "value", lambda key: key != dimension and not _is_text(rest[key]))
    )
    value = _number(rest.pop(value_key))
    if dimension is None:
        return value, None
    group_key = dimension if dimension in rest else _single_key(rest, f"{dimension!r}", lambda key: _is_text(rest[key]))
    return value, _group(rest[group_key], group_key)


def _group(group: object, key: str) -> str | None:
    if isinstance(group, list | dict):
        raise MisfitError(f"expected text, got {short_repr(group)}", f".{key}")
    return None if group is None else str(group)


def _single_key(row: Row, what: str, fits: Callable[[str], bool]) -> str:
    keys = [key for key in row if fits(key)]
    if len(keys) != 1:
        raise MisfitError(f"cannot tell which of {short_repr(sorted(row))} is the {what}")
    return keys[0]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _number(value: object) -> Number | None:
    return None if value is None else number(value)
