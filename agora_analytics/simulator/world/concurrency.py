"""How many users and channels there are in each 20-second window: counted from the world's own sessions.

Counted by the hour, with one step up where a session joins and one down where it has left.
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
class Stay:
    """A time in use, `[start, end)` in UTC seconds."""

    start: int
    end: int


def users(world: WorldParameters, product: Product, window: int, dimension: str | None) -> Mapping[str, int]:
    """Return users at a window by value of a dimension, none that is empty; see `World.users`."""
    table = _users_of_hour(world, product, window // HOUR, dimension)
    place = window % HOUR // WINDOW
    if dimension is None:
        return {"": table[""][place]}
    return {value: counts[place] for value, counts in table.items() if counts[place]}


def channels(world: WorldParameters, product: Product, window: int) -> int:
    """Return channels in use at a window by users of a product."""
    return _channels_of_hour(world, product, window // HOUR)[window % HOUR // WINDOW]


def value_of(profile: Profile, dimension: str) -> str:
    """Return a user's value of a dimension: `country`, `region`, `net`, `sdk`, `os` or `device`."""
    value: str = getattr(profile, "network" if dimension == "net" else dimension)
    return value


def presence(stays: Iterable[Stay], start: int, count: int) -> tuple[int, ...]:
    """Count the stays in each of `count` windows from `start` on; one counts in each window it touches."""
    steps = [0] * (count + 1)
    for stay in stays:
        first = max(0, (stay.start - start) // WINDOW)
        behind = min(count, (stay.end - 1 - start) // WINDOW + 1)
        if first < behind:
            steps[first] += 1
            steps[behind] -= 1
    return tuple(accumulate(steps[:-1]))


@lru_cache(maxsize=128)
def _users_of_hour(
    world: WorldParameters, product: Product, hour: int, dimension: str | None
) -> Mapping[str, tuple[int, ...]]:
    stays: dict[str, list[Stay]] = {"": []} if dimension is None else {}
    for session in _sessions(world, product, hour):
        value = "" if dimension is None else value_of(session.profile, dimension)
        stays.setdefault(value, []).append(Stay(session.join, session.leave))
    return {value: presence(group, hour * HOUR, _WINDOWS) for value, group in stays.items()}


@lru_cache(maxsize=64)
def _channels_of_hour(world: WorldParameters, product: Product, hour: int) -> tuple[int, ...]:
    stays = []
    for call in calls.during(world, hour * HOUR, (hour + 1) * HOUR):
        mine = [session for session in participants.sessions(world, call) if _counts(session, product)]
        if mine:
            stays.append(Stay(min(one.join for one in mine), max(one.leave for one in mine)))
    return presence(stays, hour * HOUR, _WINDOWS)


def _sessions(world: WorldParameters, product: Product, hour: int) -> list[SimulatedSession]:
    start, end = hour * HOUR, (hour + 1) * HOUR
    return [
        session
        for call in calls.during(world, start, end)
        for session in participants.sessions(world, call)
        if _counts(session, product) and session.overlaps(start, end)
    ]


def _counts(session: SimulatedSession, product: Product) -> bool:
    return not session.server and session.profile.product == product
