"""Units that the service refused: how long nothing is sent, and how it is found out that they are open again.

After a pause one request is sent, and the others follow once the service has accepted it. Refused, it makes the pause
longer; where it has no answer, another finds out. A unit of the plan's table should be open again with the next window.
One that the table lacks (a gateway's) is not ours to count, so the pauses grow faster there.

A day that was spent is refused for a little longer than the `Date` header shows it, where the counter's clock is behind
the header's. So a refusal soon after midnight, with little counted in the new day, is taken for yesterday's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.quota.clock_reading import Moment, guard, today_is, until_tomorrow

_DAWN: Final = 600.0
"""Seconds after midnight in which a refusal may be yesterday's."""

_FIRST: Final = 1.0
"""Seconds of the first pause, in a unit that the plan counts."""

_KNOWN: Final = 2.0
_UNKNOWN: Final = 8.0
"""By how much the next pause is longer: for a unit that the plan counts, and for another."""

_LONGEST: Final = 900.0
"""Seconds of a pause at most (a day's ends with it): what is kept shortest, windows, is for 40 minutes."""


class Shut(NamedTuple):
    """A unit that is refused: since when, until when nothing goes, how long that pause is, how much longer the next."""

    at: float
    until: float
    pause: float
    growth: float

    def tried(self, unit: Unit, moment: Moment) -> Shut:
        """Return what holds for all others while one request finds out."""
        if self.until == self.at:
            return self
        return self._replace(until=moment.now + _longer(self, unit, moment))

    def lost(self, at: float) -> Shut:
        """Return what holds where the request that was granted at a moment, to find out, has no answer: another may."""
        return self._replace(until=min(self.until, at)) if self.at < at else self


def shut(before: Shut | None, unit: Unit, planned: int, moment: Moment) -> Shut:
    """Return what follows from a refusal, after others perhaps; `planned` is 0 for a unit that the plan lacks."""
    now, growth = moment.now, _KNOWN if planned else _UNKNOWN
    if before is not None and not (unit == "day" and moment.now - before.at > today_is(moment)):
        pause = _longer(before, unit, moment)
    elif planned and unit != "day":
        return Shut(now, now, _FIRST, growth)  # the plan's count has it that this window is over, and no more
    else:
        pause = _FIRST if planned else _rest(unit, moment)
    return Shut(now, now + pause, pause, growth)


def _longer(before: Shut, unit: Unit, moment: Moment) -> float:
    pause = before.pause * before.growth
    return min(pause, until_tomorrow(moment) if unit == "day" else _LONGEST)


def dawning(moment: Moment) -> bool:
    """Whether the day is so young that the counter may still be in yesterday."""
    return today_is(moment) < _DAWN


def _rest(unit: Unit, moment: Moment) -> float:
    """Seconds until a window that the plan does not count is over for certain."""
    window = WINDOWS[unit]
    return window - moment.earliest % window + guard(window) if window > 1 else window + guard(window)
