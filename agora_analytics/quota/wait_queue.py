"""One counter's line in this process: who waits, in which priority, and who tries next.

One waiter at a time has the turn. It asks the ledger; granted, it hands the turn on and goes; denied, it steps back to
the head of its priority, which sleeps until a token may be there. Nothing is held meanwhile, so whoever is cancelled
only has to hand on the turn, and a waiter of a higher priority can step in at any time.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from enum import StrEnum
from typing import Final, Protocol

from agora_analytics.errors import QuotaExhausted
from agora_analytics.quota.bucket import Denied, Granted

__all__ = ["Priority"]

_SHARE: Final = 10
"""Of so many tokens given while a priority waits, one is its own."""

_TICK: Final = 1e-3
"""Seconds that who is denied sleeps at least: a shorter rest of a window may round to no time at all."""

_LOOK: Final = 60.0
"""Seconds after which who is denied looks again at the latest: the clock may have been set, the machine have slept."""


class Priority(StrEnum):
    """What a request is for: people come first, then streams, then exports; a small share keeps each moving."""

    INTERACTIVE = "interactive"
    STREAM = "stream"
    EXPORT = "export"


_BEFORE: Final = {priority: tuple(Priority)[: number + 1] for number, priority in enumerate(Priority)}
"""The priorities that go before one who joins a priority: the higher ones and, first come first served, its own."""


class Tokens(Protocol):
    """Where a line gets its tokens."""

    async def reserve(self, priority: Priority, waiting: int) -> Granted | Denied:
        """Take a token, or tell when to come again; `waiting` is how many are in line."""

    async def bound(self, ahead: int) -> Denied:
        """Tell how long one with `ahead` others before him waits at least."""

    def exhausted(self, denied: Denied, patience: float) -> QuotaExhausted:
        """Return the error that says that waiting takes too long."""


class Line:
    """Waiters of one counter, by priority, first come first served in each."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.waiting: dict[Priority, int] = dict.fromkeys(Priority, 0)
        self._places: dict[Priority, deque[asyncio.Future[None]]] = {priority: deque() for priority in Priority}
        self._sleeps: dict[Priority, float] = dict.fromkeys(Priority, -math.inf)
        self._passed: dict[Priority, int] = dict.fromkeys(Priority, 0)
        self._total = 0
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, priority: Priority, patience: float | None = None) -> Granted:
        """Wait for a token, at most `patience` seconds; raises `QuotaExhausted` as soon as that is too short.

        Cancelled, nothing stays taken.
        """
        if not self._total and not self._busy:
            # Nobody waits: most requests of most programs go this way.
            self._busy = True
            try:
                got = await self._tokens.reserve(priority, 0)
            finally:
                self._busy = False
                self._next()  # some may have come meanwhile
            if isinstance(got, Granted):
                return got
        self._join(priority, 1)
        try:
            return await self._take(priority, patience)
        finally:
            self._join(priority, -1)
            self._next()

    async def _take(self, priority: Priority, patience: float | None) -> Granted:
        deadline = None if patience is None else asyncio.get_running_loop().time() + patience
        if self._total > 1 or self._busy:
            ahead = sum(self.waiting[other] for other in _BEFORE[priority]) - 1
            if ahead and patience is not None:
                self._refuse(await self._tokens.bound(ahead), patience, patience)
            if ahead or self._busy:
                await self._turn(priority, deadline, patience)
        while True:
            got = await self._try(priority)
            if isinstance(got, Granted):
                return got
            now = asyncio.get_running_loop().time()
            if deadline is not None and patience is not None:
                self._refuse(got, deadline - now, patience)
            self._sleeps[priority] = now + min(max(got.wait, _TICK), _LOOK)
            await self._turn(priority, deadline, patience, first=True)

    def _join(self, priority: Priority, change: int) -> None:
        self.waiting[priority] += change
        self._total += change

    def wake(self) -> None:
        """Let the head of each priority try again: tokens may be there sooner than was thought."""
        self._sleeps = dict.fromkeys(Priority, -math.inf)
        self._next()

    def _refuse(self, denied: Denied, left: float, patience: float) -> None:
        if denied.wait > left:
            raise self._tokens.exhausted(denied, patience)

    async def _try(self, priority: Priority) -> Granted | Denied:
        self._busy = True
        try:
            got = await self._tokens.reserve(priority, self._total)
        finally:
            self._busy = False
        if isinstance(got, Granted):
            self._passed[priority] = 0
            for other, count in self.waiting.items():
                if count and other is not priority:
                    self._passed[other] += 1
        return got

    async def _turn(
        self, priority: Priority, deadline: float | None, patience: float | None, *, first: bool = False
    ) -> None:
        """Wait in the priority, at its head or its end, for the turn."""
        place = asyncio.get_running_loop().create_future()
        places = self._places[priority]
        if first:
            places.appendleft(place)
        else:
            places.append(place)
        self._next()
        try:
            async with asyncio.timeout_at(deadline):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._busy = False  # the turn came, too late
            else:
                place.cancel()
                self._sweep(priority)
            if isinstance(error, TimeoutError):
                denied = await self._tokens.bound(0)
                raise self._tokens.exhausted(denied, patience or 0.0) from None
            raise

    def _next(self) -> None:
        """Give the turn to the first who may try now, or sleep until one may."""
        if self._busy or not self._total:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        priorities = [priority for priority in Priority if self._head(priority) is not None]
        ready = [priority for priority in priorities if self._sleeps[priority] <= now]
        if ready:
            overdue = [priority for priority in ready if self._passed[priority] >= _SHARE - 1]
            self._busy = True
            self._places[(overdue or ready)[0]].popleft().set_result(None)
        elif priorities:
            self._timer = loop.call_at(min(self._sleeps[priority] for priority in priorities), self._next)

    def _head(self, priority: Priority) -> asyncio.Future[None] | None:
        places = self._places[priority]
        while places and places[0].done():
            places.popleft()
        return places[0] if places else None

    def _sweep(self, priority: Priority) -> None:
        """Drop the places of those who left, now and then, so that they cost nothing each."""
        places = self._places[priority]
        if len(places) > 2 * self.waiting[priority] + 16:
            self._places[priority] = deque(place for place in places if not place.done())
