"""One reading of both clocks, and what follows from it for the service's seconds, minutes and days.

Minutes and days follow the clock of the `Date` header, with room for a counting host that is a little off. Seconds are
too short for that. They follow the *send clock*, the header's clock moved by `send_lead`: all requests sent early in
one of its seconds arrive while the service counts one and the same second (see `service_clock`).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from agora_analytics.plans import WINDOWS, Unit

GUARD: Final = 0.1
"""Seconds to keep clear of a window's edges: twice what hosts behind one name may differ by, and a margin."""

MAX_WALL_ERROR: Final = 5.0
"""Seconds by which the host's wall clock may be wrong; before the first answer nothing else shows the day."""

_EARLY: Final = 0.18
"""The first seconds, with the guard, of each second of the send clock: a permit issued then is *early*.

Two early permits of different seconds are at least 0.82 s apart, so the typical clock error is enough to tell their
seconds apart.
"""

DAY: Final = WINDOWS["day"]


class ClockReading(NamedTuple):
    """One reading of both clocks. The service's UTC is `monotonic + offset_min`, or up to `max_error` later.

    Attributes:
        monotonic: the event loop's time.
        wall: the best reading of UTC; the host's wall clock until the service has answered.
        offset_min: seconds by which the service's clock is ahead of `monotonic` at least.
        typical_error: seconds by which it may be further ahead in practice, once the clock is calibrated.
        max_error: seconds by which it is further ahead at most, for certain; infinite while nothing is known.
        rival_wall: the host's wall clock, while it contradicts `wall` and neither is confirmed.
        send_lead: seconds by which the send clock is ahead of `monotonic + offset_min`.
        rtt_min: the shortest round trip.
        day_lag: seconds by which the counting host's days begin later than the header's.

    """

    monotonic: float
    wall: float
    offset_min: float
    typical_error: float
    max_error: float
    rival_wall: float | None = None
    send_lead: float = 0.0
    rtt_min: float = 0.0
    day_lag: float = 0.0

    @property
    def utc(self) -> float:
        """UTC seconds, as well as they are known."""
        # While the error is unknown there is no bound to build on; `wall` is the best guess.
        return self.wall if self.max_error == math.inf else self.monotonic + self.offset_min

    @property
    def confirmed(self) -> bool:
        """Whether an answer had the time, and nothing contradicts it."""
        return self.rival_wall is None and self.max_error < math.inf

    @property
    def calibrated(self) -> bool:
        """Whether the start of the service's seconds is known to the typical error."""
        return self.typical_error < self.max_error

    @property
    def early_in_second(self) -> bool:
        """Whether a second of the send clock has just begun."""
        return self.calibrated and (self.monotonic + self.offset_min + self.send_lead) % 1 < _EARLY

    @property
    def second_start(self) -> float:
        """When this second of the send clock began; a second is this one once the guard has passed."""
        ahead = self.offset_min + self.send_lead
        return math.floor(self.monotonic + ahead - GUARD) - ahead

    @property
    def next_second_start(self) -> float:
        """When the next second of the send clock has begun, and the guard has passed."""
        return self.second_start + 1 + GUARD

    @property
    def early_grace(self) -> float:
        """Seconds in flight after which an early request may have been counted a second later than the others."""
        return self.rtt_min + 1 - _EARLY - self.typical_error

    @property
    def utc_min(self) -> float:
        """The UTC second that the counting host has reached at least."""
        if self.max_error == math.inf:
            return self.wall - MAX_WALL_ERROR
        return self.monotonic + self.offset_min - self.day_lag


def guard(window: float) -> float:
    """Return seconds to keep clear of a window's start: a long one has room for a clock that is set back a little."""
    return GUARD if window <= 1 else 1.0


def possible_days(reading: ClockReading, since: float | None = None) -> tuple[int, ...]:
    """Return the UTC days that may count a request which is sent now, or was counted between `since` and now."""
    now, wall, low, _, max_error, rival, *_ = reading
    passed = 0.0 if since is None else now - since
    # The service may count by either clock, so the days of both are charged.
    if rival is not None:
        return tuple(sorted({*_days(wall - passed), *_days(rival - passed), *_days(wall), *_days(rival)}))
    if max_error == math.inf:
        first, last = int((wall - passed - MAX_WALL_ERROR) // DAY), int((wall + MAX_WALL_ERROR) // DAY)
    else:
        first, last = int((now - passed + low - reading.day_lag) // DAY), int((now + low + max_error) // DAY)
    return (first,) if first == last else tuple(range(first, last + 1))


def _days(utc: float) -> tuple[int, ...]:
    """Return the days of a UTC time that is known to a few seconds."""
    return int((utc - MAX_WALL_ERROR) // DAY), int((utc + MAX_WALL_ERROR) // DAY)


def service_day(reading: ClockReading) -> int:
    """Return the UTC day that the service has reached at least, confirmed or not."""
    return possible_days(reading)[0] if reading.rival_wall is None else int((reading.wall - MAX_WALL_ERROR) // DAY)


def seconds_until_next_day(reading: ClockReading) -> float:
    """Return seconds until the next UTC day has certainly begun."""
    if reading.rival_wall is not None:
        # The nearer midnight: one request finds out there which clock was right.
        return min(_until_next_day(reading.wall - MAX_WALL_ERROR), _until_next_day(reading.rival_wall - MAX_WALL_ERROR))
    # For an unknown clock, `utc_min` keeps clear of midnight by the wall clock's possible error already.
    return _until_next_day(reading.utc_min if reading.max_error == math.inf else reading.utc_min - GUARD)


def _until_next_day(utc: float) -> float:
    return (utc // DAY + 1) * DAY - utc


def seconds_into_day(reading: ClockReading) -> float:
    """Return how many seconds of the UTC day have passed at least."""
    return reading.utc_min % DAY


def cutoffs(unit: Unit, reading: ClockReading) -> tuple[float, float]:
    """Return two times: a request answered before shares no window with one that is sent now.

    The first is for requests in general, the second for those with an early permit.
    """
    now, _, low, typical_error, max_error, _, _, rtt_min, _ = reading
    window = WINDOWS[unit]
    # Answered a whole window ago: by no clock can both be counted in one window.
    latest = now - window - GUARD
    if max_error == math.inf:
        return latest, latest
    if unit == "second" and reading.calibrated:
        # No request sent early in this second can have been answered sooner than after the shortest round trip.
        return latest, max(latest, reading.second_start + rtt_min - typical_error)
    # The start of the window that the service has certainly reached, if its clock is at the lower bound.
    start = (now + low - guard(window)) // window * window - low
    since = max(latest, start - max_error)
    return since, since


def frees_at(at: float, unit: Unit, reading: ClockReading) -> float:
    """Return when the first window has certainly begun that a request answered at `at` cannot be counted in."""
    # The inverse of `cutoffs`: the first moment at which `at` is before the cutoff.
    window = WINDOWS[unit]
    latest = at + window + GUARD
    low, max_error = reading.offset_min, reading.max_error
    if max_error == math.inf:
        return latest
    return min(latest, math.ceil((at + low + max_error) / window) * window - low + guard(window))


def early_frees_at(at: float, unit: Unit, reading: ClockReading) -> float:
    """Return `frees_at` for a request with an early permit."""
    if unit != "second" or not reading.calibrated:
        return frees_at(at, unit, reading)
    ahead = reading.offset_min + reading.send_lead
    return min(at + 1 + GUARD, math.ceil(at - reading.rtt_min + reading.typical_error + ahead) - ahead + GUARD)
