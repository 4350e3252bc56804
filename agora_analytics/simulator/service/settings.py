"""What the simulator's settings may be, so that a wrong one is an error where it is given.

A test whose fault has a name that nobody knows would pass without having tried anything.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from numbers import Real
from typing import Any, Final, get_args

from agora_analytics._core import validation
from agora_analytics.protocols import WallClock

_REAL: Final[tuple[type[Any], ...]] = (int, float, Real)
_FAR: Final = 1e11
"""Later than any UTC second that is meant: milliseconds are."""


def one_of(literal: object, name: str, value: object) -> str:
    """Return one of a `Literal`'s texts."""
    return validation.one_of(name, value, get_args(literal))


def fraction(name: str, value: object) -> float:
    """Return a number from 0 to 1, both included."""
    found = seconds(name, value)
    if not 0 <= found <= 1:
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are numbers from 0 to 1")
    return found


def seconds(name: str, value: object) -> float:
    """Return a finite number of either sign."""
    found = _number(name, value)
    if not math.isfinite(found):
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are finite numbers")
    return found


def moment(name: str, value: object) -> float:
    """Return UTC seconds, or infinity of either sign."""
    found = _number(name, value)
    if math.isnan(found) or _FAR <= found < math.inf:
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are UTC seconds, not milliseconds")
    return found


def later(name: str, value: object) -> float:
    """Return UTC seconds, or any number that stands for never."""
    found = _number(name, value)
    if math.isnan(found):
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are UTC seconds")
    return found


def second(name: str, value: object) -> int:
    """Return whole UTC seconds."""
    if validation.as_int(value) is None:
        raise validation.type_error(name, value, "whole UTC seconds")
    return int(moment(name, validation.as_int(value)))


def one_of_few(name: str, value: str | None, few: Collection[str]) -> None:
    """Raise `ValueError` or `TypeError` for none of a few texts; quick enough to ask for each row."""
    if value not in few:
        validation.one_of(name, value, few)


def clock(name: str, value: Any) -> WallClock | float:
    """Return a moment, or a function that tells the time."""
    if callable(value) and not isinstance(value, type):
        found: WallClock = value
        return found
    if isinstance(validation.enum_value(value), bool) or not isinstance(validation.enum_value(value), _REAL):
        raise validation.type_error(name, value, "UTC seconds, or a function that returns them")
    return seconds(name, moment(name, value))


def words(name: str, value: object) -> str:
    """Return a text, which may be empty."""
    found = validation.enum_value(value)
    if not isinstance(found, str):
        raise validation.type_error(name, value, "a str")
    return found


def whole(name: str, value: object) -> int:
    """Return a whole number of either sign."""
    return validation.int_in_range(name, value, -(2**63), 2**63)


count = partial(validation.int_in_range, least=0)
some = partial(validation.int_in_range, least=1)
above_nothing = partial(validation.number_in_range, above=True)


def or_none(rule: Any) -> Any:
    """Return the rule that allows None too."""
    return partial(validation.none_or, rule)


def an(kind: type[Any]) -> Any:
    """Return the rule for values of a class."""
    return partial(validation.instance, kind=kind)


def _number(name: str, value: object) -> float:
    found = validation.enum_value(value)
    if isinstance(found, bool) or not isinstance(found, _REAL):
        raise validation.type_error(name, value, "a number")
    return found if isinstance(found, int) else float(found)
