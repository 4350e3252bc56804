"""The service's clock and the host's: real time, or the time of a `VirtualLoop`.

A client reads two clocks: the host's wall clock and the loop's monotonic one. A machine that is suspended stops the
second and not the first, and the first may be wrong by any amount; the service's clock is neither.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop, _get_running_loop

from agora_analytics._core import validation
from agora_analytics.protocols import WallClock
from agora_analytics.simulator import validators
from agora_analytics.simulator.virtual_loop import VirtualLoop


class Clock:
    """The service's clock: call it for UTC seconds.

    Where a `VirtualLoop` is running it goes on with that loop's time, in any other loop with real time, and outside of
    all loops it keeps to the last one: a test that is not async may make it, or read it. `start` is a moment in UTC
    seconds, at which it stands until it is first read in a loop (by default the host's time), or a clock of your own.
    """

    def __init__(self, start: float | WallClock | None = None) -> None:
        given = None if start is None else validators.clock("clock", start)
        self._own = callable(given)
        self._source: WallClock = time.time
        self._loop: AbstractEventLoop | None = None
        self._offset = 0.0
        if callable(given):
            self._source = given
        elif given is not None:
            self._source, self._offset = _still, given
        self()

    @classmethod
    def of(cls, clock: float | WallClock | None) -> Clock:
        """Return a clock that starts so, or the clock itself where it is one already."""
        return clock if isinstance(clock, Clock) else cls(clock)

    def __call__(self) -> float:
        """Return the service's UTC seconds now."""
        if not self._own:
            loop = _get_running_loop()
            if loop is not self._loop:
                self._follow(loop)
        return self._offset + self._source()

    def _follow(self, loop: AbstractEventLoop | None) -> None:
        """Go on with what tells the time in a loop; outside of all, with the last."""
        self._loop = loop
        if loop is None:
            return
        source = loop.time if isinstance(loop, VirtualLoop) else time.time
        self._offset += self._source() - source()
        self._source = source

    def suspend(self, seconds: float) -> None:
        """Suspend the machine for so long: wall clocks, the service's and the host's, go on; `loop.time()` does not.

        Nothing waits, and timers of the loop are late by so much. Negative seconds set the clocks back.
        """
        self._offset += validators.finite("seconds", seconds)


class HostClock:
    """The wall clock of the client's machine: a clock with `wrong` seconds added; assign `wrong` at any time."""

    def __init__(self, clock: WallClock, wrong: float = 0.0) -> None:
        self._clock = validation.function("clock", clock, "a function that returns UTC seconds")
        self.wrong = wrong

    @property
    def wrong(self) -> float:
        """Seconds that it is ahead."""
        return self._wrong

    @wrong.setter
    def wrong(self, wrong: float) -> None:
        self._wrong = validators.finite("wrong", wrong)

    def __call__(self) -> float:
        """Return what the host takes for UTC seconds now."""
        return self._clock() + self._wrong


def _still() -> float:
    return 0.0
