"""Rules for single values: texts, numbers, flags, names and credentials."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from enum import Enum
from numbers import Real
from operator import index
from typing import Any, Final

from agora_analytics._core.validation.messages import short_repr, type_error

_MOST: Final = 2**31 - 1
"""Default upper bound of whole numbers: what no service and no sum over it will mistake."""

_ENDLESS: Final = 1e15
"""Default upper bound of other numbers."""

_REAL: Final[tuple[type[Any], ...]] = (int, float, Real)
_QUOTES: Final = "\"'`\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_STEPS: Final = re.compile(r"-?(0|[0-9]{1,9})[A-Za-z]")


def enum_value(value: object) -> Any:
    """Return the value of an `Enum`'s member, and anything else as it is."""
    while isinstance(value, Enum):
        value = value.value
    return value


def non_empty_str(name: str, value: object) -> str:
    """Return a text that is not empty and can be sent."""
    found = enum_value(value)
    if not isinstance(found, str):
        raise type_error(name, value, "a str")
    if not found.strip():
        raise ValueError(f"{name}={short_repr(found)} is empty")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}={short_repr(found)} has half a character in it, a lone surrogate") from None
    return str.__str__(found)


def is_sendable(value: object) -> bool:
    """Whether a text that the service sent can be sent back to it: what came is no argument, and no mistake of ours."""
    try:
        non_empty_str("value", value)
    except (TypeError, ValueError):
        return False
    return True


def optional_str(name: str, value: object) -> str | None:
    """Return a text that is not empty, or None."""
    return None if value is None else non_empty_str(name, value)


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return one of a few texts."""
    names = tuple(map(str, allowed))
    found = enum_value(value)
    if not isinstance(found, str):
        raise type_error(name, value, f"one of {', '.join(names)}")
    if found not in names:
        raise ValueError(f"{name}={short_repr(found)}: allowed are {', '.join(names)}")
    return str.__str__(found)


def granularity(name: str, value: object) -> str:
    """Return a bucket's length: any text, but of those like `1h` only such as are longer than nothing."""
    found = non_empty_str(name, value)
    step = _STEPS.fullmatch(found)
    if step and int(found[:-1]) < 1:
        raise ValueError(f"{name}={short_repr(found)}: allowed are buckets of at least 1{found[-1]}")
    return found


def as_int(value: object) -> int | None:
    """Return a whole number of any class as an int, and None for anything else: bools and floats too."""
    found = enum_value(value)
    if isinstance(found, bool):
        return None
    try:
        return int(index(found))  # of numpy's, pandas' and others'
    except TypeError:
        return None


def int_in_range(name: str, value: object, least: int, most: int = _MOST) -> int:
    """Return a whole number within bounds, both included."""
    found = as_int(value)
    if found is None:
        raise type_error(name, value, "an int")
    if not least <= found <= most:
        allowed = f"{least} or more" if most == _MOST and found < least else f"{least} to {most}"
        raise ValueError(f"{name}={short_repr(found)}: allowed are {allowed}")
    return found


def number_in_range(
    name: str, value: object, *, above: bool = False, below: float = _ENDLESS, endless: bool = False
) -> float:
    """Return a number from 0 (not itself where it is to be `above`) to `below`; `endless` takes infinity too."""
    found = enum_value(value)
    if isinstance(found, bool) or not isinstance(found, _REAL):
        raise type_error(name, value, "a number")
    enough = found > 0 if above else found >= 0
    if not enough or not (found < below or (endless and found == math.inf)):
        most = "" if below == _ENDLESS else f" to below {below:g}"
        raise ValueError(f"{name}={short_repr(found)}: allowed are numbers {'above' if above else 'from'} 0{most}")
    return found if isinstance(found, int) else float(found)


def boolean(name: str, value: object) -> bool:
    """Return True or False; a text like "no" would count as true."""
    found = enum_value(value)
    if not isinstance(found, bool):
        raise type_error(name, value, "True or False")
    return found


def app_id(name: str, value: object) -> str:
    """Return an App ID; the error does not show it."""
    found = enum_value(value)
    error = secret_error(name, found)
    if error is not None:
        raise error
    return str.__str__(found)


def secret_error(name: str, value: object) -> Exception | None:
    """Return what is wrong with a text that is not to be shown; raised from here, reporters would show it."""
    if not isinstance(value, str):
        return TypeError(f"{name} must be a str, not {type(value).__name__} (value not shown)")
    if not value or value != value.strip():
        return ValueError(f"{name} is empty or has spaces around it (value not shown)")
    if value[0] in _QUOTES or value[-1] in _QUOTES:
        return ValueError(f"{name} is in quotes (value not shown): remove them, as from an environment file")
    if not value.isprintable() or any(map(str.isspace, value)):
        return ValueError(f"{name} has spaces or control characters in it (value not shown)")
    return None
