"""The requests to a bucket and its answers: permits, rejections, and what streams reserve."""

from __future__ import annotations

from typing import NamedTuple

from agora_analytics.plans import Unit

Rates = dict[Unit, int]
"""The plan's requests per unit, shortest unit first."""


class Permit(NamedTuple):
    """The right to send one request: its number, when it was issued (monotonic), and the UTC days it is charged to."""

    number: int
    at: float
    days: tuple[int, ...]


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
