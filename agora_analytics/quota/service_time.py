"""The service's time: one object, built once with the client and read directly by everything that needs the time.

The `Date` headers of answers teach it (`reading` and `learn` are called with the ledger's state); until then the host's
wall clock stands in. docs/concepts/quota.md explains what is known when, and which header is believed.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from agora_analytics.protocols import WallClock
from agora_analytics.quota.clock_reading import ClockReading
from agora_analytics.quota.date_trust import DateSample, DateTrust
from agora_analytics.quota.ledger_state import LedgerState
from agora_analytics.quota.service_clock import DRIFT, UNKNOWN, ServiceClock

_JUMP: Final = 30.0
"""Seconds that the wall clock must gain on the loop's clock between two observations to count as a sleep."""

CLOCK_TOLERANCE: Final = 5.0
"""Seconds by which a clock may have been wrong without making a request wrong."""

_SAME_ERROR: Final = 5.0
"""Two readings of the host's error that differ by less than this many seconds are the same error."""


class Now(NamedTuple):
    """One reading of the clocks; a step of a stream takes one and hands it down."""

    monotonic: float
    utc: float
    confirmed: bool
    """Whether two sources agree on the service's time."""

    host_ahead: float | None
    """Seconds by which the host's clock is ahead of the service's; None until the service has answered."""

    def confirms(self, earlier: Now) -> bool:
        """Whether the service's time was known at an earlier reading, by all that is known now."""
        return self.confirmed and abs(self.shift_since(earlier)) < CLOCK_TOLERANCE

    def shift_since(self, earlier: Now) -> float:
        """Return the seconds by which UTC turned out to be ahead of what it was taken for at an earlier reading."""
        return self.utc - earlier.utc - (self.monotonic - earlier.monotonic)


class ServiceTime:
    """UTC by the service's clock as far as it is known, else by the host's.

    `monotonic()` is the time of the event loop, by which all waits are measured; it belongs to the loop that first
    asked. `ledger_now()` is the time by which permits and answers are recorded. Everything else is UTC seconds.
    """

    def __init__(self, wall: WallClock, ledger_clock: WallClock | None = None) -> None:
        self._wall = wall
        self._ledger_clock = ledger_clock
        self._loop_time: Callable[[], float] | None = None
        self._clock = ServiceClock()
        self._trust = DateTrust()
        self._host = SleepDetector()
        self._host_ahead: float | None = None

    def monotonic(self) -> float:
        """Return the time of the loop that first asked: finding the running loop is a slow system call."""
        if self._loop_time is None:
            self._loop_time = asyncio.get_running_loop().time
        return self._loop_time()

    def ledger_now(self) -> float:
        """Return the time by which the ledger's states are kept: its own where it has a clock, else the loop's."""
        return self.monotonic() if self._ledger_clock is None else self._ledger_clock()

    def by_ledger(self, at: float) -> float:
        """Return a `monotonic()` time by the clock of the ledger as it is now: it may have been set since."""
        return at if self._ledger_clock is None else self._ledger_clock() - (self.monotonic() - at)

    def utc(self) -> float:
        """Return UTC seconds: a lower bound of the service's clock, or the host's clock until that is known."""
        wall = self._wall()
        if self._loop_time is None:  # nothing was sent yet, and no loop may be running
            return wall
        now = self._loop_time()
        # Every step of a stream comes by here, so no sleep of the host passes unseen.
        self._host.observe(now, wall)
        if self._ledger_clock is not None:
            now = wall = self._ledger_clock()
        clock = self._clock
        if clock.floor == -UNKNOWN:
            return self._trust.utc(now, wall)
        # `clock.offset_min`, spelled out since every step of a stream reads the time several times.
        return now + (clock.floor - DRIFT * (now - clock.floor_at))

    def now(self) -> Now:
        """Read the clocks, once for a whole step."""
        confirmed = self.confirmed  # first: a ledger's thread may replace the clock in between
        return Now(self.monotonic(), self.utc(), confirmed, self.host_ahead())

    def utc_second(self) -> int:
        """Return the whole second of `utc()`, as requests name it."""
        return int(self.utc())

    def passed_second(self) -> int:
        """Return the last second that is certainly over: until the clock is confirmed, by the host's clock too."""
        utc = self.utc()
        # The earlier of the two is over by either clock.
        return int(utc if self.confirmed else min(utc, self._wall()))

    @property
    def confirmed(self) -> bool:
        """Whether two sources agree on the service's clock: two answers, or an answer and the host's clock.

        False before the first answer, and whenever something contradicts the clock. Nothing may be given up because
        of the time while this is false: only the service knows.
        """
        return self._loop_time is not None and self._trust.is_confirmed(*self._ledger_clocks())

    def host_ahead(self) -> float | None:
        """Return by how many seconds the host's clock is ahead of the service's, None until that is known."""
        return self._wall() - self.utc() if self._loop_time is not None and self._clock.floor > -UNKNOWN else None

    def steady_host_ahead(self) -> float | None:
        """Return `host_ahead()`, unchanged for as long as it differs by less than 5 s.

        Each answer makes the time more precise, but spans that adjoin must still adjoin after they were moved.
        """
        ahead, known = self.host_ahead(), self._host_ahead
        if known is None or ahead is None or abs(ahead - known) > _SAME_ERROR:
            self._host_ahead = ahead
        return self._host_ahead

    def slept(self, since: float) -> float:
        """Return the seconds by which the wall clock gained on `monotonic()` since then: mostly sleep of the host."""
        return self._host.slept(since, self.monotonic())

    def sleeps(self, since: float, seconds: float) -> list[tuple[float, float]]:
        """Return the host's sleeps since a `monotonic()` time, where they took `seconds` in all.

        Each is the `monotonic()` time at which it ended and its length in seconds, oldest first. The host's clock is
        observed whenever `utc()` is read.
        """
        return self._host.sleeps(since, self.monotonic(), seconds)

    def reading(self, state: LedgerState) -> ClockReading:
        """Return a reading of both clocks, as a ledger's state knows the service's, which is used from now on."""
        now, wall = self._ledger_clocks()
        # A ledger in a file returns another state each time, as other processes may have changed it.
        self._clock, self._trust = clock, trust = state.clock, state.trust
        if trust.accepted is None or trust.is_stable(now, wall):
            return clock.reading(now, wall if clock.known else trust.utc(now, wall))
        # Until the clock is confirmed it may be either of two days, and the start of no second is known.
        # The monotonic clock stood still while the machine slept, and with it the time by the last answer.
        utc = trust.utc(now, wall) + trust.apparent_sleep(now, wall)
        return ClockReading(now, utc, clock.offset_min(now), math.inf, math.inf, wall)

    def learn(self, host: int, sample: DateSample, state: LedgerState) -> None:
        """Learn the time from an answer of a host, in a ledger's state."""
        self._clock, self._trust = state.clock, state.trust
        now, wall = self._ledger_clocks()
        state.trust.learn(state.clock, host, sample, wall - now)

    def clock_state(self, state: LedgerState) -> tuple[float, float, bool]:
        """Return by how many seconds the service is ahead of the host at least, the typical error, if confirmed."""
        now, wall = self._ledger_clocks()
        offset_min, typical_error, _ = state.clock.bounds(now)
        return now + offset_min - self._wall(), typical_error, state.trust.is_confirmed(now, wall)

    def _ledger_clocks(self) -> tuple[float, float]:
        """Return `ledger_now()`, and the UTC to compare answers with.

        A ledger's own clock is both: hosts whose clocks differ must not contradict each other in what they share.
        """
        now = self.ledger_now()
        return now, self._wall() if self._ledger_clock is None else now


class SleepDetector:
    """Detects sleeps of the host: between two observations its wall clock gained on the loop's clock.

    Setting the wall clock looks the same, so this is a hint; only an answer of the service proves anything.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        # Bounded, as a stream may run for months.
        self._gains: deque[tuple[float, float]] = deque(maxlen=64)

    def observe(self, now: float, wall: float) -> None:
        """Compare the loop's clock with the wall clock."""
        offset = wall - now
        if self._offset is not None and offset - self._offset > _JUMP:
            self._gains.append((now, offset - self._offset))
        self._offset = offset

    def slept(self, since: float, now: float) -> float:
        """Return the seconds that the wall clock gained between two times of the loop's clock."""
        return sum(gained for ended, gained in self._gains if since < ended <= now)

    def sleeps(self, since: float, now: float, seconds: float) -> list[tuple[float, float]]:
        """Return when each sleep between two times of the loop's clock ended, and its length; `seconds` in all.

        If the gains do not add up to that, one of them was a clock that was set. The sleep is then the gain nearest to
        `seconds`, or, without any gain, one that has just ended.
        """
        gains = [gain for gain in self._gains if since < gain[0] <= now]
        if abs(self.slept(since, now) - seconds) <= _JUMP:
            return gains
        ended, _ = min(gains, key=lambda gain: abs(gain[1] - seconds), default=(now, seconds))
        return [(ended, seconds)]
