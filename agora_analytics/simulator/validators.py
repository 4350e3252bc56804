"""Validators of the simulator's arguments: each takes a name and a value, and returns the value or raises.

They raise `ValueError` or `TypeError` that names the argument, the value and what is allowed. A typo in a test's setup,
such as an unknown kind of fault, must not pass silently: the test would then check nothing.
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
MILLISECONDS_FROM: Final = 100_000_000_000
"""UTC seconds from this value on are milliseconds by mistake."""


def literal(literal: object, name: str, value: object) -> str:
    """Return one of the strings of a `Literal`."""
    return validation.one_of(name, value, get_args(literal))


def fraction(name: str, value: object) -> float:
    """Return a number from 0 to 1, both inclusive."""
    result = finite(name, value)
    if not 0 <= result <= 1:
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are numbers from 0 to 1")
    return result


def finite(name: str, value: object) -> float:
    """Return a finite number; it may be negative."""
    result = _number(name, value)
    if not math.isfinite(result):
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are finite numbers")
    return result


def utc_seconds(name: str, value: object) -> float:
    """Return UTC seconds; infinity of either sign is allowed, milliseconds are not."""
    result = _number(name, value)
    if math.isnan(result) or MILLISECONDS_FROM <= result < math.inf:
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are UTC seconds, not milliseconds")
    return result


def utc_seconds_or_inf(name: str, value: object) -> float:
    """Return UTC seconds of an end; any number later than all times, such as infinity, means never."""
    result = _number(name, value)
    if math.isnan(result):
        raise ValueError(f"{name}={validation.short_repr(value)}: allowed are UTC seconds")
    return result


def whole_utc_seconds(name: str, value: object) -> int:
    """Return UTC seconds as an int."""
    if validation.as_int(value) is None:
        raise validation.type_error(name, value, "whole UTC seconds")
    return int(utc_seconds(name, validation.as_int(value)))


def check_member(name: str, value: str | None, allowed: Collection[str]) -> None:
    """Raise `ValueError` or `TypeError` unless `value` is in `allowed`; cheap enough to call for each row."""
    if value not in allowed:
        validation.one_of(name, value, allowed)


def clock(name: str, value: Any) -> WallClock | float:
    """Return UTC seconds, or a function that returns them."""
    # A class is callable, too: `clock=datetime` is a mistake and no clock.
    if callable(value) and not isinstance(value, type):
        result: WallClock = value
        return result
    if isinstance(validation.enum_value(value), bool) or not isinstance(validation.enum_value(value), _REAL):
        raise validation.type_error(name, value, "UTC seconds, or a function that returns them")
    return finite(name, utc_seconds(name, value))


def string(name: str, value: object) -> str:
    """Return a str, which may be empty."""
    result = validation.enum_value(value)
    if not isinstance(result, str):
        raise validation.type_error(name, value, "a str")
    return result


def integer(name: str, value: object) -> int:
    """Return an int; it may be negative."""
    return validation.int_in_range(name, value, -(2**63), 2**63)


non_negative = partial(validation.int_in_range, least=0)
positive_integer = partial(validation.int_in_range, least=1)
positive = partial(validation.number_in_range, above=True)


def optional(validator: Any) -> Any:
    """Return a validator that also allows None."""
    return partial(validation.none_or, validator)


def instance_of(kind: type[Any]) -> Any:
    """Return a validator of instances of a class."""
    return partial(validation.instance, kind=kind)


def _number(name: str, value: object) -> float:
    result = validation.enum_value(value)
    if isinstance(result, bool) or not isinstance(result, _REAL):
        raise validation.type_error(name, value, "a number")
    # An int stays one, since whole seconds have to be exact; a Decimal or a NumPy number must not spread further.
    return result if isinstance(result, int) else float(result)
