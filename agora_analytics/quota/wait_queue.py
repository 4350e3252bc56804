"""The priority wait queue of one counter in this process.

One waiter at a time has the *turn* and may ask the ledger. If it gets a permit it passes the turn on; if it is
rejected it goes back to the head of its priority, which sleeps until a permit may be free. Nothing is held meanwhile:
a cancelled waiter only has to pass the turn on, and a waiter of a higher priority can step in at any time.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Final, Protocol

from agora_analytics.errors import QuotaExhausted
from agora_analytics.quota.permit import Permit, Rejection
from agora_analytics.quota.priority import MIN_SHARE, SERVED_BEFORE, Priority

_MIN_BACKOFF: Final = 1e-3
"""Minimum sleep in seconds after a rejection, so that rounding cannot make it a busy loop."""

_MAX_BACKOFF: Final = 60.0
"""Maximum sleep in seconds after a rejection: a clock may have been set meanwhile, or the machine have slept."""


class PermitSource(Protocol):
    """Where a queue gets its permits."""

    async def try_acquire(self, priority: Priority, waiting: int) -> Permit | Rejection:
        """Return a permit, or how long to wait; `waiting` requests of this process wait for one."""

    async def min_wait(self, ahead: int) -> Rejection:
        """Return how long a request with `ahead` others before it must wait at least."""

    def withdraw(self, priority: Priority) -> None:
        """Take note that the last waiter of a priority has left without a permit."""

    def quota_exhausted(self, rejection: Rejection, max_wait: float) -> QuotaExhausted:
        """Return the error for a wait that would take longer than `max_wait` seconds."""


class WaitQueue:
    """Waiters of one counter: by priority, first in first out within each."""

    def __init__(self, permits: PermitSource) -> None:
        self._permits = permits
        self.waiting: dict[Priority, int] = dict.fromkeys(Priority, 0)
        self._waiters: dict[Priority, deque[asyncio.Future[None]]] = {priority: deque() for priority in Priority}
        self._blocked_until: dict[Priority, float] = dict.fromkeys(Priority, -math.inf)
        self._skipped: dict[Priority, int] = dict.fromkeys(Priority, 0)
        self._total = 0
        self._turn_taken = False
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, priority: Priority, max_wait: float | None = None) -> Permit:
        """Wait for a permit, at most `max_wait` seconds; raises `QuotaExhausted` as soon as that is too short.

        A cancelled call holds no permit.
        """
        alone = not (self._total or self._turn_taken)
        if alone:  # the fast path of most requests
            self._turn_taken = True
            try:
                # 0: nobody waits, so it is no burst that could be held back for a tick.
                result = await self._permits.try_acquire(priority, 0)
            finally:
                self._turn_taken = False
                if self._total:  # others joined meanwhile
                    self._wake_next()
            if isinstance(result, Permit):
                return result
            if max_wait is not None:
                self._check_max_wait(result, max_wait, max_wait)
        self._count_waiter(priority, 1)
        try:
            return await self._acquire_queued(priority, max_wait)
        except BaseException:
            if self.waiting[priority] == 1:
                self._permits.withdraw(priority)
            raise
        finally:
            self._count_waiter(priority, -1)
            self._wake_next()

    async def _acquire_queued(self, priority: Priority, max_wait: float | None) -> Permit:
        deadline = None if max_wait is None else asyncio.get_running_loop().time() + max_wait
        if self._total > 1 or self._turn_taken:
            ahead = self.waiting_before_next(priority) - 1
            # Fail at once rather than after `max_wait`, where those ahead alone take longer than that.
            if ahead and max_wait is not None:
                self._check_max_wait(await self._permits.min_wait(ahead), max_wait, max_wait)
            # With nobody ahead it tries at once, although requests of lower priorities wait.
            if ahead or self._turn_taken:
                await self._wait_turn(priority, deadline, max_wait)
        while True:
            result = await self._try_acquire(priority)
            if isinstance(result, Permit):
                return result
            now = asyncio.get_running_loop().time()
            if deadline is not None and max_wait is not None:
                self._check_max_wait(result, deadline - now, max_wait)
            # The whole priority sleeps with its head: the others would only get the same answer.
            self._blocked_until[priority] = now + min(max(result.wait, _MIN_BACKOFF), _MAX_BACKOFF)
            await self._wait_turn(priority, deadline, max_wait, at_head=True)

    def waiting_before_next(self, priority: Priority) -> int:
        """Return how many wait whose permits come before that of the next waiter of a priority."""
        return sum(self.waiting[other] for other in SERVED_BEFORE[priority])

    def _count_waiter(self, priority: Priority, change: int) -> None:
        self.waiting[priority] += change
        self._total += change

    def notify(self) -> None:
        """Let the head of each priority try again: a permit may be free sooner than was computed."""
        self._blocked_until = dict.fromkeys(Priority, -math.inf)
        self._wake_next()

    def _check_max_wait(self, rejection: Rejection, left: float, max_wait: float) -> None:
        if rejection.wait > left:
            raise self._permits.quota_exhausted(rejection, max_wait)

    async def _try_acquire(self, priority: Priority) -> Permit | Rejection:
        self._turn_taken = True
        try:
            result = await self._permits.try_acquire(priority, self._total)
        finally:
            self._turn_taken = False
        if isinstance(result, Permit):
            self._skipped[priority] = 0
            for other, count in self.waiting.items():
                if count and other is not priority:
                    self._skipped[other] += 1
        return result

    async def _wait_turn(
        self, priority: Priority, deadline: float | None, max_wait: float | None, *, at_head: bool = False
    ) -> None:
        """Wait for the turn, at the end of the priority or at its head."""
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiters[priority]
        if at_head:
            waiters.appendleft(waiter)
        else:
            waiters.append(waiter)
        # There may be no timer yet, or one that is later than this waiter needs.
        self._wake_next()
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except BaseException as error:
            # The turn was given in the loop iteration in which this was cancelled; `acquire` passes it on.
            if waiter.done() and not waiter.cancelled():
                self._turn_taken = False
            else:
                waiter.cancel()
                self._drop_cancelled(priority)
            if isinstance(error, TimeoutError):
                # For the error alone: which unit is spent, and for how long.
                rejection = await self._permits.min_wait(0)
                raise self._permits.quota_exhausted(rejection, max_wait or 0.0) from None
            raise

    def _wake_next(self) -> None:
        """Give the turn to the first waiter that may try now, or set a timer for the first that may later."""
        if self._turn_taken or not self._total:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        priorities = [priority for priority in Priority if self._head(priority) is not None]
        ready = [priority for priority in priorities if self._blocked_until[priority] <= now]
        if ready:
            # Priorities are in order, so the highest of the overdue ones is first.
            overdue = [priority for priority in ready if self._skipped[priority] >= MIN_SHARE - 1]
            self._turn_taken = True
            self._waiters[(overdue or ready)[0]].popleft().set_result(None)
        elif priorities:
            self._timer = loop.call_at(min(self._blocked_until[priority] for priority in priorities), self._wake_next)

    def _head(self, priority: Priority) -> asyncio.Future[None] | None:
        waiters = self._waiters[priority]
        while waiters and waiters[0].done():
            waiters.popleft()
        return waiters[0] if waiters else None

    def _drop_cancelled(self, priority: Priority) -> None:
        """Drop cancelled waiters once they are many, so that each costs nothing."""
        waiters = self._waiters[priority]
        if len(waiters) > 2 * self.waiting[priority] + 16:
            self._waiters[priority] = deque(waiter for waiter in waiters if not waiter.done())
