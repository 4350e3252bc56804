"""A counter of a plan, the moments it is used at, and requests to make of it.

The clocks of these tests agree unless told otherwise: our monotonic clock shows the service's UTC seconds.
"""

from __future__ import annotations

import math

from agora_analytics.quota.bucket import ClockReading, Permit, WindowCounter

DAY = 86_400
MIDNIGHT = 20_000 * DAY
TODAY = 20_000
NOON = MIDNIGHT + DAY // 2
LIMIT = 8
RATES = {"second": 100, "day": LIMIT}
WINDOWS = {"second": 1.0, "minute": 60.0}
APART = 0.1
"""Seconds by which the clocks of the service's hosts may differ."""


def sure(now: float, max_error: float = 0.01) -> ClockReading:
    """A reading at which the service's clock is known: it is as much ahead as `max_error` says, or less."""
    return ClockReading(now, now, 0.0, max_error, max_error)


def unsure(now: float, wall: float | None = None) -> ClockReading:
    """A reading before the first answer: only the host's wall clock tells the day, and may be 5 s wrong."""
    return ClockReading(now, now if wall is None else wall, -1e15, math.inf, math.inf)


def take(counter: WindowCounter, number: int, reading: ClockReading, rates: dict = RATES) -> Permit:
    got = counter.acquire(number, rates, reading)
    assert isinstance(got, Permit)
    return got


def spend(counter: WindowCounter, count: int, reading: ClockReading, rates: dict = RATES) -> None:
    """Make so many requests that are answered at once."""
    for number in range(count):
        counter.settle(take(counter, number + 1, reading, rates), reading.monotonic, reading)
