"""One counter's line: who waits, in which order, and when the next may go.

Granting is synchronous: a timer or an answer calls `_grant`, which hands tokens to the head of the line. Nothing is
held across a wait, so a waiter that is cancelled only has to step out of the line, or put back what it was just given.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.quota._bucket import Bucket

GUARD = 2.0
"""Seconds after giving up on a request in which the service may still count it."""


class Line:
    """Buckets per second and per minute that a request needs a token from each of, first come first served."""

    def __init__(self, rates: Mapping[Unit, int]) -> None:
        self.buckets: dict[Unit, Bucket] = {
            unit: Bucket(rate, WINDOWS[unit]) for unit, rate in rates.items() if unit != "day"
        }
        self._line: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    def bound(self, now: float) -> tuple[float, Unit]:
        """Seconds that one who joins now will wait at least, and the unit that makes him wait."""
        waits: list[tuple[float, Unit]] = [
            (bucket.wait(now, len(self._line)), unit) for unit, bucket in self.buckets.items()
        ]
        return max(waits, default=(0.0, "second"))

    async def take(self) -> None:
        """Wait in line for a token of each bucket; cancelled, nothing stays taken."""
        loop = asyncio.get_running_loop()
        if not self._line and self._free(loop.time()):
            self._take()
            return
        place = loop.create_future()
        self._line.append(place)
        self._grant()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self.put_back()
            elif place in self._line:
                self._line.remove(place)
            raise

    def put_back(self) -> None:
        """Return the tokens of a request that was not sent."""
        for bucket in self.buckets.values():
            bucket.put_back()
        self._grant()

    def settle(self, *, answered: bool) -> None:
        """Let the tokens of a request that was sent come back when it is safe."""
        at = asyncio.get_running_loop().time() + (0.0 if answered else GUARD)
        for bucket in self.buckets.values():
            bucket.settle(at)
        if self._line:
            self._grant()

    def refuse(self, unit: Unit, limit: int | None) -> None:
        """Learn from a refusal; a second one before the window is over changes nothing more."""
        bucket = self.buckets.get(unit)
        if bucket is not None:
            bucket.refuse(asyncio.get_running_loop().time(), limit)

    def _free(self, now: float) -> bool:
        return all(bucket.free(now) > 0 for bucket in self.buckets.values())

    def _take(self) -> None:
        for bucket in self.buckets.values():
            bucket.take()

    def _grant(self) -> None:
        """Give tokens to the head of the line, and come back when the next token does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._line and self._free(now):
            place = self._line.popleft()
            if not place.done():  # cancelled, and not yet out of the line
                self._take()
                place.set_result(None)
        if self._line:
            wait = max(bucket.wait(now) for bucket in self.buckets.values())
            self._timer = loop.call_later(wait, self._grant)
