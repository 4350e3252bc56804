"""What rate-limit errors teach: other limits than the plan's, and how much other programs use.

An error may name a limit. Nobody knows whether it is the account's for good or of that moment, so it is believed for a
day, and no longer once the plan's own number changes; the next error teaches it again.

The service does not say what others use, but an error for the day shows what was used besides our own requests.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import attrs

from agora_analytics.plans import Unit
from agora_analytics.spans import DAY

_TTL: Final = DAY
"""Seconds for which a learned limit replaces the plan's."""

_PLANNING_TTL: Final = 2.5 * _TTL
"""Seconds for which streams plan with a learned limit; each evening they find out whether it still holds."""

_MAX_LIMIT: Final = 10**6
"""Requests per unit above which a number in an error message is no limit."""

_LATEST_WEIGHT: Final = 0.5
"""Weight of the latest exhausted day: a program that ran once is not planned for like one that runs every day."""

_DECAY: Final = 0.9
"""Factor per day without such an error, which only shows that others did not use more."""


class LearnedLimit(NamedTuple):
    """A limit that an error named, when (UTC seconds), and what the plan's limit was then."""

    limit: int
    at: float
    planned: int


@attrs.define
class LearnedLimits:
    """Learned limits by unit; `unconfirmed` is the limit that the last error named, believed or not."""

    limits: dict[Unit, LearnedLimit] = attrs.field(factory=dict)
    unconfirmed: dict[Unit, int] = attrs.field(factory=dict)

    def limit(self, unit: Unit, planned: int, utc: float) -> int:
        """Return the limit that holds: one that was learned within the last day, else the plan's."""
        if not self.limits or self.age(unit, planned, utc) is None:
            return planned
        return self.limits[unit].limit

    def age(self, unit: Unit, planned: int, utc: float) -> float | None:
        """Return seconds since the limit that holds was learned, None where the plan's holds.

        Forgets one that is too old even to plan with.
        """
        learned = self.limits.get(unit)
        if learned is None:
            return None
        age = utc - learned.at if learned.planned == planned else math.inf
        if abs(age) < _TTL:  # a clock that was set back makes it negative
            return max(0.0, age)
        # A higher limit must be named twice again; what was said days ago confirms nothing.
        self.unconfirmed.pop(unit, None)
        if abs(age) > _PLANNING_TTL:
            del self.limits[unit]
        return None

    def planning_limit(self, unit: Unit, planned: int, utc: float) -> int:
        """Return the limit to plan with: the lower of the one that holds and one learned within the last 2.5 days.

        A client that keeps to a learned limit gets no error, and so does not learn it again.
        """
        holds, learned = self.limit(unit, planned, utc), self.limits.get(unit)
        return min(holds, learned.limit) if learned else holds

    def learn(self, unit: Unit, limit: int, planned: int, utc: float) -> None:
        """Believe a lower limit at once, a higher one when it is named twice, and none above a million.

        A limit of 0 counts as 1: otherwise no request could ever find out that it was lifted.
        """
        limit = max(1, limit)
        if limit > _MAX_LIMIT:
            return
        # A limit that is too low only delays; one that is too high would spend refused requests.
        if limit <= self.limit(unit, planned, utc) or self.unconfirmed.get(unit) == limit:
            self.limits[unit] = LearnedLimit(limit, utc, planned)
        self.unconfirmed[unit] = limit


@attrs.define
class OtherPrograms:
    """Requests per day of programs outside the ledger, learned on days that were spent early; `day` was the last."""

    daily: float = 0.0
    day: int = 0

    def observe(self, used: int, day: int) -> None:
        """Record how many requests others had made when a UTC day was exhausted."""
        self.daily = (1 - _LATEST_WEIGHT) * self.expected_on(day) + _LATEST_WEIGHT * max(0, used)
        self.day = day

    def expected_on(self, day: int) -> int:
        """Return how many requests others will probably make on a UTC day, of which some may have been made already."""
        # The day after is expected whole; only days that passed without an error let it decay.
        return int(self.daily * _DECAY ** max(0, day - self.day - 1))
