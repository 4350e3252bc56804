"""For how long a store of checkpoints has answered: what must be known before a lease that ran out is taken over."""

from __future__ import annotations

import math


class StoreContact:
    """How long a store has answered this process: without a failure, and never with a long pause between two answers.

    While a store is down, its clock goes on and nobody can renew a lease. So that one has run out says something about
    its holder only if the store could be reached all the time; in a long pause an outage may have gone unnoticed.
    """

    def __init__(self, longest_pause: float) -> None:
        self._longest_pause = longest_pause
        self._since = self._last = -math.inf

    def answered(self, now: float) -> None:
        """Record an answer."""
        if now - self._last > self._longest_pause:
            self._since = now
        self._last = now

    def failed(self) -> None:
        """Record a call without one; the next answer is the first."""
        self._last = -math.inf

    def seconds(self, now: float) -> float:
        """Return for how long the store has answered; 0 if the last answer is too old to tell."""
        return now - self._since if now - self._last <= self._longest_pause else 0.0
