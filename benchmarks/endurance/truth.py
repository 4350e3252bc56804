"""The truth, without the client: values of windows, fates of calls, and what hindered the streams."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

import attrs

from agora_analytics import Series
from agora_analytics.simulator import SimulatedCall, Simulation, World
from benchmarks.endurance.schedule import Kind, Trouble

SERIES: Final = (
    Series("userCount", product="Native"),
    Series("channelCount", product="WebRTC"),
    Series("videoFreezeRate", product="Native"),
    Series("userCount", product="WebRTC"),
    Series("audioFreezeRate", product="Native"),
)
"""The series of the watch: counts and rates of both products."""


def value(world: World, series: Series, ts: int) -> float | None:
    """Return the final value of a series in a window; None if there are no users to measure."""
    users = world.users(series.product, ts, None)[""]  # type: ignore[arg-type]  # products are plain texts
    if series.metric == "userCount":
        return users
    if series.metric == "channelCount":
        return world.channels(series.product, ts)  # type: ignore[arg-type]  # the same
    return world.rate(series.metric, series.product, ts, "") if users else None  # type: ignore[arg-type]  # the same


@attrs.frozen
class Fate:
    """What the service reports of a call: when it was deleted, whether it never ends, by how much it was moved."""

    deleted: float | None = None
    endless: bool = False
    moved: int = 0


def fate(simulation: Simulation, call: SimulatedCall) -> Fate:
    """Return the fate of a call."""
    changes = simulation.service.changes(call)
    return Fate(
        deleted=min((one.at for one in changes if one.deleted), default=None),
        endless=any(one.endless for one in changes),
        moved=sum(one.moved for one in changes),
    )


class Hindrances:
    """Times in which the streams could send no requests, by the schedule and the service."""

    def __init__(self, troubles: Iterable[Trouble]) -> None:
        self._troubles = list(troubles)

    def add(self, trouble: Trouble) -> None:
        """Add a time of trouble."""
        if trouble.end > trouble.start:
            self._troubles.append(trouble)

    def kinds(self, start: float, end: float) -> set[Kind]:
        """Return the kinds of hindrances in a time."""
        return {one.kind for one in self._troubles if one.start < end and one.end > start}

    def free(self, start: float, end: float) -> float:
        """Return the longest time without a hindrance within a time."""
        return max((stop - begun for begun, stop in self._gaps(start, end)), default=0.0)

    def next_free(self, moment: float, length: float) -> float:
        """Return the end of the first time of this length, from a moment on, without a hindrance."""
        for begun, stop in self._gaps(moment, moment + 30 * 86_400):
            if stop - begun >= length:
                return begun + length
        return moment + 30 * 86_400

    def _gaps(self, start: float, end: float) -> Iterable[tuple[float, float]]:
        here = start
        for one in sorted(self._troubles, key=lambda one: one.start):
            if one.end <= here or one.start >= end:
                continue
            if one.start > here:
                yield here, one.start
            here = max(here, one.end)
        if here < end:
            yield here, end


@attrs.frozen
class Asked:
    """A successful request for windows: when it was sent and answered, by which process, and for which span."""

    sent: float
    received: float
    life: int
    start: int
    end: int


class Questions:
    """The answers to each series, in order of time."""

    def __init__(self) -> None:
        self._asked: dict[int, list[Asked]] = {place: [] for place in range(len(SERIES))}

    def add(self, place: int, asked: Asked) -> None:
        """Add a successful request."""
        self._asked[place].append(asked)

    def forget(self, before: float) -> None:
        """Forget what was sent before a moment."""
        for place, asked in self._asked.items():
            self._asked[place] = asked[bisect_left(asked, before, key=lambda one: one.sent) :]

    def about(self, place: int, ts: int, since: float = 0.0) -> list[Asked]:
        """Return the successful requests for a window of a series that were sent at `since` or later."""
        asked = self._asked[place]
        first = bisect_left(asked, max(ts, since), key=lambda one: one.sent)
        return [one for one in asked[first : first + 200] if one.start <= ts < one.end]

    def last(self, place: int, moment: float) -> float:
        """Return when the last successful request for a series before a moment was sent."""
        asked = self._asked[place]
        before = bisect_left(asked, moment, key=lambda one: one.sent)
        return asked[before - 1].sent if before else 0.0
