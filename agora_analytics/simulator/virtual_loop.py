"""An event loop on virtual time: sleeping takes no real time, so a day of requests runs in seconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

_IDLE_ITERATIONS = 1_000
"""Loop iterations without any wait after which virtual time advances all the same, by `_CREEP`."""

_OVERDUE_TIMERS = 20
"""Timers that may be set for a past time in a row; further ones are delayed by `_CREEP` seconds."""

# Above the resolution of a float for years of virtual seconds, and below anything that a test measures.
_CREEP = 1e-6


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for the next timer, adds the waiting time to `elapsed`."""

    elapsed = 0.0
    iterations = 0
    overdue = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # asyncio asks to wait for ever only when nothing is ready or scheduled; a real loop would hang here.
        if timeout is None:
            raise RuntimeError("deadlock: every task waits for another, and no timer is set")
        if timeout > 0:
            self.iterations = self.overdue = 0
            self.elapsed += timeout
        else:
            self._count_iteration()
        # Still polled, since `call_soon_threadsafe` wakes the loop through a socket.
        events: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return events

    def _count_iteration(self) -> None:
        """Advance time a little when nothing sleeps: a task may be polling the clock."""
        self.iterations += 1
        if self.iterations % _IDLE_ITERATIONS == 0:
            self.elapsed += _CREEP


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time: `time()` starts at 0 and advances by what tasks sleep, without real waiting.

    Raises `RuntimeError` on a deadlock: every task waits, and none for a timer. Functions passed to `run_in_executor`
    run at once, in the same thread. Not for real sockets: the loop never waits for them.

    ```python
    import asyncio

    from agora_analytics.simulator import VirtualLoop


    async def main():
        await asyncio.sleep(86_400)  # a day, at once
        return asyncio.get_running_loop().time()


    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) == 86_400
    ```

    In pytest-asyncio, return it from the hook `pytest_asyncio_loop_factories`.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual seconds since the loop was created."""
        return self._virtual.elapsed

    def call_at(  # type: ignore[override]  # arguments are passed on unchanged
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedule `callback` at the loop time `when`; slightly later if many timers are already overdue."""
        # A task that sleeps for a rounding error may do so forever: let the time pass for it.
        if when <= self._virtual.elapsed:
            self._virtual.overdue += 1
            if self._virtual.overdue > _OVERDUE_TIMERS:
                when = self._virtual.elapsed + _CREEP
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]  # the base class types them one by one
        self,
        executor: Any,  # noqa: ARG002 - there is no other thread
        func: Callable[..., T],
        *args: Any,
    ) -> asyncio.Future[T]:
        """Call `func` at once in this thread; no virtual time passes."""
        # Another thread would run on real time, and the loop would report a deadlock while it waits for it.
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed to the caller
            future.set_exception(error)
        return future
