"""The service's clock, as far as it can be known from the `Date` headers of its answers.

A header has whole seconds and is never ahead of its host's clock; it may be stale. So an answer that reached us at `r`
and is dated `D` proves that the service's clock was at least `D` by then: a lower bound of how far it is ahead of our
monotonic clock, and the best of these bounds is the one that everything builds on. An answer that comes right after the
service's second has changed proves nearly all there is to prove, so while the clock is unknown a burst is worth holding
back for such a moment (`telling`). The upper bound would be as good if headers were always fresh. As they are not, it
only guides that search, and what is certain (`top`) is looser by the staleness that real servers show.

Both bounds give way slowly, because two clocks never run at quite the same pace, and an answer that contradicts them (a
stepped clock, a machine that slept) starts the estimate anew. Our wall clock has no part in any of this.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

DRIFT: Final = 2.5e-4
"""Seconds per second by which our clock and the service's may differ in pace."""

GUARD: Final = 0.1
"""Seconds by which the clocks of the hosts behind one name may differ, twice, and some."""

STALE: Final = 1.0 + GUARD
"""Seconds by which a header may be behind its host."""

_FAR: Final = 1e15
NEAR: Final = 0.05
"""Seconds after a telling moment that are as good."""

_WIDTH: Final = 0.12
"""Bounds this close after a few such moments need no further search: after one, a stale header may have told them."""

_SLACK: Final = 0.2
"""Seconds by which the lower bound may be behind the truth once it has been searched for."""

_TRIES: Final = 6
_RETRIES: Final = 2
"""Telling moments after which the search ends, whatever it found: the first time, and later on."""

_OLD: Final = 0.15
"""Seconds of doubt that age adds, after which the bound is searched for again."""

_ROOM: Final = 0.8
"""Part of a second that the slack and the way there and back may take: more slack costs nothing where that is short."""

_STEP: Final = 0.05
_RARE: Final = 0.01
"""How the length of the way is followed: in such steps, so that so few take longer."""


@attrs.define
class ServerClock:
    """Bounds of the service's clock minus ours, in seconds; every `now` is of our monotonic clock."""

    floor: float = -_FAR
    floor_at: float = 0.0
    ceiling: float = _FAR
    ceiling_at: float = 0.0
    top: float = _FAR
    top_at: float = 0.0
    tries: int = 0
    tried_at: float = -_FAR
    sure_at: float | None = None
    wary_until: float = -_FAR
    way: float = 0.0

    @property
    def known(self) -> bool:
        """Whether there was any answer yet."""
        return self.floor > -_FAR

    def low(self, now: float) -> float:
        """Return how far the service's clock is ahead of ours at least."""
        return self.floor - DRIFT * (now - self.floor_at)

    def bounds(self, now: float) -> tuple[float, float, float]:
        """Return how far the service's clock is ahead of ours at least, and how much more it may be.

        That by all experience, and for certain; both are infinite before the first answer.
        """
        low = self.floor - DRIFT * (now - self.floor_at)
        if low < -_FAR / 2:
            return low, math.inf, math.inf
        doubt = self.top + DRIFT * (now - self.top_at) - low
        if self.sure_at is None:
            return low, doubt, doubt
        return low, min(doubt, max(_ROOM - self.way, _SLACK)), doubt

    @property
    def searching(self) -> bool:
        """Whether the lower bound is still being searched for the first time."""
        return self.sure_at is None

    def ageing(self, now: float) -> bool:
        """Whether it is time to search again."""
        return self.sure_at is not None and self._age(now) > _OLD

    def telling(self, now: float) -> float:
        """Return the next moment at which an answer tells most: the service's second changes, by the best guess."""
        if not self.known:
            return now
        guess = (self.low(now) + self._upper(now)) / 2
        return math.ceil(now + guess) - guess

    def observe(self, sent: float, received: float, date: int) -> bool:
        """Learn from an answer: when its request was sent and it was received, and what its header says.

        Returns whether it changed anything, which it seldom does once the clock is known.
        """
        low, high = date - received, date + 1 - sent
        way = received - sent
        self.way += _STEP * (1 - _RARE if way > self.way else -_RARE) if self.way else way
        known = self.floor - DRIFT * (received - self.floor_at)
        if high + STALE < known or low > self.top + DRIFT * (received - self.top_at):
            self.restart(self.wary_until)
        elif low <= known and self.sure_at is not None and not self.ageing(received):
            return False
        self._narrow(sent, received, low, high)
        self._decide(received)
        return True

    def _narrow(self, sent: float, received: float, low: float, high: float) -> None:
        if sent > self.tried_at and self.telling(sent - NEAR) <= sent:
            self.tries, self.tried_at = self.tries + 1, received
        if low > self.low(received):
            self.floor, self.floor_at = low, received
        if high < self._upper(received):
            self.ceiling, self.ceiling_at = high, received
        if self._upper(received) < self.low(received):
            # The header was stale once: look for the truth in the whole second above the lower bound.
            self.ceiling, self.ceiling_at = self.low(received) + 1, received
        if high + STALE < self.top + DRIFT * (received - self.top_at):
            self.top, self.top_at = high + STALE, received

    def restart(self, wary_until: float = -_FAR) -> None:
        """Forget everything, and be sure of nothing before `wary_until`."""
        self.__init__(wary_until=wary_until)  # type: ignore[misc]

    def _decide(self, now: float) -> None:
        """End the search where it has found enough or lasted long enough."""
        if now < self.wary_until:
            return
        enough = _TRIES if self.sure_at is None else _RETRIES
        if self.sure_at is not None and not self.ageing(now):
            self.tries = 0
        elif self.tries >= enough or (self.tries >= _RETRIES and self._upper(now) - self.low(now) <= _WIDTH):
            self.sure_at, self.tries = now, 0

    def _upper(self, now: float) -> float:
        return self.ceiling + DRIFT * (now - self.ceiling_at)

    def _age(self, now: float) -> float:
        return 2 * DRIFT * (now - (self.sure_at or 0.0))


def guard(window: float) -> float:
    """Seconds to keep clear of a window's beginning: a longer one has room for a clock that is set back a little."""
    return GUARD if window <= 1 else 1.0
