"""An event loop whose time passes by waiting: a day of requests in a second, the same at every run."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

_TURNS = 1_000
"""Turns of a loop that never waits, after which time passes all the same."""

_DUE = 20
"""Timers set for a moment that has come already, after which a further one takes `_CREEP` seconds."""

_CREEP = 1e-6


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for the loop's next timer, adds the wait to a counter."""

    elapsed = 0.0
    turns = 0
    due = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen: every task waits for another")
        if timeout > 0:
            self.turns = self.due = 0
            self.elapsed += timeout
        else:
            self._turn()
        events: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return events

    def _turn(self) -> None:
        """Let time creep where nothing waits for it: somebody may be watching the clock."""
        self.turns += 1
        if self.turns % _TURNS == 0:
            self.elapsed += _CREEP


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` starts at 0 and is what has been waited for, in seconds; nothing real is ever waited for.

    `RuntimeError` where every task waits for another. Pass it as `asyncio.Runner(loop_factory=VirtualLoop)`, or to
    pytest-asyncio by its hook `pytest_asyncio_loop_factories`.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the seconds waited for so far."""
        return self._virtual.elapsed

    def call_at(  # type: ignore[override]  # arguments are passed on as they come
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at that time of the loop, or a moment later where many were set for a time that has come."""
        # A rounding residue is too short to wait for, and may be asked for again and again: let it take a while.
        if when <= self._virtual.elapsed:
            self._virtual.due += 1
            if self._virtual.due > _DUE:
                when = self._virtual.elapsed + _CREEP
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]  # positional arguments are told by their types there
        self,
        executor: Any,  # noqa: ARG002 - there is no other thread
        func: Callable[..., T],
        *args: Any,
    ) -> asyncio.Future[T]:
        """Do at once what would be done on another thread: no time passes meanwhile."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)
        return future
