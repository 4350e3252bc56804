"""What a stream needs of the day, and gets."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Budget"]


class Demand(NamedTuple):
    """Requests that a stream needs for the rest of today and per day afterwards, and its weight among streams."""

    rest: int
    daily: int
    weight: float = 1.0


class Budget(NamedTuple):
    """A stream's share of what is left of the day: requests, and seconds until the next day begins.

    `others` is how many of them other programs will probably take first.
    """

    requests: int
    seconds: float
    others: int = 0

    def leaving(self, needed: float) -> int:
        """Return how many requests to plan with: leaves other programs their part, but never less than `needed`."""
        return max(self.requests - self.others, min(self.requests, math.ceil(needed)))
