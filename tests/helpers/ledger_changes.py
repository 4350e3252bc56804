"""Changes of a ledger's state."""

from __future__ import annotations

import asyncio
import threading

from agora_analytics.quota import LedgerState


class ChangeError(Exception):
    """Raised by a change."""


def increment(state: LedgerState) -> int:
    """Add one request to day 1, and return the new count."""
    days = state.counter("lists").used_per_day
    days[1] = days.get(1, 0) + 1
    return days[1]


def read_count(state: LedgerState) -> int:
    return state.counter("lists").used_per_day.get(1, 0)


def read_state(state: LedgerState) -> LedgerState:
    return state


class BlockedChange:
    """A change that blocks until it is released, in whatever thread it runs."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self._started = threading.Event()
        self._released = threading.Event()

    def __call__(self, state: LedgerState) -> int:
        self._started.set()
        assert self._released.wait(60)
        if self._error:
            raise self._error
        return increment(state)

    async def started(self) -> None:
        assert await asyncio.to_thread(self._started.wait, 60)

    def release(self) -> None:
        self._released.set()
