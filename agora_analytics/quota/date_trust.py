"""Which `Date` is believed: the one rule between an answer and `ServerClock`.

No single answer sets the clock. Three witnesses tell the time: the clock as it is known, carried on by our monotonic
clock; the `Date` of an answer; and the host's wall clock, which is never asked for the time but may agree. Two of them
that agree confirm the clock:

- An answer that agrees with what is known is passed on. If the clock was tentative and the answer is a later one, or
  agrees with the wall clock, the clock is confirmed.
- The first answer, where the wall clock contradicts it, starts a tentative clock, and so does each further answer that
  contradicts a tentative clock.
- An answer that contradicts a confirmed clock is kept as the candidate of its host and teaches nothing. The clock
  starts anew from a later answer of the same host that agrees with the candidate.
- A machine that slept has a monotonic clock that stood still and a wall clock that went on. When the two have parted,
  an answer that agrees with the wall clock starts the clock anew at once.

A repeated `Date` is no second witness: a cache sends the same header again, so the second must name a later second.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import attrs

from agora_analytics.quota.service_clock import DRIFT, STALE, ServerClock

FEW: Final = 5.0
"""Seconds by which two witnesses may differ and still agree."""

_FRESH: Final = 600.0
"""Seconds for which answers alone confirm a clock that the wall clock contradicts: then the service is asked again."""

_HOSTS: Final = 16
"""Hosts whose candidates are kept."""


class Dated(NamedTuple):
    """An answer's `Date`, and when on our monotonic clock its request was sent and it was received."""

    sent: float
    received: float
    date: int

    @property
    def low(self) -> float:
        """Seconds that the service's clock is ahead of ours at least."""
        return self.date - self.received

    @property
    def high(self) -> float:
        """Seconds that it is ahead at most; a header may be stale."""
        return self.date + 1 + STALE - self.sent

    def agrees(self, other: Dated) -> bool:
        """Whether a later answer tells the same time."""
        sent, received, date = self
        other_sent, other_received, other_date = other
        near = FEW + 1 + STALE + DRIFT * abs(other_received - received)
        return other_date - other_received - date + sent <= near and date - received - other_date + other_sent <= near

    def agrees_with_wall(self, ahead: float) -> bool:
        """Whether a wall clock that is so far ahead of our monotonic clock tells the same time."""
        return self.low - FEW <= ahead <= self.high + FEW

    def precedes(self, other: Dated) -> bool:
        """Whether another answer is a second witness: asked for after this one came, and dated later."""
        return self.received < other.sent and self.date < other.date


@attrs.define
class Trust:
    """What is believed of the service's time, to a few seconds, and why.

    `believed` is the answer it stands on, `agreed_at` when the last answer agreed with it and `ahead` how far the wall
    clock was ahead of the monotonic clock then. `doubted` tells that the last answer contradicted it. `candidates` are
    the answers that are not believed, by the number of their host.
    """

    believed: Dated | None = None
    confirmed: bool = False
    doubted: bool = False
    agreed_at: float = 0.0
    ahead: float = 0.0
    candidates: dict[int, Dated] = attrs.field(factory=dict)

    def sure(self, now: float, wall: float) -> bool:
        """Whether the clock is confirmed so well that the service need not be asked whether it is right."""
        if not self.steady(now, wall) or self.doubted or self.believed is None:
            return False
        return now - self.agreed_at < _FRESH or self.believed.agrees_with_wall(wall - now)

    def steady(self, now: float, wall: float) -> bool:
        """Whether the clock is confirmed, and the host's clocks have kept the same distance since."""
        return self.confirmed and not self._jump(now, wall)

    def slept(self, now: float, wall: float) -> float:
        """Seconds by which the machine seems to have slept since the last answer, 0 if it did not."""
        return max(0.0, self._jump(now, wall))

    def utc(self, now: float, wall: float) -> float:
        """Return UTC seconds as the service's answers tell them, or the wall clock's before any answer."""
        if self.believed is None:
            return wall
        return now + self.believed.low

    def learn(self, clock: ServerClock, host: int, seen: Dated, ahead: float) -> bool:
        """Pass an answer's date on to the clock if it is believed; `ahead` is wall minus monotonic time.

        Returns whether that changed what is known.
        """
        if self.believed is None or not self.believed.agrees(seen):
            if not self._replaces(host, seen, ahead):
                self._keep(host, seen)
                return False
            if self.believed is not None:
                clock.restart()
            self._restart(host, seen, ahead)
        self._agree(host, seen, ahead)
        return clock.observe(*seen)

    def forget(self) -> None:
        """Forget everything: monotonic time began anew."""
        self.__init__()  # type: ignore[misc]

    def _replaces(self, host: int, seen: Dated, ahead: float) -> bool:
        """Whether an answer that contradicts what is known is believed."""
        if not self.confirmed:
            return True
        if self._jump(seen.received, seen.received + ahead) and seen.agrees_with_wall(ahead):
            return True
        return self._confirmed_by(host, seen)

    def _confirmed_by(self, host: int, seen: Dated) -> bool:
        before = self.candidates.get(host)
        return before is not None and before.precedes(seen) and before.agrees(seen)

    def _keep(self, host: int, seen: Dated) -> None:
        """Keep an answer as its host's candidate; the first of several that agree, so that a later one confirms it."""
        self.doubted = True
        before = self.candidates.pop(host, None)
        self.candidates[host] = before if before is not None and before.agrees(seen) else seen
        if len(self.candidates) > _HOSTS:
            del self.candidates[next(iter(self.candidates))]

    def _restart(self, host: int, seen: Dated, ahead: float) -> None:
        self.confirmed = seen.agrees_with_wall(ahead) or (self.confirmed and self._confirmed_by(host, seen))
        self.believed = seen

    def _agree(self, host: int, seen: Dated, ahead: float) -> None:
        before = self.believed or seen
        if not self.confirmed:
            # A tentative clock keeps standing on its first answer, so that a later one is later.
            self.confirmed = before.precedes(seen) or seen.agrees_with_wall(ahead)
        elif seen.received - seen.sent <= before.received - before.sent + 2 * DRIFT * (seen.received - before.received):
            self.believed = seen  # it tells as much, less what the clocks' pace has blurred since
        self.doubted, self.agreed_at, self.ahead = False, seen.received, ahead
        if self.candidates:
            self.candidates.pop(host, None)

    def _jump(self, now: float, wall: float) -> float:
        """Seconds that the wall clock has gained on the monotonic clock since the last answer; 0 for a few."""
        jump = wall - now - self.ahead
        return jump if self.believed is not None and abs(jump) > FEW + DRIFT * (now - self.agreed_at) else 0.0
