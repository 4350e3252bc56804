"""Arguments, checked before a request is spent on them: each error names the argument, the value, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

UIDS = 10
SIDS = 20
PAGE_SIZE = 100
_MOST_UID = 2**32 - 1


def text(name: str, value: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: allowed is a str")
    if not value.strip():
        raise ValueError(f"{name}={value!r} is empty")
    return str(value)


def optional(name: str, value: object) -> str | None:
    """Return a text that is not empty, or None."""
    return None if value is None else text(name, value)


def number(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return a whole number within bounds, both included."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r}: allowed is an int")
    if value < least or (most is not None and value > most):
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{name}={value!r}: allowed are {allowed}")
    return value


def texts(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return a list of texts, none of them empty; one text alone is a mistake, not a list of letters."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name}={values!r}: allowed is a list of str, not one")
    return tuple(text(f"{name}[{index}]", value) for index, value in enumerate(values))


def uids(values: Iterable[int | str]) -> tuple[int | str, ...]:
    """Return a list of user IDs: unsigned 32-bit numbers, or texts without a comma."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"uids={values!r}: allowed is a list of user IDs")
    return tuple(_uid(f"uids[{index}]", value) for index, value in enumerate(values))


def at_most(name: str, values: tuple[T, ...], most: int) -> tuple[T, ...]:
    """Return a list that one request can carry."""
    if len(values) > most:
        raise ValueError(f"{name} has {len(values)} entries: one request takes at most {most}")
    return values


def _uid(name: str, value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        return number(name, value, 0, _MOST_UID)
    checked = text(name, value)
    if "," in checked:
        raise ValueError(f"{name}={value!r} contains a comma, which separates user IDs")
    return checked


def dimension_values(dimension: str | None, values: Iterable[str]) -> tuple[str, ...]:
    """Return the values of a dimension, none where no dimension is given."""
    checked = texts("dimension_values", values)
    if checked and dimension is None:
        raise ValueError(f"dimension_values={checked!r} need a dimension")
    for value in checked:
        if '"' in value:
            raise ValueError(f"dimension_values: {value!r} contains a double quote, which encloses values")
    return checked
