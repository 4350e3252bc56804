"""How much was used in an hour: counted from the hour's calls alone, without drawing their sessions."""

from __future__ import annotations

from functools import lru_cache

import attrs

from agora_analytics.simulator.world import calls
from agora_analytics.simulator.world.concurrency import Stay, presence
from agora_analytics.simulator.world.parameters import WorldParameters
from agora_analytics.spans import HOUR, WINDOW

_STAY = 0.7
"""Part of a call that its average user is there for."""
_TRIES = 1.015
"""Attempts to join for each that succeeded."""


@attrs.frozen
class Tally:
    """Usage of the calls that began in some time; minutes are summed over users."""

    channels: int = 0
    users: int = 0
    joins: int = 0
    video_minutes: int = 0
    audio_minutes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(mine + its for mine, its in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))

    def scaled(self, factor: float) -> Tally:
        """Return the same with every count multiplied and rounded down."""
        return Tally(*(int(count * factor) for count in attrs.astuple(self)))

    @property
    def attempts(self) -> int:
        """Attempts to join, the failed ones among them."""
        return int(self.joins * _TRIES)


@attrs.frozen
class Peak:
    """Most channels and users at once."""

    channels: int
    users: int


@lru_cache(maxsize=2_048)
def of_hour(world: WorldParameters, hour: int) -> Tally:
    """Return the usage of one hour, counted in hours since 1970."""
    begun = calls.created(world, hour * HOUR, (hour + 1) * HOUR)
    minutes = {video: int(sum(call.users * call.duration for call in begun if call.video is video) * _STAY / 60)
               for video in (True, False)}  # fmt: skip
    return Tally(
        channels=len(begun),
        users=sum(call.users for call in begun),
        joins=sum(call.users + call.rejoins for call in begun),
        video_minutes=minutes[True],
        audio_minutes=minutes[False],
    )


@lru_cache(maxsize=2_048)
def peak(world: WorldParameters, hour: int) -> Peak:
    """Return most channels and users at once in an hour; the users are estimated from their calls."""
    going = calls.during(world, hour * HOUR, (hour + 1) * HOUR)
    stays = [Stay(call.created, call.destroyed) for call in going]
    seats = [stay for call, stay in zip(going, stays, strict=True) for _ in range(call.users)]
    windows = HOUR // WINDOW
    most = [max(presence(group, hour * HOUR, windows)) for group in (stays, seats)]
    return Peak(most[0], int(most[1] * _STAY))
