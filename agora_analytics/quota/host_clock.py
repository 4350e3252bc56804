"""The host's wall clock beside the loop's: where it gains on it, the machine slept, or the wall clock was set."""

from __future__ import annotations

from collections import deque
from typing import Final

_JUMP: Final = 30.0
"""Seconds by which the two must part between two looks."""


class HostClock:
    """When the host's clocks parted, as seen by whoever looked: no more than a hint, for only an answer can tell."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._gains: deque[tuple[float, float]] = deque(maxlen=64)

    def look(self, now: float, wall: float) -> None:
        """Look at both clocks: the loop's and UTC by the host."""
        ahead = wall - now
        if self._ahead is not None and ahead - self._ahead > _JUMP:
            self._gains.append((now, ahead - self._ahead))
        self._ahead = ahead

    def slept(self, since: float, now: float) -> float:
        """Return the seconds by which the host's clock gained between two moments of the loop's."""
        return sum(gained for woke, gained in self._gains if since < woke <= now)

    def sleeps(self, since: float, now: float, seconds: float) -> list[tuple[float, float]]:
        """Return the sleeps between two moments of the loop's clock that took so many seconds: when each was over.

        Where the gains do not add up to that, one was a clock that was set: then the sleep is the gain that is nearest
        to so many seconds, or it is over now.
        """
        gains = [one for one in self._gains if since < one[0] <= now]
        if abs(self.slept(since, now) - seconds) <= _JUMP:
            return gains
        woke, _ = min(gains, key=lambda gain: abs(gain[1] - seconds), default=(now, seconds))
        return [(woke, seconds)]
