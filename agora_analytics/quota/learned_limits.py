"""Limits that refusals named: believed instead of the plan's own, for a while.

Nobody knows whether a named limit is the account's for good or of that moment. So it is forgotten after a day, and when
the plan's own number changes, and what the service refuses then teaches it again.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import attrs

from agora_analytics.plans import Unit
from agora_analytics.spans import DAY

_PLANNED: Final = 2.5 * DAY
"""Seconds for which streams plan with a named limit: each evening in it they find out whether it holds."""

_MOST: Final = 10**6
"""Requests per unit, above which a limit that a message names is no limit."""


class Named(NamedTuple):
    """A limit that holds, when it was named in UTC seconds, and what the plan's own was then."""

    limit: int
    at: float
    planned: int


@attrs.define
class NamedLimits:
    """The limits by unit; `hints` are what was named last, believed or not."""

    limits: dict[Unit, Named] = attrs.field(factory=dict)
    hints: dict[Unit, int] = attrs.field(factory=dict)

    def limit(self, unit: Unit, planned: int, utc: float) -> int:
        """Return the limit that holds at a moment: the plan's, or what the service named within the last day."""
        if not self.limits or self.age(unit, planned, utc) is None:
            return planned
        return self.limits[unit].limit

    def age(self, unit: Unit, planned: int, utc: float) -> float | None:
        """Return seconds since the limit that holds was named, None where the plan's holds.

        What holds no longer is forgotten, but for planning.
        """
        named = self.limits.get(unit)
        if named is None:
            return None
        age = utc - named.at if named.planned == planned else math.inf
        if abs(age) < DAY:  # a clock that was set back makes it negative
            return max(0.0, age)
        self.hints.pop(unit, None)
        if abs(age) > _PLANNED:
            del self.limits[unit]
        return None

    def planning(self, unit: Unit, planned: int, utc: float) -> int:
        """Return the limit to plan with: what was named within some days, though it is not believed any more.

        Whoever keeps to a named limit is not refused, and so does not hear of it again.
        """
        holds, named = self.limit(unit, planned, utc), self.limits.get(unit)
        return min(holds, named.limit) if named else holds

    def learn(self, unit: Unit, limit: int, planned: int, utc: float) -> None:
        """Believe a lower limit at once, a higher one when it is named again, and none that cannot be one.

        A limit of 0 is taken for 1: otherwise nothing would ever be sent to find out that it was lifted.
        """
        limit = max(1, limit)
        if limit > _MOST:
            return
        if limit <= self.limit(unit, planned, utc) or self.hints.get(unit) == limit:
            self.limits[unit] = Named(limit, utc, planned)
        self.hints[unit] = limit
