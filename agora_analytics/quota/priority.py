"""Who goes first: the priorities of requests."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

__all__ = ["Priority"]

MIN_SHARE: Final = 10
"""While a priority waits, one of so many permits is its own, so that none starves."""

_INTERACTIVE_SHARE: Final = 0.05
"""Fraction of the day's requests that exports leave to interactive ones."""


class Priority(StrEnum):
    """The order in which requests get their permits: interactive, then streams, then exports.

    While a lower priority waits, every tenth permit is its own.
    """

    INTERACTIVE = "interactive"
    STREAM = "stream"
    EXPORT = "export"


SERVED_BEFORE: Final = {priority: tuple(Priority)[: number + 1] for number, priority in enumerate(Priority)}
"""The priorities whose waiters go before a new one of a priority: the higher ones and, first in first out, its own."""


def interactive_reserve(per_day: int) -> int:
    """Return how many of a day's requests exports leave to interactive ones."""
    # Rounded up, so that even the smallest plan leaves one.
    return math.ceil(_INTERACTIVE_SHARE * per_day)
