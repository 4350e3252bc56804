"""The one thread of an export that touches the disk, and how changes of the state reach it: many in a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from agora_analytics.export._state import State

T = TypeVar("T")
Change = Callable[[State], Any]


class Disk:
    """Makes changes of the state on a thread of its own, one after the other; who asks waits until they are kept.

    Changes that arrive while others are being made go together into the next transaction.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "agora-export")
        self._aside = ThreadPoolExecutor(1, "agora-export-delivery")
        self._state: State | None = None
        self._waiting: list[tuple[Change, asyncio.Future[Any]]] = []
        self._busy = asyncio.Lock()

    async def open(self, make: Callable[[], State]) -> State:
        """Open the state."""
        self._state = await self.run(make)
        return self._state

    @property
    def state(self) -> State:
        """The state, for work on the thread itself."""
        if self._state is None:
            raise RuntimeError("the state is not open")
        return self._state

    async def change(self, change: Callable[[State], T]) -> T:
        """Make a change, whole or not at all, and return what it returns."""
        mine: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, mine))
        try:
            async with self._busy:
                if not mine.done():
                    await self._make()
            return await mine
        finally:
            if mine.cancel() is False and not mine.cancelled():
                mine.exception()  # who was cancelled does not hear of it

    async def run(self, work: Callable[[], T], *, aside: bool = False) -> T:
        """Do other work on the thread; who is cancelled meanwhile hears of it when the work is done.

        What may take long, as a network does, is done `aside`, on another thread.
        """
        done, cancelled = await self._done(work, self._aside if aside else self._thread)
        if cancelled is not None:
            done.exception()
            raise cancelled
        return done.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._state is not None:
                await self.run(self._state.close)
        finally:
            self._thread.shutdown(wait=False)
            self._aside.shutdown(wait=False)

    async def _make(self) -> None:
        """Make all changes that wait in one transaction, and tell those who asked; an error all of them."""
        changes, self._waiting = [one for one in self._waiting if not one[1].cancelled()], []
        done, cancelled = await self._done(lambda: self._made([change for change, _ in changes]), self._thread)
        error = done.exception()
        for number, (_, future) in enumerate(changes):
            if future.cancelled():
                continue
            if error is None:
                future.set_result(done.result()[number])
            else:
                future.set_exception(error)
        if cancelled is not None:
            raise cancelled

    async def _done(
        self, work: Callable[[], T], thread: ThreadPoolExecutor
    ) -> tuple[asyncio.Future[T], asyncio.CancelledError | None]:
        """Wait for the end of work on a thread, however often cancelled meanwhile."""
        done = asyncio.get_running_loop().run_in_executor(thread, work)
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError as error:
                cancelled = error
            except Exception:  # noqa: BLE001 - it is told by who looks at what is returned
                break
        return done, cancelled

    def _made(self, changes: list[Change]) -> list[Any]:
        with self.state.transaction():
            return [change(self.state) for change in changes]
