"""Which `Date` header is believed: the rule between an answer and `ServiceClock`.

No single answer sets the clock. There are three sources of the time: the clock as it is known, carried on by our
monotonic clock; the `Date` of an answer; and the host's wall clock, which never sets the time but may agree. Two that
agree confirm the clock:

- An answer that agrees with the known clock is passed on to it. If the clock was tentative, a later second in the
  header or agreement with the wall clock confirms it.
- The first answer starts the clock, which is tentative if the wall clock contradicts it. An answer that contradicts a
  tentative clock starts it again.
- An answer that contradicts a confirmed clock becomes the candidate of its host and changes nothing. A later answer of
  the same host that agrees with the candidate restarts the clock.
- A machine that slept has a monotonic clock that stood still and a wall clock that went on. When the two have parted,
  an answer that agrees with the wall clock restarts the clock at once.

A repeated `Date` is no second source: a cache sends the same header again, so the second must name a later second.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import attrs

from agora_analytics.quota.service_clock import DRIFT, MAX_STALENESS, ServiceClock

TOLERANCE: Final = 5.0
"""Seconds by which two sources may differ and still agree."""

_CONFIRMATION_TTL: Final = 600.0
"""Seconds for which answers alone confirm a clock that the wall clock contradicts; then the service decides again."""

_MAX_CANDIDATES: Final = 16
"""Hosts whose candidates are kept."""


class DateSample(NamedTuple):
    """The `Date` of an answer in UTC seconds, and the monotonic times of sending and receiving."""

    sent: float
    received: float
    date: int

    @property
    def offset_min(self) -> float:
        """Seconds by which the service's clock is ahead of ours at least."""
        return self.date - self.received

    @property
    def offset_max(self) -> float:
        """Seconds by which it is ahead at most, as a header may be stale."""
        return self.date + 1 + MAX_STALENESS - self.sent

    def agrees(self, other: DateSample) -> bool:
        """Whether a later sample shows the same time."""
        sent, received, date = self
        other_sent, other_received, other_date = other
        # Both headers name whole seconds and either may be stale; the clocks drift between the two answers.
        near = TOLERANCE + 1 + MAX_STALENESS + DRIFT * abs(other_received - received)
        return other_date - other_received - date + sent <= near and date - received - other_date + other_sent <= near

    def agrees_with_wall(self, wall_offset: float) -> bool:
        """Whether a wall clock that is so far ahead of our monotonic clock shows the same time."""
        return self.offset_min - TOLERANCE <= wall_offset <= self.offset_max + TOLERANCE

    def precedes(self, other: DateSample) -> bool:
        """Whether another sample is a second source: sent after this one was received, and dated later."""
        return self.received < other.sent and self.date < other.date


@attrs.define
class DateTrust:
    """What is believed of the service's time, to a few seconds, and why.

    Attributes:
        accepted: the sample that the clock stands on.
        confirmed: whether two sources agreed on it.
        contradicted: whether the last answer contradicted it.
        agreed_at: when the last answer agreed with it (monotonic).
        wall_offset: how far the wall clock was ahead of the monotonic clock then.
        candidates: samples that are not believed yet, by the index of their host.

    """

    accepted: DateSample | None = None
    confirmed: bool = False
    contradicted: bool = False
    agreed_at: float = 0.0
    wall_offset: float = 0.0
    candidates: dict[int, DateSample] = attrs.field(factory=dict)

    def is_confirmed(self, now: float, wall: float) -> bool:
        """Whether the clock may be relied on without asking the service again."""
        if not self.is_stable(now, wall) or self.contradicted or self.accepted is None:
            return False
        # The service's word alone holds for a while; after that the wall clock must agree, or another answer renew it.
        return now - self.agreed_at < _CONFIRMATION_TTL or self.accepted.agrees_with_wall(wall - now)

    def is_stable(self, now: float, wall: float) -> bool:
        """Whether the clock was confirmed, and the host's two clocks have kept their distance since."""
        return self.confirmed and not self._wall_jump(now, wall)

    def apparent_sleep(self, now: float, wall: float) -> float:
        """Return the seconds for which the machine seems to have slept since the last answer, 0 if it did not."""
        return max(0.0, self._wall_jump(now, wall))

    def utc(self, now: float, wall: float) -> float:
        """Return UTC seconds by the service's answers, or the wall clock's before any answer."""
        if self.accepted is None:
            return wall
        return now + self.accepted.offset_min

    def learn(self, clock: ServiceClock, host: int, sample: DateSample, wall_offset: float) -> None:
        """Pass a host's sample on to the clock if it is believed; `wall_offset` is wall minus monotonic time."""
        if self.accepted is None or not self.accepted.agrees(sample):
            if not self._should_replace(host, sample, wall_offset):
                # What is not believed does not reach the clock, not even as a bound.
                self._store_candidate(host, sample)
                return
            if self.accepted is not None:
                clock.restart()
            self._restart(host, sample, wall_offset)
        self._accept(host, sample, wall_offset)
        clock.observe(*sample)

    def reset(self) -> None:
        """Forget everything, as monotonic time restarted."""
        self.__init__()  # type: ignore[misc]

    def _should_replace(self, host: int, sample: DateSample, wall_offset: float) -> bool:
        """Whether a sample that contradicts the clock is believed instead of it."""
        if not self.confirmed:
            return True
        # The machine slept: its monotonic clock stood still, and the wall clock says by how much.
        if self._wall_jump(sample.received, sample.received + wall_offset) and sample.agrees_with_wall(wall_offset):
            return True
        return self._confirms_candidate(host, sample)

    def _confirms_candidate(self, host: int, sample: DateSample) -> bool:
        candidate = self.candidates.get(host)
        return candidate is not None and candidate.precedes(sample) and candidate.agrees(sample)

    def _store_candidate(self, host: int, sample: DateSample) -> None:
        """Keep a sample as its host's candidate: the first of several that agree, so that a later one confirms it."""
        self.contradicted = True
        before = self.candidates.pop(host, None)
        # The first is kept, since a second source must be sent after it and dated later.
        self.candidates[host] = before if before is not None and before.agrees(sample) else sample
        if len(self.candidates) > _MAX_CANDIDATES:
            # That of the host which has been silent longest.
            del self.candidates[next(iter(self.candidates))]

    def _restart(self, host: int, sample: DateSample, wall_offset: float) -> None:
        # A tentative clock that starts again is tentative again, whatever candidates its hosts have.
        by_candidate = self.confirmed and self._confirms_candidate(host, sample)
        self.confirmed = sample.agrees_with_wall(wall_offset) or by_candidate
        self.accepted = sample

    def _accept(self, host: int, sample: DateSample, wall_offset: float) -> None:
        before = self.accepted or sample
        drift = 2 * DRIFT * (sample.received - before.received)
        if not self.confirmed:
            # A tentative clock keeps standing on its first sample, so that a later one is later.
            self.confirmed = before.precedes(sample) or sample.agrees_with_wall(wall_offset)
        elif sample.received - sample.sent <= before.received - before.sent + drift:
            self.accepted = sample  # it is as precise as the old one has become by drift
        self.contradicted, self.agreed_at, self.wall_offset = False, sample.received, wall_offset
        # The host agrees again, so what it said before was its mistake.
        if self.candidates:
            self.candidates.pop(host, None)

    def _wall_jump(self, now: float, wall: float) -> float:
        """Return the seconds that the wall clock gained on the monotonic clock since the last answer; 0 for a few."""
        jump = wall - now - self.wall_offset
        return jump if self.accepted is not None and abs(jump) > TOLERANCE + DRIFT * (now - self.agreed_at) else 0.0
