"""Usage of an hour, as Data Insights reports it: estimated from the hour's calls without drawing their sessions."""

from __future__ import annotations

from functools import lru_cache

import attrs

from agora_analytics.simulator.world import calls
from agora_analytics.simulator.world.concurrency import Interval, count_concurrent
from agora_analytics.simulator.world.parameters import WorldParameters
from agora_analytics.spans import HOUR, WINDOW

_ATTENDED_FRACTION = 0.7
"""Fraction of a call for which its average user is present."""
_ATTEMPTS_PER_JOIN = 1.015
"""Attempts to join for each one that succeeded."""


@attrs.frozen
class Usage:
    """Usage of the calls created in a period; minutes are summed over users."""

    channels: int = 0
    users: int = 0
    joins: int = 0
    video_minutes: int = 0
    audio_minutes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(left + right for left, right in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))

    def scaled(self, factor: float) -> Usage:
        """Return a copy with every count multiplied by `factor` and rounded down."""
        return Usage(*(int(count * factor) for count in attrs.astuple(self)))

    @property
    def attempts(self) -> int:
        """Attempts to join, including failed ones."""
        return int(self.joins * _ATTEMPTS_PER_JOIN)


@attrs.frozen
class Peak:
    """Highest number of concurrent channels and users."""

    channels: int
    users: int


@lru_cache(maxsize=2_048)
def of_hour(world: WorldParameters, hour: int) -> Usage:
    """Return the usage of one hour, counted in hours since 1970."""
    created = calls.created(world, hour * HOUR, (hour + 1) * HOUR)
    seconds = {
        video: sum(call.users * call.duration for call in created if call.video is video) for video in (True, False)
    }
    minutes = {video: int(total * _ATTENDED_FRACTION / 60) for video, total in seconds.items()}
    return Usage(
        channels=len(created),
        users=sum(call.users for call in created),
        joins=sum(call.users + call.rejoins for call in created),
        video_minutes=minutes[True],
        audio_minutes=minutes[False],
    )


@lru_cache(maxsize=2_048)
def peak(world: WorldParameters, hour: int) -> Peak:
    """Return the peak of concurrent channels and users in an hour; users are estimated from their calls."""
    during = calls.during(world, hour * HOUR, (hour + 1) * HOUR)
    channels = [Interval(call.created, call.destroyed) for call in during]
    users = [channel for call, channel in zip(during, channels, strict=True) for _ in range(call.users)]
    windows = HOUR // WINDOW
    peaks = [max(count_concurrent(intervals, hour * HOUR, windows)) for intervals in (channels, users)]
    return Peak(peaks[0], int(peaks[1] * _ATTENDED_FRACTION))
