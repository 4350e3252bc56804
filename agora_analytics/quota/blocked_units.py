"""Units in which the service refuses requests: how long none is sent, and how to find out that they are open again.

After a pause one request probes the unit, and the others follow once the service has accepted it. If it is refused the
pause grows; if it has no answer, another one probes. A unit of the plan should be open again with its next window. One
that the plan lacks (a gateway's) cannot be counted here, so its pauses grow faster.

A spent day is refused for a little longer than the `Date` header shows it, where the counting host's clock is behind
the header's. So an error soon after midnight, with little used of the new day, is taken for yesterday's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.quota.clock_reading import ClockReading, guard, seconds_into_day, seconds_until_next_day

_AFTER_MIDNIGHT: Final = 600.0
"""Seconds after midnight in which an error for the day may be about yesterday."""

_FIRST_PAUSE: Final = 1.0
"""Seconds of the first pause, in a unit of the plan."""

_GROWTH_PLANNED: Final = 2.0
_GROWTH_UNPLANNED: Final = 8.0
"""Factor from one pause to the next, for a unit of the plan and for another."""

_MAX_PAUSE: Final = 900.0
"""Longest pause in seconds (a day's ends at midnight): what expires first at the service, windows, lasts 40 minutes."""


class BlockedUnit(NamedTuple):
    """A refused unit: since when, until when nothing is sent, the length of that pause, and its growth factor."""

    at: float
    until: float
    pause: float
    growth: float

    def while_probing(self, unit: Unit, reading: ClockReading) -> BlockedUnit:
        """Return what holds for all other requests while one probes the unit."""
        # There was no pause: the bucket itself waits for the next window, in which all may go.
        if self.until == self.at:
            return self
        return self._replace(until=reading.monotonic + _next_pause(self, unit, reading))

    def probe_lost(self, issued: float) -> BlockedUnit:
        """Return what holds after the probe with a permit issued at `issued` got no answer: another may probe."""
        # A permit from before the error was no probe, so that it was lost changes nothing.
        return self._replace(until=min(self.until, issued)) if self.at < issued else self


def block(previous: BlockedUnit | None, unit: Unit, planned: int, reading: ClockReading) -> BlockedUnit:
    """Return the block that follows from a rate-limit error; `planned` is 0 for a unit that the plan lacks."""
    now, growth = reading.monotonic, _GROWTH_PLANNED if planned else _GROWTH_UNPLANNED
    # Unless the block is of an earlier day: midnight has ended it, and pauses start over.
    if previous is not None and not (unit == "day" and reading.monotonic - previous.at > seconds_into_day(reading)):
        pause = _next_pause(previous, unit, reading)
    elif planned and unit != "day":
        return BlockedUnit(now, now, _FIRST_PAUSE, growth)  # the bucket itself waits for the next window
    else:
        pause = _FIRST_PAUSE if planned else _until_window_ends(unit, reading)
    return BlockedUnit(now, now + pause, pause, growth)


def _next_pause(previous: BlockedUnit, unit: Unit, reading: ClockReading) -> float:
    pause = previous.pause * previous.growth
    return min(pause, seconds_until_next_day(reading) if unit == "day" else _MAX_PAUSE)


def just_after_midnight(reading: ClockReading) -> bool:
    """Whether the counting host may still be in yesterday."""
    return seconds_into_day(reading) < _AFTER_MIDNIGHT


def _until_window_ends(unit: Unit, reading: ClockReading) -> float:
    """Return seconds until the present window of a unit that the plan lacks has certainly ended."""
    window = WINDOWS[unit]
    # Where a second ends is not known well enough: wait for a whole one.
    return window - reading.utc_min % window + guard(window) if window > 1 else window + guard(window)
