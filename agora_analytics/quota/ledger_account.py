"""One account in a ledger, as its limiters change it: in memory at once, elsewhere in as few changes as possible.

A change of a ledger in a file or on another host costs time, and while it is under way it keeps other processes
waiting. So what nobody waits for (how a request ended) rides with the next change, or is made a moment later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from agora_analytics._core.futures import retrieve_error, wait_until_done
from agora_analytics._core.retry import backoff
from agora_analytics.protocols import Ledger
from agora_analytics.quota.ledger_state import LedgerState, MemoryLedger
from agora_analytics.quota.service_time import ServiceTime

T = TypeVar("T")

_MAX_DELAY: Final = 0.05
"""Seconds that a change may wait for another to ride with."""

_FIRST_RETRY: Final = 0.5
_LAST_RETRY: Final = 30.0
"""Seconds until what a ledger did not take is applied again: at first, and at most, as each failure doubles them."""

log = logging.getLogger("agora_analytics.quota")


class _Deferred(NamedTuple):
    """A change that waits to be stored with another one, and what receives its result."""

    change: Callable[[LedgerState], bool]
    on_result: Callable[[bool], None]


class LedgerAccount:
    """One account in a ledger, and the service's time by which its state is read."""

    def __init__(self, ledger: Ledger, account: str, time: ServiceTime) -> None:
        self.time = time
        self._ledger = ledger
        self._account = account
        # State in memory can be changed without awaiting, and without a coroutine.
        self.state = ledger.state(account) if isinstance(ledger, MemoryLedger) else None
        self._deferred: list[_Deferred] = []
        self._closed = False
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.Task[bool] | None = None

    async def change(self, change: Callable[[LedgerState], T]) -> T:
        """Apply a change to the state and return its result.

        `change` may be called in another thread, and more than once: only what its last call did is stored, and only
        its result counts.
        """
        if self.state is not None:
            return change(self.state)
        self.time.monotonic()  # binds to this loop, as another thread has none
        if not self._deferred:
            return await self._ledger.change(self._account, change)
        riding, self._deferred = self._deferred, []
        self._stop_timer()
        results: list[bool] = []

        def change_all(state: LedgerState) -> T:
            results[:] = [deferred.change(state) for deferred in riding]
            return change(state)

        # A task, whose outcome is known even where the caller is cancelled.
        work = asyncio.ensure_future(self._ledger.change(self._account, change_all))
        try:
            return await wait_until_done(work)
        finally:
            if work.cancelled() or work.exception() is not None:
                self._deferred[:0] = riding
                self._retry_later()
            else:
                self._failures = 0
                for deferred, result in zip(riding, results, strict=True):
                    deferred.on_result(result)

    async def record(self, change: Callable[[LedgerState], bool], on_result: Callable[[bool], None]) -> None:
        """Apply a change now, and report its result; raises nothing: if the ledger fails, the change is deferred."""
        if self.state is not None:
            on_result(change(self.state))
            return
        self._deferred.append(_Deferred(change, on_result))
        await self._apply_deferred()

    def defer(self, change: Callable[[LedgerState], bool], on_result: Callable[[bool], None]) -> None:
        """Apply a change together with the next one, or within 50 ms, and report its result.

        A ledger that cannot be changed meanwhile gets it with the first change that it takes; that is tried again and
        again until `close`.
        """
        self._deferred.append(_Deferred(change, on_result))
        if self._closed:
            self._start_flush()  # the ledger may be closed next
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_MAX_DELAY, self._start_flush)

    async def close(self) -> None:
        """Apply what is deferred, if the ledger can be changed; nothing is deferred for long from now on."""
        self._closed = True
        self._stop_timer()
        while self._flush is not None:
            await asyncio.wait([self._flush])
        await self._apply_deferred()

    async def _apply_deferred(self) -> bool:
        """Return whether the ledger took it."""
        try:
            if self._deferred:
                await self.change(lambda _: None)
        except Exception as error:  # noqa: BLE001 - whatever a ledger of the user's own raises, the next request does too
            level = logging.WARNING if self._failures <= 1 else logging.DEBUG  # once for each outage
            count = len(self._deferred)
            answers = "1 answer of the service is" if count == 1 else f"{count} answers of the service are"
            log.log(level, "%s not yet in the ledger, and stored once it can be used again: %s", answers, error)
            return False
        return True

    def _start_flush(self) -> None:
        self._stop_timer()
        if self._flush is None:
            self._flush = asyncio.get_running_loop().create_task(self._apply_deferred())
            self._flush.add_done_callback(self._flushed)
        # While one is under way in a slow ledger, the next waits for its end: `_flushed` starts it.

    def _flushed(self, flush: asyncio.Task[bool]) -> None:
        retrieve_error(flush)
        self._flush = None
        if self._deferred and self._timer is None and not flush.cancelled() and flush.result():
            self._start_flush()

    def _retry_later(self) -> None:
        """Apply what is deferred after a pause that grows, even if nothing else is changed."""
        pause = backoff(_FIRST_RETRY, self._failures, _LAST_RETRY)
        self._failures += 1
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(pause, self._start_flush)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
