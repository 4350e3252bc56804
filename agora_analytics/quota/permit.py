"""The requests to a bucket and its answers: permits, rejections, and what streams reserve."""

from __future__ import annotations

from typing import Final, NamedTuple

from agora_analytics.plans import Unit

Rates = dict[Unit, int]
"""The plan's requests per unit, shortest unit first."""

MAX_AGE: Final = 2.0
"""Seconds after its issue in which a permit may be used. Others reclaim it from a process that they have not heard from
for three seconds: then it counts as answered half a second later."""


class Permit(NamedTuple):
    """The right to send one request: its number, when it was issued (monotonic), and the UTC days it is charged to."""

    number: int
    at: float
    days: tuple[int, ...]

    def too_old(self, now: float) -> bool:
        """Whether it must not be used any more, at a time of the clock by which it was issued."""
        # An age below zero: the ledger's clock was set meanwhile, and the age is not known.
        return not 0 <= now - self.at <= MAX_AGE


class Rejection(NamedTuple):
    """No permit now: seconds until the next try makes sense, and the exhausted unit with its limit."""

    wait: float
    unit: Unit
    limit: int


class Reservation(NamedTuple):
    """Requests that a stream needs: for the rest of the UTC day `day`, and per day after; its weight among streams."""

    day: int
    rest: int
    daily: int
    weight: float = 1.0
