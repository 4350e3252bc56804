"""An event loop whose time passes by waiting: a day of requests in a second, the same at every run."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_TURNS = 1_000
"""Turns of a loop that never waits, after which time passes all the same."""


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for the loop's next timer, adds the wait to a counter."""

    elapsed = 0.0
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen: every task waits for another")
        self.turns = 0 if timeout > 0 else self.turns + 1
        # A rounding residue may be too short to wait for, and still be asked for without end: let time creep then.
        if timeout > 0 or self.turns % _TURNS == 0:
            self.elapsed += max(timeout, 1e-6)
        events: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` starts at 0 and is what has been waited for, in seconds; nothing real is ever waited for.

    `RuntimeError` where every task waits for another. Pass it as `asyncio.Runner(loop_factory=VirtualLoop)`, or to
    pytest-asyncio by its hook `pytest_asyncio_loop_factories`.
    """

    def __init__(self) -> None:
        self._virtual: Any = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the seconds waited for so far."""
        elapsed: float = self._virtual.elapsed
        return elapsed

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
