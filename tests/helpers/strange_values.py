"""Invalid values for each kind of argument."""

from __future__ import annotations

from enum import Enum
from typing import Any

from hypothesis import strategies as st

from agora_analytics import AnalyticsClient

SECRET = "s3cret-of-the-customer"


class Colour(Enum):
    """An `Enum` whose members are not allowed anywhere."""

    RED = ("red",)


# Values that no argument accepts.
STRANGE = st.one_of(
    st.builds(object),
    st.just(Colour.RED),
    st.binary(max_size=9),
    st.complex_numbers(allow_nan=False),
    st.dictionaries(st.integers(), st.integers(), min_size=1, max_size=2),
    st.just(AnalyticsClient),
)
TEXTS = st.one_of(st.sampled_from(["", "   ", "\ud800", "no", "0h", "x" * 500]), st.text(max_size=9))
NUMBERS = st.one_of(st.integers(), st.just(10**5_000), st.just(-(2**31) - 1))
FLOATS = st.floats()
LISTS = st.lists(st.one_of(st.none(), st.floats(), st.builds(object)), min_size=1, max_size=3)
NONE = st.none()
NOT_TEXT = st.one_of(STRANGE, NUMBERS, FLOATS, LISTS)
EMPTY = st.sampled_from(["", "  ", "\ud800"])
ANYTHING = st.one_of(STRANGE, NUMBERS, FLOATS, LISTS, TEXTS)

INVALID: dict[str, st.SearchStrategy[Any]] = {
    "text": st.one_of(NOT_TEXT, EMPTY, NONE),
    "text or None": st.one_of(NOT_TEXT, EMPTY),
    "choice": st.one_of(ANYTHING, NONE),
    "granularity": st.one_of(NOT_TEXT, EMPTY, st.sampled_from(["0h", "00m", "-1d"]), NONE),
    "app": st.one_of(NOT_TEXT, EMPTY, st.sampled_from(['"app"', "an app", "app\n"]), NONE),
    "app or None": st.one_of(NOT_TEXT, EMPTY, st.sampled_from(['"app"', "an app", "app\n"])),
    "secret": st.one_of(NOT_TEXT, EMPTY, NONE, st.sampled_from([f'"{SECRET}"', f"{SECRET}\n", [SECRET]])),
    "time": st.one_of(STRANGE, FLOATS, LISTS, TEXTS, st.integers(max_value=-1), st.just(10**5_000), NONE),
    "time or None": st.one_of(STRANGE, FLOATS, LISTS, TEXTS, st.integers(max_value=-1), st.just(10**5_000)),
    "duration": st.one_of(STRANGE, FLOATS, LISTS, TEXTS, st.integers(max_value=0), st.just(10**5_000), NONE),
    "count": st.one_of(STRANGE, FLOATS, LISTS, TEXTS, st.integers(max_value=-1), st.just(10**5_000), NONE),
    "count or None": st.one_of(STRANGE, FLOATS, LISTS, TEXTS, st.integers(max_value=-1), st.just(10**5_000)),
    "number": st.one_of(STRANGE, LISTS, TEXTS, st.sampled_from([float("nan"), -1, -0.5, True, 10**5_000]), NONE),
    "number or None": st.one_of(STRANGE, LISTS, TEXTS, st.sampled_from([float("nan"), -1, True, 10**5_000])),
    "flag": st.one_of(ANYTHING, NONE),
    "list": st.one_of(STRANGE, NUMBERS, FLOATS, LISTS, TEXTS, NONE),
    "list or None": st.one_of(STRANGE, NUMBERS, FLOATS, LISTS, TEXTS),
    "object": st.one_of(ANYTHING, NONE),
    "object or None": ANYTHING,
    # Text may be the name of a checkpoint.
    "checkpoint": st.one_of(STRANGE, NUMBERS, FLOATS, LISTS, EMPTY),
    "function": st.one_of(st.integers(), FLOATS, LISTS, TEXTS, NONE),
    "function or None": st.one_of(st.integers(), FLOATS, LISTS, TEXTS),
    "path": st.one_of(STRANGE, NUMBERS, FLOATS, LISTS, NONE, st.sampled_from(["", "a\0b", "~nobody-of-this-name"])),
    "path or None": st.one_of(STRANGE, NUMBERS, FLOATS, LISTS, st.sampled_from(["", "a\0b"])),
    "hosts": st.one_of(NOT_TEXT, EMPTY, NONE, st.sampled_from(["ftp://x", [f"https://x:{SECRET}@y"], []])),
    "mapping": st.one_of(STRANGE, NUMBERS, FLOATS, LISTS, TEXTS),
}
