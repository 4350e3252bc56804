"""The service's clock and the host's clock, on real time or on the virtual time of a `VirtualLoop`.

A client reads two clocks: the host's wall clock and the event loop's monotonic clock. While a machine is suspended the
monotonic clock stops and the wall clock does not; the wall clock may be wrong by any amount. The service's clock never
stops and is never wrong.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop, _get_running_loop

from agora_analytics._core import validation
from agora_analytics.protocols import WallClock
from agora_analytics.simulator import validators
from agora_analytics.simulator.virtual_loop import VirtualLoop


class Clock:
    """The service's clock; call it to read UTC seconds.

    The clock follows virtual time while a `VirtualLoop` is running, and real time in any other event loop. Outside of
    event loops it keeps following the last one, so that synchronous code can create and read it. `start` is where the
    clock stands until it is first read in an event loop (UTC seconds; default: the host's time), or a function that
    returns UTC seconds.
    """

    def __init__(self, start: float | WallClock | None = None) -> None:
        given = None if start is None else validators.clock("clock", start)
        self._is_custom = callable(given)
        self._source: WallClock = time.time
        self._loop: AbstractEventLoop | None = None
        self._offset = 0.0
        if callable(given):
            self._source = given
        elif given is not None:
            self._source, self._offset = _stopped, given
        # Read once, so that a clock that is made inside a loop starts to follow it now and not at its first use.
        self()

    @classmethod
    def of(cls, clock: float | WallClock | None) -> Clock:
        """Return `clock` if it is a `Clock`, otherwise a new clock that starts with it."""
        return clock if isinstance(clock, Clock) else cls(clock)

    def __call__(self) -> float:
        """Return the service's time in UTC seconds."""
        if not self._is_custom:
            loop = _get_running_loop()
            if loop is not self._loop:
                self._follow(loop)
        return self._offset + self._source()

    def _follow(self, loop: AbstractEventLoop | None) -> None:
        """Continue from the current time with the time source of `loop`; with None keep the last source."""
        self._loop = loop
        if loop is None:
            return
        source = loop.time if isinstance(loop, VirtualLoop) else time.time
        # Each source has its own zero; the clock must not jump from one to the other.
        self._offset += self._source() - source()
        self._source = source

    def suspend(self, seconds: float) -> None:
        """Suspend the machine: advance the wall clocks of service and host by `seconds`, but not `loop.time()`.

        Returns at once. Timers of the event loop fire that much late. Negative seconds set the clocks back.
        """
        self._offset += validators.finite("seconds", seconds)


class HostClock:
    """The wall clock of the client's machine: `clock` plus `wrong` seconds. Assign `wrong` at any time."""

    def __init__(self, clock: WallClock, wrong: float = 0.0) -> None:
        self._clock = validation.function("clock", clock, "a function that returns UTC seconds")
        self.wrong = wrong

    @property
    def wrong(self) -> float:
        """Seconds by which the host's clock is ahead of `clock`; negative if it is behind."""
        return self._wrong

    @wrong.setter
    def wrong(self, wrong: float) -> None:
        self._wrong = validators.finite("wrong", wrong)

    def __call__(self) -> float:
        """Return the host's time in UTC seconds."""
        return self._clock() + self._wrong


def _stopped() -> float:
    return 0.0
