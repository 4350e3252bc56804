"""Durations as people write them: `45s`, `20m`, `1h30m`."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART: Final = re.compile(r"(\d{1,20})([smhdw])")

DURATION: Final = re.compile(r"(?:\d+[smhdw])+")
"""What is written like a duration; its numbers may be of any length."""

EXAMPLES: Final = "45s, 20m, 3h, 2d, 1w or 1h30m"


def seconds_of(text: str) -> int | None:
    """Return the seconds of a text like `45s`, `20m`, `3h`, `2d`, `1w` or `1h30m`; None for any other.

    >>> seconds_of("1h30m")
    5400
    """
    if not re.fullmatch(rf"(?:{_PART.pattern})+", text):  # no number is too long to be read
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def text_of(seconds: int) -> str:
    """Return the shortest text of which `seconds_of` makes so many seconds.

    >>> text_of(5_400)
    '1h30m'
    """
    parts = []
    for unit, length in _UNITS.items():
        count, seconds = divmod(seconds, length)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"
