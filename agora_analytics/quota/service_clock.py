"""An estimate of the service's clock from the `Date` headers of its answers, and where in a second to aim a burst.

An answer that was received at `r` and is dated `D` proves that the service's clock had reached `D` by then: a lower
bound of its offset, on which everything builds. The upper bounds are weaker, as headers may be stale. Until the clock
is *calibrated*, a burst is held back for the next tick of the service's second, as the answer then proves most.

The host that counts requests may have another clock than the one that writes the header, at a fixed distance. So each
burst is *aimed* at a place in the second, and a rate-limit error that no count explains moves the aim.
docs/concepts/quota.md shows both with pictures.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from agora_analytics.quota.clock_reading import DAY, GUARD, ClockReading

DRIFT: Final = 2.5e-4
"""Seconds per second by which our clock and the service's may run at different speeds."""

MAX_STALENESS: Final = 1.0 + GUARD
"""Seconds by which a `Date` header may be behind its host's clock."""

TICK_TOLERANCE: Final = 0.05
"""How many seconds after the predicted tick of the service's second a request still counts as a probe."""

UNKNOWN: Final = 1e15
"""Stands for a bound that is not known."""

_CALIBRATED_WIDTH: Final = 0.12
"""Calibration ends early once the bounds are this close, in seconds; not after one probe, whose header may be stale."""

_CALIBRATED_ERROR: Final = 0.2
"""Seconds by which the lower bound of a calibrated clock may be behind the truth in practice."""

_FIRST_PROBES: Final = 6
_LATER_PROBES: Final = 2
"""Probes after which calibration ends whatever they found: the first time, and later."""

_RECALIBRATE_AT: Final = 0.15
"""Seconds of error from drift at which the clock is calibrated again."""

_ERROR_BUDGET: Final = 0.8
"""Budget in seconds for clock error and jitter of the round trip within a second; little jitter affords more error."""

_AIM_SHIFTS: Final = (0.4, 0.3, 0.3)
"""Seconds by which bursts are sent later, one after the other, each time the aim is found to be wrong."""

_AIM_PROVEN_AFTER: Final = 300
"""Answers without a rate-limit error after which a moved aim is kept at the next error, which has another cause."""

_FIRST_BURST_PAUSE: Final = 1.0
_MAX_BURST_PAUSE: Final = 60.0
_REPEAT_WITHIN: Final = 30.0
"""Seconds without bursts after an error, at first and at most, and after these in which another error doubles them."""

_MAX_DAY_LAG: Final = 60.0
"""Largest delay in seconds of the counting host's midnight that is learned."""


_P99_STEP: Final = 0.05
_P99_TAIL: Final = 0.01
"""Streaming estimate of the 99th-percentile round trip: up 49.5 ms when one is slower, down 0.5 ms when not."""

_RTT_MIN_GROWTH: Final = 5e-5
"""Fraction of the jitter by which the shortest round trip grows with each answer, as routes change."""


@attrs.define
class ServiceClock:
    """Bounds of the offset of the service's clock from ours, in seconds; all times are monotonic.

    Attributes:
        floor, floor_at: the lower bound, and when it was found.
        ceiling, ceiling_at: the upper bound if headers are fresh; it only guides calibration.
        hard_ceiling, hard_ceiling_at: the upper bound that holds for stale headers too.
        probes, probed_at: how many probes this calibration made, and when the last was answered.
        calibrated_at: when the last calibration ended, None before the first.
        rtt_p99, rtt_min: the 99th-percentile and the shortest round trip.
        aim_shift, aim_moves: by how much bursts are sent later, and how often that was changed.
        aim_moved: whether it was changed with the present bounds.
        answers_since_rate_limit: how many answers came since the last rate-limit error.
        day_lag: how much later than the header's the counting host's days begin.
        burst_pause, no_bursts_until: how long no bursts are sent after an error, and until when.

    """

    floor: float = -UNKNOWN
    floor_at: float = 0.0
    ceiling: float = UNKNOWN
    ceiling_at: float = 0.0
    hard_ceiling: float = UNKNOWN
    hard_ceiling_at: float = 0.0
    probes: int = 0
    probed_at: float = -UNKNOWN
    calibrated_at: float | None = None
    rtt_p99: float = 0.0
    rtt_min: float = UNKNOWN
    aim_shift: float = 0.0
    aim_moves: int = 0
    aim_moved: bool = False
    answers_since_rate_limit: int = 0
    day_lag: float = 0.0
    burst_pause: float = 0.0
    no_bursts_until: float = -UNKNOWN

    @property
    def known(self) -> bool:
        """Whether there was any answer yet."""
        return self.floor > -UNKNOWN

    def offset_min(self, now: float) -> float:
        """Return by how many seconds the service's clock is ahead of ours at least."""
        return self.floor - DRIFT * (now - self.floor_at)

    def bounds(self, now: float) -> tuple[float, float, float]:
        """Return `(offset_min, typical_error, max_error)` in seconds; the errors are infinite before any answer."""
        low = self.floor - DRIFT * (now - self.floor_at)
        # Nothing is known yet: drift moves the bound a little away from exactly -UNKNOWN.
        if low < -UNKNOWN / 2:
            return low, math.inf, math.inf
        max_error = self.hard_ceiling + DRIFT * (now - self.hard_ceiling_at) - low
        # A typical error as large as the maximum means not calibrated: no permit is early, so there are no bursts.
        if self.calibrated_at is None or now < self.no_bursts_until:
            return low, max_error, max_error
        # Early permits of two seconds are 0.82 s apart: what jitter leaves of that, the error may take.
        return low, min(max_error, max(_ERROR_BUDGET - self.rtt_p99 + self.rtt_min, _CALIBRATED_ERROR)), max_error

    def reading(self, now: float, wall: float) -> ClockReading:
        """Return a reading of our clocks, with all that is known of the service's."""
        low, typical, largest = self.bounds(now)
        if typical == largest:
            return ClockReading(now, wall, low, typical, largest, day_lag=self.day_lag)
        lead = self.rtt_min - self.aim_shift
        return ClockReading(now, wall, low, typical, largest, None, lead, self.rtt_min, self.day_lag)

    def on_rate_limited(self, reading: ClockReading, *, aim_suspected: bool) -> None:
        """Learn from an error that no count of ours explains: send no bursts for a while, then aim elsewhere.

        `aim_suspected` says whether a wrong aim can explain it: enough requests were sent to exceed the limit if some
        were counted in the wrong second.
        """
        # The bounds are kept: a new search for the clock would hold bursts back, and end at the same wrong aim.
        now, since_pause = reading.monotonic, reading.monotonic - self.no_bursts_until
        # During the pause no bursts are sent, so the aim cannot be the cause.
        if since_pause < 0:
            return
        repeated = since_pause < _REPEAT_WITHIN
        self.burst_pause = min(2 * self.burst_pause, _MAX_BURST_PAUSE) if repeated else _FIRST_BURST_PAUSE
        self.no_bursts_until = now + self.burst_pause
        proven = self.aim_moves and self.answers_since_rate_limit >= _AIM_PROVEN_AFTER
        if aim_suspected and reading.calibrated and not proven:
            self.aim_shift = (self.aim_shift + _AIM_SHIFTS[self.aim_moves % len(_AIM_SHIFTS)]) % 1
            self.aim_moves += 1
            # `_narrow` keeps a moved aim in place while the bounds beneath it get tighter.
            self.aim_moved = True
        self.answers_since_rate_limit = 0

    def on_day_start(self, at: float) -> None:
        """Learn how late the counting host's day began, from the first request accepted after it had refused others."""
        lag = (at + self.offset_min(at)) % DAY
        if self.known and lag < _MAX_DAY_LAG:
            # Never shortened: too long a lag only delays requests at midnight.
            self.day_lag = max(self.day_lag, lag)

    @property
    def calibrating(self) -> bool:
        """Whether the clock is being calibrated for the first time."""
        return self.calibrated_at is None

    def needs_calibration(self, now: float) -> bool:
        """Whether drift has made the clock so uncertain that it must be calibrated again."""
        return self.calibrated_at is not None and self._drift_error(now) > _RECALIBRATE_AT

    def next_tick(self, now: float) -> float:
        """Return when a request should next be sent to be answered just after the service's second changes."""
        if not self.known:
            return now
        # The arrival counts, half a round trip later. A little too late proves more than a little too early.
        guess = (self.offset_min(now) + self._offset_max(now) + max(0.0, self.rtt_min - GUARD)) / 2
        return math.ceil(now + guess) - guess

    def observe(self, sent: float, received: float, date: int) -> None:
        """Learn from an answer: when its request was sent, when it was received, and its `Date` in UTC seconds."""
        low, high = date - received, date + 1 - sent
        known = self.floor - DRIFT * (received - self.floor_at)
        # The new bounds exclude the old ones: one of the two clocks was set.
        contradicts = high + MAX_STALENESS < known or low > self.hard_ceiling + DRIFT * (
            received - self.hard_ceiling_at
        )
        if contradicts:
            self.restart()
        # A calibrated clock learns only from an answer that raises its lower bound; most do not.
        if contradicts or low > known or self.calibrated_at is None or self.needs_calibration(received):
            self._narrow(sent, received, low, high)
            self._finish_calibration(received)
        self._update_rtt(received - sent)
        # An aim is proven by answers and not by time, in which little may have been sent.
        self.answers_since_rate_limit += 1

    def _update_rtt(self, rtt: float) -> None:
        if self.rtt_min == UNKNOWN:
            self.rtt_p99 = self.rtt_min = rtt
        self.rtt_p99 += _P99_STEP * (1 - _P99_TAIL if rtt > self.rtt_p99 else -_P99_TAIL)
        grown = self.rtt_min + _RTT_MIN_GROWTH * (self.rtt_p99 - self.rtt_min)
        self.rtt_min = rtt if rtt < grown else grown  # noqa: FURB136 - twice as fast, at every answer

    def _narrow(self, sent: float, received: float, low: float, high: float) -> None:
        """Tighten the bounds by one answer, whose own are `low` and `high`."""
        # Requests of one burst are one probe: they measure the same tick.
        if sent > self.probed_at and self.next_tick(sent - TICK_TOLERANCE) <= sent:
            self.probes, self.probed_at = self.probes + 1, received
        if low > self.offset_min(received):
            if self.aim_moved and self.calibrated_at is not None:
                # The aim was found with the old bound, so it stays at the same place of the service's second.
                self.aim_shift = (self.aim_shift + max(0.0, low - self.floor - DRIFT * (received - self.floor_at))) % 1
            self.floor, self.floor_at = low, received
        if high < self._offset_max(received):
            self.ceiling, self.ceiling_at = high, received
        if self._offset_max(received) < self.offset_min(received):
            # A header was stale: search the whole second above the lower bound.
            self.ceiling, self.ceiling_at = self.offset_min(received) + 1, received
        if high + MAX_STALENESS < self.hard_ceiling + DRIFT * (received - self.hard_ceiling_at):
            self.hard_ceiling, self.hard_ceiling_at = high + MAX_STALENESS, received

    def restart(self) -> None:
        """Forget the bounds; keep the round trips, the aim, and the counting host's lag."""
        # These are about the route and the service's hosts, which setting a clock does not change.
        names = ("rtt_p99", "rtt_min", "aim_shift", "aim_moves", "answers_since_rate_limit", "day_lag")
        self.__init__(**{name: getattr(self, name) for name in names})  # type: ignore[misc]

    def _finish_calibration(self, now: float) -> None:
        """End the calibration once the bounds are close enough, or after enough probes."""
        if self.calibrated_at is not None and not self.needs_calibration(now):
            self.probes = 0
            return
        close = self._offset_max(now) - self.offset_min(now) <= _CALIBRATED_WIDTH
        enough = _LATER_PROBES if close or self.calibrated_at is not None else _FIRST_PROBES
        if self.probes >= enough:
            self.calibrated_at, self.probes = now, 0

    def _offset_max(self, now: float) -> float:
        return self.ceiling + DRIFT * (now - self.ceiling_at)

    def _drift_error(self, now: float) -> float:
        # Both bounds give way, in opposite directions.
        return 2 * DRIFT * (now - (self.calibrated_at or 0.0))
