"""Rules for lists: a single value is an error; a str is never a list of its letters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from agora_analytics._core.validation.values import (
    app_id,
    as_int,
    enum_value,
    int_in_range,
    is_sendable,
    non_empty_str,
    short_repr,
    type_error,
)

T = TypeVar("T")

# The most that the reference allows in one request.
UIDS: Final = 10
SIDS: Final = 20
PAGE_SIZE: Final = 100

_UNSIGNED: Final = 2**32
_SIGNED: Final = re.compile(r"-[0-9]{1,10}")


def as_list(name: str, values: object, of: str) -> tuple[Any, ...]:
    """Return the items of a list, unchecked; `of` names what is allowed in it."""
    allowed = f"a list of {of}"
    # An array without dimensions calls itself iterable and is not; one of several has rows for items.
    alone = isinstance(values, str | bytes | bytearray | memoryview | Mapping) or getattr(values, "ndim", 1) != 1
    if alone or not isinstance(values, Iterable):
        raise type_error(name, values, f"{allowed}, not one")
    return tuple(values)


def non_empty_strs(name: str, values: object) -> tuple[str, ...]:
    """Return a list of texts, none of them empty."""
    return tuple(non_empty_str(f"{name}[{place}]", value) for place, value in enumerate(as_list(name, values, "str")))


def app_ids(name: str, values: object) -> tuple[str, ...]:
    """Return a list of App IDs."""
    return tuple(app_id(f"{name}[{place}]", value) for place, value in enumerate(as_list(name, values, "App IDs")))


def ints_from(name: str, values: object, least: int) -> tuple[int, ...]:
    """Return a list of whole numbers from `least`."""
    found = as_list(name, values, "whole numbers")
    return tuple(int_in_range(f"{name}[{place}]", value, least) for place, value in enumerate(found))


def instances(name: str, values: object, kind: type[T]) -> tuple[T, ...]:
    """Return a list of values of a class."""
    found = as_list(name, values, kind.__name__)
    for place, value in enumerate(found):
        if not isinstance(value, kind):
            raise type_error(f"{name}[{place}]", value, f"a {kind.__name__}")
    return found


def repeated(values: Iterable[T]) -> T | None:
    """Return the first value that is there twice, or None."""
    seen: set[T] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def uids(values: object) -> tuple[int | str, ...]:
    """Return a list of distinct user IDs: unsigned 32-bit numbers, or texts without a comma.

    Android shows numbers above 2**31 as negative ones: the same 32 bits, read as a signed number.
    """
    found = [_uid(f"uids[{place}]", value) for place, value in enumerate(as_list("uids", values, "user IDs"))]
    # By text, as a query has them: 5 and "5" are one user.
    return tuple({str(value): value for value in found}.values())


def without_commas(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return texts that a query separates by commas: none may contain one."""
    for value in values:
        if "," in value:
            raise ValueError(f"{name}: {short_repr(value)} contains a comma, which separates one from the next")
    return values


def is_without_commas(value: str) -> bool:
    """Whether a text from the service can be one of several in a query (see `is_sendable`)."""
    return is_sendable(value) and "," not in value


def without_quotes(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return texts that a query encloses in double quotes: none may contain one."""
    for value in values:
        if '"' in value:
            raise ValueError(f"{name}: {short_repr(value)} contains a double quote, which encloses values")
    return values


def max_length(name: str, values: tuple[T, ...], most: int) -> tuple[T, ...]:
    """Return a list of at most `most` items, which one request can carry."""
    if len(values) > most:
        raise ValueError(f"{name} has {len(values)} entries: one request takes at most {most}")
    return values


def dimension_values(dimension: str | None, values: object) -> tuple[str, ...]:
    """Return the values of a dimension; an error without a dimension."""
    checked = non_empty_strs("dimension_values", values)
    if checked and dimension is None:
        raise ValueError(f"dimension_values={short_repr(checked)} need a dimension")
    return checked


def _uid(name: str, value: object) -> int | str:
    found = as_int(value)
    if found is not None:
        return int_in_range(name, found, -_UNSIGNED // 2, _UNSIGNED - 1) % _UNSIGNED
    if not isinstance(enum_value(value), str):
        raise type_error(name, value, "a user ID: an int or a str")
    (checked,) = without_commas(name, (non_empty_str(name, value),))
    if _SIGNED.fullmatch(checked) and int(checked) >= -_UNSIGNED // 2:
        return str(int(checked) % _UNSIGNED)
    return checked
