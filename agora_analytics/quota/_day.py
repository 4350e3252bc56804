"""One counter's requests per UTC day, reserved in a ledger before they are sent.

Days are the service's own, told by our clock. A request so close to midnight that it may be counted in either day is
charged to both: within `SKEW` seconds of it, and while it is under way across it.
"""

from __future__ import annotations

from typing import Final

from agora_analytics.protocols import DayKey, Ledger, WallClock

SKEW: Final = 5.0
"""Seconds that our clock may be wrong."""

_DAY: Final = 86_400


class Day:
    """At most `limit` requests per UTC day of one counter of one account."""

    def __init__(self, key: DayKey, limit: int, ledger: Ledger, clock: WallClock) -> None:
        self.limit = limit
        self._key = key
        self._ledger = ledger
        self._clock = clock
        # The day on which the service itself said that nothing is left.
        self._closed: int | None = None

    async def used(self) -> int:
        """Requests counted today; all of them where the service said so."""
        if self._closed in self._days():
            return self.limit
        return await self._ledger.spent(self._at(int(self._clock() // _DAY)))

    async def reserve(self) -> tuple[int, ...]:
        """Count a request on each day it may fall into, and return them; none if one of them is full."""
        days = self._days()
        if self._closed in days:
            return ()
        for index, day in enumerate(days):
            if not await self._ledger.reserve(self._at(day), self.limit):
                await self.release(days[:index])
                return ()
        return days

    async def release(self, days: tuple[int, ...]) -> None:
        """Take reservations back: nothing was sent."""
        for day in days:
            await self._ledger.release(self._at(day))

    async def settle(self, days: tuple[int, ...]) -> None:
        """Charge a day that has begun while a request was under way."""
        for day in self._days():
            if day not in days:
                await self._ledger.charge(self._at(day))

    def close(self, limit: int | None) -> None:
        """Believe the service: nothing more today, and the limit may be another."""
        self._closed = int(self._clock() // _DAY)
        self.limit = limit or self.limit

    def until_tomorrow(self) -> float:
        """Seconds until the next day has begun for certain."""
        return (self._days()[0] + 1) * _DAY + SKEW - self._clock()

    def _at(self, day: int) -> DayKey:
        return DayKey(self._key.account, self._key.counter, day)

    def _days(self) -> tuple[int, ...]:
        """Return the days that a request counted about now may be counted in: one, or two about midnight."""
        now = self._clock()
        first, last = int((now - SKEW) // _DAY), int((now + SKEW) // _DAY)
        return (first,) if first == last else (first, last)
