"""Clock readings, and permits of the bucket of one counter.

Unless a test says otherwise, the clocks agree: the monotonic clock of the client shows the service's UTC seconds.
"""

from __future__ import annotations

import math

from agora_analytics.quota.bucket import ClockReading, WindowCounter
from agora_analytics.quota.permit import Permit

DAY = 86_400
MIDNIGHT = 20_000 * DAY
TODAY = 20_000
NOON = MIDNIGHT + DAY // 2
LIMIT = 8
RATES = {"second": 100, "day": LIMIT}
WINDOWS = {"second": 1.0, "minute": 60.0}
HOST_SKEW = 0.1
"""Seconds by which the clocks of the service's hosts may differ."""


def known_clock(now: float, max_error: float = 0.01) -> ClockReading:
    """Return a reading with a known service clock, which is ahead of the client's by at most `max_error`."""
    return ClockReading(now, now, 0.0, max_error, max_error)


def unknown_clock(now: float, wall: float | None = None) -> ClockReading:
    """Return a reading before the first answer: only the host's wall clock shows the day, and may be 5 s wrong."""
    return ClockReading(now, now if wall is None else wall, -1e15, math.inf, math.inf)


def acquire(counter: WindowCounter, number: int, reading: ClockReading, rates: dict = RATES) -> Permit:
    """Acquire a permit with this id; fail if it is rejected."""
    result = counter.acquire(number, rates, reading)
    assert isinstance(result, Permit)
    return result


def spend(counter: WindowCounter, count: int, reading: ClockReading, rates: dict = RATES) -> None:
    """Send `count` requests that are answered at once."""
    for number in range(count):
        counter.settle(acquire(counter, number + 1, reading, rates), reading.monotonic, reading)
