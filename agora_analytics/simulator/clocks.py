"""The service's clock and the host's: real time, or the time of a `VirtualLoop`.

A client reads two clocks: the host's wall clock and the loop's monotonic one. A machine that is suspended stops the
second and not the first, and the first may be wrong by any amount; the service's clock is neither.
"""

from __future__ import annotations

import asyncio
import time

from agora_analytics.protocols import WallClock
from agora_analytics.simulator.virtual import VirtualLoop


class Clock:
    """The service's clock: call it for UTC seconds.

    Where a `VirtualLoop` is running it goes on with that loop's time, in any other loop with real time, and outside of
    all loops it keeps to the last one: a test that is not async may make it, or read it. `start` is a moment in UTC
    seconds, at which it stands until it is first read in a loop (by default the host's time), or a clock of your own.
    """

    def __init__(self, start: float | WallClock | None = None) -> None:
        self._own = callable(start)
        self._source: WallClock = time.time
        self._loop: asyncio.AbstractEventLoop | None = None
        self._offset = 0.0
        if callable(start):
            self._source = start
        elif start is not None:
            self._source, self._offset = _still, start
        self()

    @classmethod
    def of(cls, clock: float | WallClock | None) -> Clock:
        """Return a clock that starts so, or the clock itself where it is one already."""
        return clock if isinstance(clock, Clock) else cls(clock)

    def __call__(self) -> float:
        """Return the service's UTC seconds now."""
        if not self._own:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                pass
            else:
                if loop is not self._loop:
                    self._follow(loop)
        return self._offset + self._source()

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on with what tells the time in this loop."""
        source: WallClock = loop.time if isinstance(loop, VirtualLoop) else time.time
        if source != self._source:
            self._offset += self._source() - source()
        self._source, self._loop = source, loop

    def suspend(self, seconds: float) -> None:
        """Suspend the machine for so long: wall clocks, the service's and the host's, go on; `loop.time()` does not.

        Nothing waits, and timers of the loop are late by so much. Negative seconds set the clocks back.
        """
        self._offset += seconds


class HostClock:
    """The wall clock of the client's machine: a clock with `wrong` seconds added; assign `wrong` at any time."""

    def __init__(self, clock: WallClock, wrong: float = 0.0) -> None:
        self._clock = clock
        self.wrong = wrong

    def __call__(self) -> float:
        """Return what the host takes for UTC seconds now."""
        return self._clock() + self.wrong


def _still() -> float:
    return 0.0
