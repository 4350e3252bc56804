"""Changes to make to a state."""

from __future__ import annotations

import asyncio
import threading

from agora_analytics.quota import LedgerState


class Mishap(Exception):
    """What goes wrong inside a change."""


def count(state: LedgerState) -> int:
    """Count one more on day 1."""
    days = state.counter("lists").used_per_day
    days[1] = days.get(1, 0) + 1
    return days[1]


def counted(state: LedgerState) -> int:
    return state.counter("lists").used_per_day.get(1, 0)


def whole(state: LedgerState) -> LedgerState:
    return state


class Held:
    """A change that goes on until it is released, in whatever thread it runs."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self._begun = threading.Event()
        self._released = threading.Event()

    def __call__(self, state: LedgerState) -> int:
        self._begun.set()
        assert self._released.wait(60)
        if self._error:
            raise self._error
        return count(state)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, 60)

    def release(self) -> None:
        self._released.set()
