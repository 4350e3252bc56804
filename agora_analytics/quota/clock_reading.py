"""A moment of our clock, and what it says about the seconds, minutes and days of the service.

Minutes and days are read from the `Date` header's clock, with room for a counter that is beside it. Seconds are too
short for that: they are counted on a clock of sending, which is the header's moved by `lead`, so that whatever is sent
as its second begins arrives while the service counts one and the same second (see `_clock`).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.spans import DAY

GUARD: Final = 0.1
"""Seconds by which the clocks of the hosts behind one name may differ, twice, and some."""

SKEW: Final = 5.0
"""Seconds that the host's wall clock may be wrong, which is all there is to tell the day before the first answer."""

_EARLY: Final = 0.18
"""Part of a second, its guard included, in which it has just begun: two such moments must be nearly a second apart."""


class Moment(NamedTuple):
    """Now, and what is known of the service's clock: how far it is ahead of `now` at least, and what may be missing.

    That is `slack` by all experience, and `doubt` for certain. `now` is monotonic, `wall` the best reading of UTC,
    which is the host's wall clock until the service has answered; `rival` is what the host's wall clock says while that
    reading is not confirmed. `lead` is how far the clock of sending is ahead of the service's lower bound, `least` the
    shortest round trip, `behind` by how much later than the header's the counter's days begin.
    """

    now: float
    wall: float
    low: float
    slack: float
    doubt: float
    rival: float | None = None
    lead: float = 0.0
    least: float = 0.0
    behind: float = 0.0

    @property
    def utc(self) -> float:
        """UTC seconds, as well as they are known."""
        return self.wall if self.doubt == math.inf else self.now + self.low

    @property
    def certain(self) -> bool:
        """Whether answers have told the time, and nothing contradicts them."""
        return self.rival is None and self.doubt < math.inf

    @property
    def sure(self) -> bool:
        """Whether it is known well enough when the service's seconds begin."""
        return self.slack < self.doubt

    @property
    def early(self) -> bool:
        """Whether a second has just begun, as far as it is known when."""
        return self.sure and (self.now + self.low + self.lead) % 1 < _EARLY

    @property
    def begun(self) -> float:
        """When this second began on the clock of sending, less the guard."""
        ahead = self.low + self.lead
        return math.floor(self.now + ahead - GUARD) - ahead

    @property
    def following(self) -> float:
        """When the next second begins on the clock of sending."""
        return self.begun + 1 + GUARD

    @property
    def late(self) -> float:
        """Seconds after which a request may have arrived a second later than those that were sent with it."""
        return self.least + 1 - _EARLY - self.slack

    @property
    def earliest(self) -> float:
        """The UTC time that the counter has reached at least."""
        return self.wall - SKEW if self.doubt == math.inf else self.now + self.low - self.behind


def guard(window: float) -> float:
    """Seconds to keep clear of a window's beginning: a longer one has room for a clock that is set back a little."""
    return GUARD if window <= 1 else 1.0


def possible_days(moment: Moment, since: float | None = None) -> tuple[int, ...]:
    """Return the UTC days of the service's clock that something can fall into, now or since a moment of our clock."""
    now, wall, low, _, doubt, rival, *_ = moment
    passed = 0.0 if since is None else now - since
    if rival is not None:
        return tuple(sorted({*_days(wall - passed), *_days(rival - passed), *_days(wall), *_days(rival)}))
    if doubt == math.inf:
        first, last = int((wall - passed - SKEW) // DAY), int((wall + SKEW) // DAY)
    else:
        first, last = int((now - passed + low - moment.behind) // DAY), int((now + low + doubt) // DAY)
    return (first,) if first == last else tuple(range(first, last + 1))


def _days(utc: float) -> tuple[int, ...]:
    """Return the days of a moment that is known to a few seconds."""
    return int((utc - SKEW) // DAY), int((utc + SKEW) // DAY)


def day_of_service(moment: Moment) -> int:
    """Return the UTC day that it is at least, by what the service has told of the time, be it confirmed or not."""
    return possible_days(moment)[0] if moment.rival is None else int((moment.wall - SKEW) // DAY)


def until_tomorrow(moment: Moment) -> float:
    """Seconds until the next UTC day has begun for certain."""
    if moment.rival is not None:
        return min(_until_tomorrow(moment.wall - SKEW), _until_tomorrow(moment.rival - SKEW))
    return _until_tomorrow(moment.earliest if moment.doubt == math.inf else moment.earliest - GUARD)


def _until_tomorrow(utc: float) -> float:
    return (utc // DAY + 1) * DAY - utc


def today_is(moment: Moment) -> float:
    """Seconds that the UTC day is old, at least."""
    return moment.earliest % DAY


def thresholds(unit: Unit, moment: Moment) -> tuple[float, float]:
    """Return the moments before which an answered request cannot share a window with one that goes now.

    The second one is for those that went as a second began, the first for all others.
    """
    now, _, low, slack, doubt, _, _, least, _ = moment
    window = WINDOWS[unit]
    latest = now - window - GUARD
    if doubt == math.inf:
        return latest, latest
    if unit == "second" and moment.sure:
        # None that went as this second began can have been answered sooner than the shortest way takes.
        return latest, max(latest, moment.begun + least - slack)
    # When the window began that the service is in for certain, were it as little ahead of us as is known.
    begun = (now + low - guard(window)) // window * window - low
    since = max(latest, begun - doubt)
    return since, since


def passes(at: float, unit: Unit, moment: Moment) -> float:
    """Return when the first window has begun for certain that something answered at `at` cannot be counted in."""
    window = WINDOWS[unit]
    latest = at + window + GUARD
    if moment.doubt == math.inf:
        return latest
    return min(latest, math.ceil((at + moment.low + moment.doubt) / window) * window - moment.low + guard(window))


def passes_early(at: float, unit: Unit, moment: Moment) -> float:
    """Return the same of something that went as a second began."""
    if unit != "second" or not moment.sure:
        return passes(at, unit, moment)
    ahead = moment.low + moment.lead
    return min(at + 1 + GUARD, math.ceil(at - moment.least + moment.slack + ahead) - ahead + GUARD)
