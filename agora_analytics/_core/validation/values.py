"""Rules for single values: texts, numbers, flags, credentials, objects and paths, and how errors show a value.

An error shows a value short, on one line, and never runs the `repr` of an unknown class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from enum import Enum
from numbers import Real
from operator import index
from pathlib import Path
from reprlib import Repr
from types import NoneType
from typing import Any, Final, TypeVar

_MAX_SHOWN: Final = 100
"""Characters of a value that an error shows at most."""

# Another class's `repr` may be of any length, and may show a password, as that of aiohttp's BasicAuth does.
_PLAIN: Final = (str, int, float, complex, date, timedelta, Enum, NoneType)


class _Short(Repr):
    """Shows plain values and lists of them; of everything else the class."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong = 2, 60, 40

    def repr_instance(self, x: object, level: int) -> str:
        """Show a value of no built-in list."""
        del level
        return repr(x) if isinstance(x, _PLAIN) else f"<{type(x).__name__}>"


def short_repr(value: object) -> str:
    """Return the `repr` of a value, at most 100 characters on one line, without calling unknown classes' `repr`."""
    try:
        text = _Short().repr(value)
    except Exception:  # noqa: BLE001 - a `repr` may raise anything, and an int of 5,000 digits has none
        text = f"<{type(value).__name__}>"
    line = printable(text)
    return line if len(line) <= _MAX_SHOWN else f"{line[: _MAX_SHOWN - 3]}..."


def printable(text: str) -> str:
    """Replace control characters and ends of lines by spaces: channel names and service messages are untrusted."""
    return "".join(char if char.isprintable() else " " for char in text)


def type_error(name: str, value: object, allowed: str) -> TypeError:
    """Return the `TypeError` of an argument."""
    return TypeError(f"{name}={short_repr(value)}: allowed is {allowed}")


_MOST: Final = 2**31 - 1
"""Default upper bound of whole numbers: 32 bits, which every service can read."""

_ENDLESS: Final = 1e15
"""Default upper bound of other numbers."""

_REAL: Final[tuple[type[Any], ...]] = (int, float, Real)
"""`Real` last: it has the numbers of numpy and others, and asking it is slow."""

_QUOTES: Final = "\"'`\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
"""Shells and editors leave these in environment files, around a secret that is then refused as wrong."""

_STEPS: Final = re.compile(r"-?(0|[0-9]{1,9})[A-Za-z]")


def enum_value(value: object) -> Any:
    """Return the value of an `Enum`'s member, and anything else as it is."""
    # A loop, as the value of a member may be a member of another Enum.
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
    # The plain str of a subclass, whose own methods could change what is sent.
    return str.__str__(found)


def is_sendable(value: object) -> bool:
    """Whether a text from the service can be sent back to it; used where an error would blame the caller."""
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
    """Return a bucket's length: any text, but one like `1h` must be positive."""
    found = non_empty_str(name, value)
    step = _STEPS.fullmatch(found)
    if step and int(found[:-1]) < 1:
        raise ValueError(f"{name}={short_repr(found)}: allowed are buckets of at least 1{found[-1]}")
    return found


def as_int(value: object) -> int | None:
    """Return a whole number of any class as an int, and None for anything else: bools and floats too."""
    found = enum_value(value)
    # Python takes True for 1, which no caller means.
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
    """Return a number from 0 (excluded with `above`) to `below` (excluded); with `endless` infinity too."""
    found = enum_value(value)
    if isinstance(found, bool) or not isinstance(found, _REAL):
        raise type_error(name, value, "a number")
    enough = found > 0 if above else found >= 0
    # NaN compares false with everything, and is refused by either.
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
    """Return the error of an invalid secret, or None; raised here, a traceback with locals would show the secret."""
    if not isinstance(value, str):
        return TypeError(f"{name} must be a str, not {type(value).__name__} (value not shown)")
    if not value or value != value.strip():
        return ValueError(f"{name} is empty or has spaces around it (value not shown)")
    if value[0] in _QUOTES or value[-1] in _QUOTES:
        return ValueError(f"{name} is in quotes (value not shown): remove them, as from an environment file")
    if not value.isprintable() or any(map(str.isspace, value)):
        return ValueError(f"{name} has spaces or control characters in it (value not shown)")
    return None


T = TypeVar("T")

Rule = Callable[[str, Any], Any]


def instance(name: str, value: object, kind: type[T]) -> T:
    """Return a value of a class."""
    if not isinstance(value, kind):
        raise type_error(name, value, f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}")
    return value


def with_members(name: str, value: T, allowed: str, *members: str) -> T:
    """Return an object of any class that has these methods and properties; not a class itself."""
    if isinstance(value, type) or not all(hasattr(value, member) for member in members):
        raise type_error(name, value, allowed)
    return value


def function(name: str, value: T, allowed: str) -> T:
    """Return a callable."""
    if not callable(value):
        raise type_error(name, value, allowed)
    return value


def mapping(name: str, value: object, kind: type[T]) -> Mapping[str, T]:
    """Return a mapping from str to a class; the error shows no value, as these may be secrets."""
    if not isinstance(value, Mapping) or not all(
        isinstance(key, str) and isinstance(one, kind) for key, one in value.items()
    ):
        raise TypeError(f"{name}: allowed is a mapping from str to {kind.__name__} (value not shown)")
    return value


def none_or(rule: Callable[..., T], name: str, value: object, *more: Any) -> T | None:
    """Return None for None, and otherwise what the rule returns."""
    return None if value is None else rule(name, value, *more)


def path(name: str, value: object) -> Path:
    """Return the path of a file or folder, `~` replaced by the user's folder."""
    # Of the class, as `os.fspath` looks it up; an instance may have any attribute, as mocks do.
    if not isinstance(value, str) and not hasattr(type(value), "__fspath__"):
        raise type_error(name, value, "a path: a str or a Path")
    try:
        found = Path(value)  # type: ignore[arg-type]  # what has __fspath__ is a path
    except TypeError:  # of bytes
        raise type_error(name, value, "a path: a str or a Path") from None
    if value == "" or "\0" in str(found):
        raise ValueError(f"{name}={short_repr(str(value))} is no path: it is empty or has a null character in it")
    try:
        return found.expanduser()
    except RuntimeError:
        raise ValueError(f"{name}={short_repr(str(found))}: there is no such user's folder") from None


def apply_rules(model: object, **rules: Rule) -> None:
    """Apply rules to the fields of a frozen attrs object in its `__attrs_post_init__`."""
    for name, rule in rules.items():
        object.__setattr__(model, name, rule(name, getattr(model, name)))
