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
        async with self._busy:
            if not mine.done():
                await self._make()
        return await mine

    async def run(self, work: Callable[[], T]) -> T:
        """Do other work on the thread; who is cancelled meanwhile hears of it when the work is done."""
        work_done = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(work_done)
        except asyncio.CancelledError:
            await asyncio.wait([work_done])
            raise

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

    async def _make(self) -> None:
        """Make all changes that wait in one transaction; an error is told to all of them."""
        changes, self._waiting = [one for one in self._waiting if not one[1].cancelled()], []
        try:
            results = await self.run(lambda: self._made([change for change, _ in changes]))
        except Exception as error:  # noqa: BLE001 - told to those who asked
            for _, future in changes:
                if not future.cancelled():
                    future.set_exception(error)
            return
        for (_, future), result in zip(changes, results, strict=True):
            if not future.cancelled():
                future.set_result(result)

    def _made(self, changes: list[Change]) -> list[Any]:
        with self.state.transaction():
            return [change(self.state) for change in changes]
