"""Permits that were issued together with the first waiter's, for those who wait behind it.

In a ledger that processes share, each change costs a round trip and may be lost to another process. So where several
requests wait, one change takes the permits of all; the others get theirs here a moment later. The next waiter
learns here when to ask.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from agora_analytics.quota.permit import Permit, Rejection
from agora_analytics.quota.priority import SERVED_BEFORE, Priority

_VALID: Final = 0.02
"""Seconds in which a spare permit may be used, after it has come from the ledger: that way counts as part of the round
trip. Two early permits of different seconds are 0.82 s apart, of which clock error and jitter may take 0.8."""


class Issue(NamedTuple):
    """What a change of the ledger gave: to the first waiter, when, and (if known) to the one behind all permits."""

    first: Permit | Rejection
    at: float
    behind: Rejection | None = None


class SparePermits:
    """Permits of one counter that are issued and not used, oldest first."""

    def __init__(self) -> None:
        self._permits: deque[tuple[Permit, Priority, float]] = deque()
        self._behind: dict[Priority, tuple[Rejection, float]] = {}

    def add(self, priority: Priority, permits: list[Permit], now: float) -> None:
        """Keep permits that were issued by the rules of a priority, and have just arrived."""
        self._permits.extend((permit, priority, now + _VALID) for permit in permits)

    def reject_behind(self, priority: Priority, rejection: Rejection, now: float) -> None:
        """Keep the rejection of the next waiter of a priority, for whom no permit is left."""
        self._behind[priority] = rejection, now

    def rejection(self, priority: Priority, now: float) -> Rejection | None:
        """Return, once, when a waiter that found no permit here should ask for one."""
        rejection, arrived = self._behind.pop(priority, (None, 0.0))
        return (
            rejection._replace(wait=rejection.wait - (now - arrived)) if rejection and now < arrived + _VALID else None
        )

    def take(self, priority: Priority, now: float) -> Permit | None:
        """Return a permit that a request of this priority may use."""
        for place, (permit, issued_for, until) in enumerate(self._permits):
            # The rules for exports are stricter, so their permits do for all, and others' do not for them.
            if priority in SERVED_BEFORE[issued_for] and now < until:
                del self._permits[place]
                return permit
        return None

    def expired(self, now: float) -> list[Permit]:
        """Remove the permits that must not be used any more, and return them."""
        expired = [permit for permit, _, until in self._permits if now >= until]
        self._permits = deque(kept for kept in self._permits if now < kept[2])
        return expired
