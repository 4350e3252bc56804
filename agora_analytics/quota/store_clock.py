"""The clock of a store that hosts share, read from a clock of this host between two of its answers."""

from __future__ import annotations

import math
import sys
import time
from typing import Final

_DRIFT: Final = 2.5e-4
"""Seconds per second by which the clocks of two hosts may run at different speeds."""

_STEP: Final = 0.25
"""Seconds beyond the error by which an answer must differ from what was expected to show that the clock was set."""


def elapsed() -> float:
    """Return the seconds of a clock of this host that is never set, and goes on while the host sleeps."""
    # `time.monotonic` stands still meanwhile on Linux: permits from before a sleep would look new after it.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class StoreClock:
    """UTC of the store, right to within half the shortest round trip and the drift since; the host's until it answered.

    It does not go back, unless the store's clock was set.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._error = math.inf
        self._measured_at = 0.0
        self._latest = -math.inf
        self.steps = 0
        """How often the store's clock was set."""

    def now(self) -> float:
        """Return the store's UTC seconds."""
        if self._offset is None:
            return time.time()
        # A better measurement may move it back by less than the error of the one before.
        self._latest = max(self._latest, elapsed() + self._offset)
        return self._latest

    def error(self) -> float:
        """Return by how many seconds `now()` may be wrong; infinite before the first answer."""
        return self._error + _DRIFT * (elapsed() - self._measured_at)

    def observe(self, sent: float, received: float, store: float) -> bool:
        """Learn from an answer between two times of `elapsed`; return whether the store's clock was set, or is another.

        That is how a failover to a host with another clock is noticed.
        """
        offset, error = store - (sent + received) / 2, (received - sent) / 2
        stepped = self._offset is not None and abs(offset - self._offset) > self.error() + error + _STEP
        if stepped or error <= self.error():
            self._offset, self._error, self._measured_at = offset, error, received
        if stepped:
            self._latest = -math.inf
            self.steps += 1
        return stepped
