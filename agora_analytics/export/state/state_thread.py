"""The threads of an export that block: one for the state, with group commit, and one for files and networks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from agora_analytics._core.futures import retrieve_error, wait_until_done
from agora_analytics.errors import ExportError
from agora_analytics.export.state.export_state import ExportState

T = TypeVar("T")


Change = Callable[[ExportState], Any]


class StateThread:
    """Applies changes to the state on a thread of its own, with group commit.

    A caller waits until its change is committed. Changes that arrive during a transaction share the next one.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "agora-export-state")
        # Apart, so that a slow store holds no transaction up; one thread each, for which state and writer are made.
        self._io_executor = ThreadPoolExecutor(1, "agora-export-files")
        self._state: ExportState | None = None
        self._queue: list[tuple[Change, asyncio.Future[Any]]] = []
        self._is_running = False

    async def open(self, make: Callable[[], ExportState]) -> ExportState:
        """Open the state with `make`, on the state thread."""
        self._state = await self.run(make)
        return self._state

    @property
    def state(self) -> ExportState:
        """The state, for work on the state thread."""
        if self._state is None:
            raise RuntimeError("the state is not open")
        return self._state

    async def change(self, change: Callable[[ExportState], T]) -> T:
        """Apply a change in a transaction, and return its result once that is committed."""
        future = self._enqueue(change)
        future.add_done_callback(retrieve_error)  # the caller may be cancelled meanwhile
        return await future

    def change_soon(self, change: Callable[[ExportState], object]) -> None:
        """Apply a change before all later ones, or together with them, and do not wait for it. Errors are dropped."""
        self._enqueue(change).add_done_callback(retrieve_error)

    def _enqueue(self, change: Callable[[ExportState], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append((change, future))
        if not self._is_running:
            self._is_running = True
            loop.call_soon(self._start_batch, loop)
        return future

    async def run(self, work: Callable[[], T]) -> T:
        """Run other work on the state thread; a cancelled caller waits until it has ended."""
        return await wait_until_done(asyncio.get_running_loop().run_in_executor(self._executor, work))

    async def run_io(self, work: Callable[[], T], *, abort: Callable[[], object] | None = None) -> T:
        """Run work on the I/O thread: files, and networks behind them, which take long.

        A cancelled caller waits until the work has ended; if it takes long, `abort` ends it.
        """
        return await wait_until_done(asyncio.get_running_loop().run_in_executor(self._io_executor, work), abort)

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
        """Apply all queued changes in one transaction, once an iteration of the loop has added none to those `seen`.

        With none queued, go idle.
        """
        if len(self._queue) > seen:
            loop.call_soon(self._start_batch, loop, len(self._queue))
            return
        changes = [queued for queued in self._queue if not queued[1].cancelled()]
        self._queue.clear()
        self._is_running = bool(changes)
        if changes:
            batch = loop.run_in_executor(self._executor, self._apply_batch, [change for change, _ in changes])
            batch.add_done_callback(lambda batch: self._finish_batch(loop, batch, [future for _, future in changes]))

    def _finish_batch(
        self, loop: asyncio.AbstractEventLoop, batch: asyncio.Future[list[Any]], futures: list[asyncio.Future[Any]]
    ) -> None:
        """Set results or the error of a transaction, and start the next."""
        error = batch.exception()
        for number, future in enumerate(futures):
            if future.cancelled():
                continue
            if error is None:
                future.set_result(batch.result()[number])
            else:
                future.set_exception(error)
        self._start_batch(loop)

    def _apply_batch(self, changes: list[Change]) -> list[Any]:
        with self.state.transaction():
            return [change(self.state) for change in changes]


async def translate_errors(work: Awaitable[T], to_error: Callable[[Exception], ExportError]) -> T:
    """Await work of a format's or a store's library, and raise its errors as `to_error` returns them."""
    try:
        return await work
    except ExportError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever such a library raises
        translated = to_error(error)
    # Outside of `except`, since the context would keep the original message, which may quote a credential.
    raise translated
