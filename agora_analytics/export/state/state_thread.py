"""The threads of an export that touch the disk, and how changes of the state reach theirs: many in a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from agora_analytics._core.futures import ended
from agora_analytics.errors import ExportError
from agora_analytics.export.state.export_state import ExportState

T = TypeVar("T")


Change = Callable[[ExportState], Any]


class StateThread:
    """Makes changes of the state on a thread of its own, one after the other; who asks waits until they are kept.

    Changes that arrive while others are being made go together into the next transaction.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "agora-export-state")
        self._io_executor = ThreadPoolExecutor(1, "agora-export-files")
        self._state: ExportState | None = None
        self._queue: list[tuple[Change, asyncio.Future[Any]]] = []
        self._running = False

    async def open(self, make: Callable[[], ExportState]) -> ExportState:
        """Open the state."""
        self._state = await self.run(make)
        return self._state

    @property
    def state(self) -> ExportState:
        """The state, for work on the thread itself."""
        if self._state is None:
            raise RuntimeError("the state is not open")
        return self._state

    async def change(self, change: Callable[[ExportState], T]) -> T:
        """Make a change, whole or not at all, and return what it returns."""
        mine = self._enqueue(change)
        try:
            return await mine
        finally:
            if mine.cancel() is False and not mine.cancelled():
                mine.exception()  # who was cancelled does not hear of it

    def change_soon(self, change: Callable[[ExportState], object]) -> None:
        """Make a change before any that is asked for from now on, or together with it; nobody waits for this one."""
        self._enqueue(change).add_done_callback(lambda done: done.cancelled() or done.exception())

    def _enqueue(self, change: Callable[[ExportState], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[T] = loop.create_future()
        self._queue.append((change, mine))
        if not self._running:
            self._running = True
            loop.call_soon(self._start_batch, loop)
        return mine

    async def run(self, work: Callable[[], T]) -> T:
        """Run other work on the state thread; a caller cancelled meanwhile is told once the work has ended."""
        return await ended(asyncio.get_running_loop().run_in_executor(self._executor, work))

    async def run_io(self, work: Callable[[], T], *, abort: Callable[[], object] | None = None) -> T:
        """Run work on the I/O thread: files, and networks behind them, which take long.

        A caller cancelled meanwhile is told once the work has ended, or was ended by `abort`.
        """
        return await ended(asyncio.get_running_loop().run_in_executor(self._io_executor, work), abort)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._state is not None:
                await self.run(self._state.close)
        finally:
            self._executor.shutdown(wait=False)
            self._io_executor.shutdown(wait=False)

    def _start_batch(self, loop: asyncio.AbstractEventLoop, seen: int = 0) -> None:
        """Make all changes that wait in one transaction, once a turn of the loop has brought no more than were `seen`.

        Of none, leave the thread to the next who asks.
        """
        if len(self._queue) > seen:
            loop.call_soon(self._start_batch, loop, len(self._queue))
            return
        changes = [one for one in self._queue if not one[1].cancelled()]
        self._queue.clear()
        self._running = bool(changes)
        if changes:
            made = loop.run_in_executor(self._executor, self._apply_batch, [change for change, _ in changes])
            made.add_done_callback(lambda made: self._finish_batch(loop, made, [mine for _, mine in changes]))

    def _finish_batch(
        self, loop: asyncio.AbstractEventLoop, made: asyncio.Future[list[Any]], asked: list[asyncio.Future[Any]]
    ) -> None:
        """Tell those who asked what became of a transaction, an error all of them, and begin the next."""
        error = made.exception()
        for number, mine in enumerate(asked):
            if mine.cancelled():
                continue
            if error is None:
                mine.set_result(made.result()[number])
            else:
                mine.set_exception(error)
        self._start_batch(loop)

    def _apply_batch(self, changes: list[Change]) -> list[Any]:
        with self.state.transaction():
            return [change(self.state) for change in changes]


async def translate_errors(work: Awaitable[T], told: Callable[[Exception], ExportError]) -> T:
    """Return what comes of work that a format's or a store's library does; what goes wrong there is told as ours."""
    try:
        return await work
    except ExportError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever such a library raises
        wrong = told(error)
    # Outside of `except`: what the other library says may quote a credential, and would stay as the context.
    raise wrong
