"""Concurrent users and channels in each 20-second window, counted from the world's sessions.

Counted hour by hour: a running sum that goes up where a session joins and down where it has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate

import attrs

from agora_analytics.catalogue import Product
from agora_analytics.simulator.world import calls, participants
from agora_analytics.simulator.world.entities import SimulatedSession
from agora_analytics.simulator.world.parameters import WorldParameters
from agora_analytics.simulator.world.population import Profile
from agora_analytics.spans import HOUR, WINDOW

_WINDOWS = HOUR // WINDOW


@attrs.frozen
class Interval:
    """A half-open interval `[start, end)` in UTC seconds."""

    start: int
    end: int


def users(world: WorldParameters, product: Product, window: int, dimension: str | None) -> Mapping[str, int]:
    """Return the users in a window by value of a dimension; see `World.users`."""
    table = _users_of_hour(world, product, window // HOUR, dimension)
    index = window % HOUR // WINDOW
    if dimension is None:
        return {"": table[""][index]}
    return {value: counts[index] for value, counts in table.items() if counts[index]}


def channels(world: WorldParameters, product: Product, window: int) -> int:
    """Return the channels in a window that have users of a product."""
    return _channels_of_hour(world, product, window // HOUR)[window % HOUR // WINDOW]


def value_of(profile: Profile, dimension: str) -> str:
    """Return a user's value of a dimension: `country`, `region`, `net`, `sdk`, `os` or `device`."""
    value: str = getattr(profile, "network" if dimension == "net" else dimension)
    return value


def count_concurrent(intervals: Iterable[Interval], start: int, count: int) -> tuple[int, ...]:
    """Return how many intervals overlap each of `count` windows from `start` on."""
    steps = [0] * (count + 1)
    for interval in intervals:
        first = max(0, (interval.start - start) // WINDOW)
        # Half-open: an interval that ends where a window begins is not in that window.
        after = min(count, (interval.end - 1 - start) // WINDOW + 1)
        if first < after:
            steps[first] += 1
            steps[after] -= 1
    return tuple(accumulate(steps[:-1]))


# An hour at a time: a request covers up to an hour of windows, and drawing the sessions costs more than counting them.
@lru_cache(maxsize=128)
def _users_of_hour(
    world: WorldParameters, product: Product, hour: int, dimension: str | None
) -> Mapping[str, tuple[int, ...]]:
    intervals: dict[str, list[Interval]] = {"": []} if dimension is None else {}
    for session in _sessions(world, product, hour):
        value = "" if dimension is None else value_of(session.profile, dimension)
        intervals.setdefault(value, []).append(Interval(session.join, session.leave))
    return {value: count_concurrent(group, hour * HOUR, _WINDOWS) for value, group in intervals.items()}


@lru_cache(maxsize=64)
def _channels_of_hour(world: WorldParameters, product: Product, hour: int) -> tuple[int, ...]:
    intervals = []
    for call in calls.during(world, hour * HOUR, (hour + 1) * HOUR):
        counted = [session for session in participants.sessions(world, call) if _is_counted(session, product)]
        # From the first join to the last leave: while everybody is away for a moment, the channel stays.
        if counted:
            intervals.append(
                Interval(min(session.join for session in counted), max(session.leave for session in counted))
            )
    return count_concurrent(intervals, hour * HOUR, _WINDOWS)


def _sessions(world: WorldParameters, product: Product, hour: int) -> list[SimulatedSession]:
    start, end = hour * HOUR, (hour + 1) * HOUR
    return [
        session
        for call in calls.during(world, start, end)
        for session in participants.sessions(world, call)
        if _is_counted(session, product) and session.overlaps(start, end)
    ]


def _is_counted(session: SimulatedSession, product: Product) -> bool:
    # The service's own recorders are no users.
    return not session.server and session.profile.product == product
