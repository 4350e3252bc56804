"""An event loop that measures for how long it is blocked, and one that does not wait for its timers.

Time in which the loop's thread waits for a processor that other programs use is not counted, if the system reports it
(Linux).
"""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")

_BEAT: Final = 0.001
_REAL: Final = 0.002
"""Seconds that the loop without timers waits for threads at a time."""


Turn = tuple[float, float]
"""Seconds of an iteration of the loop, and of Python's garbage collection in it, in any thread."""


class _Collector:
    """Counts the seconds of garbage collection."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._seconds = 0.0
        gc.callbacks.append(self._on_collection)

    def _on_collection(self, phase: str, _: object) -> None:
        if phase == "start":
            self._begun = time.perf_counter()
        elif self._begun is not None:
            self._seconds, self._begun = self.seconds(), None

    def seconds(self) -> float:
        """Return the seconds so far, those of a collection in progress included."""
        return self._seconds + (time.perf_counter() - self._begun if self._begun is not None else 0.0)


class _Queue:
    """Measures the seconds that the thread which created it has waited for a processor."""

    def __init__(self) -> None:
        try:
            self._file: int | None = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            self._file = None

    def seconds(self) -> float:
        """Return the seconds so far; 0 if the system does not report them."""
        return 0.0 if self._file is None else int(os.pread(self._file, 64, 0).split()[1]) / 1e9


class _Selector(selectors.DefaultSelector):
    """Measures the time between two waits, and by how much a wait took longer than requested."""

    def __init__(self) -> None:
        super().__init__()
        self.stalls: list[Turn] = []
        self.excused = 0.0
        self._collector = _Collector()
        self._queue = _Queue()
        self._last_exit: tuple[float, float, float] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        entered = time.perf_counter()
        events = self._wait(timeout)
        left = time.perf_counter()
        late = left - entered - (timeout or 0.0) if not events else 0.0  # another thread may have held the interpreter
        now = left, self._collector.seconds(), self._queue.seconds()
        if self._last_exit is not None:
            before, collected, queued = self._last_exit
            held = max(0.0, entered - before - self.excused) + max(0.0, late) - (now[2] - queued)
            self.stalls.append((max(0.0, held), now[1] - collected))
        self.excused = 0.0
        self._last_exit = now
        return events

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout)


class _FastSelector(_Selector):
    """Waits only for threads; timers are due at once, and advance the time."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0
        self.threads = 0

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.threads:
            return super()._wait(_REAL if timeout is None else min(timeout, _REAL))
        self.elapsed += max(timeout or 0.0, 1e-6)
        return super()._wait(0.0)


class _FastLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _FastSelector) -> None:
        self._fast = selector
        super().__init__(selector)

    def time(self) -> float:
        return self._fast.elapsed

    def run_in_executor(  # type: ignore[override]  # the base class types them one by one
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        self._fast.threads += 1
        work: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        work.add_done_callback(self._ended)
        return work

    def _ended(self, _: object) -> None:
        self._fast.threads -= 1


def measured(job: Callable[[], Awaitable[None]], *, fast: bool = False) -> list[Turn]:
    """Return the time of every iteration of the loop during a job; a `fast` loop does not wait for its timers."""
    selector = _FastSelector() if fast else _Selector()
    make = partial(_loop, selector)
    gc.collect()
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(_beating(job, selector, beat=not fast))
    return selector.stalls


def excuse(seconds: float) -> None:
    """Do not count these seconds of this iteration: the service in the same loop took them."""
    loop: Any = asyncio.get_running_loop()
    loop.meter.excused += seconds


def _loop(selector: _Selector) -> asyncio.AbstractEventLoop:
    loop: Any = _FastLoop(selector) if isinstance(selector, _FastSelector) else asyncio.SelectorEventLoop(selector)
    loop.meter = selector
    return loop


async def _beating(job: Callable[[], Awaitable[None]], selector: _Selector, *, beat: bool) -> None:
    """Run a job beside a timer that is always due soon, whose delay shows that the loop is blocked."""
    beating = asyncio.create_task(_beats()) if beat else None
    await asyncio.sleep(0.05)
    selector.stalls.clear()
    await job()
    await asyncio.sleep(0)  # the iteration in which it ended counts too
    if beating:
        beating.cancel()


async def _beats() -> None:
    while True:  # noqa: ASYNC110 - nothing is waited for
        await asyncio.sleep(_BEAT)
