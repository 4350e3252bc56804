"""The threads of an export that touch the disk, and how changes of the state reach theirs: many in a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from agora_analytics._core.futures import wait_until_done
from agora_analytics.errors import ExportError
from agora_analytics.export.state.progress import State

T = TypeVar("T")


Change = Callable[[State], Any]


class Disk:
    """Makes changes of the state on a thread of its own, one after the other; who asks waits until they are kept.

    Changes that arrive while others are being made go together into the next transaction.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "agora-export-state")
        self._aside = ThreadPoolExecutor(1, "agora-export-files")
        self._state: State | None = None
        self._waiting: list[tuple[Change, asyncio.Future[Any]]] = []
        self._busy = False

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
        mine = self._soon(change)
        try:
            return await mine
        finally:
            if mine.cancel() is False and not mine.cancelled():
                mine.exception()  # who was cancelled does not hear of it

    def note(self, change: Callable[[State], object]) -> None:
        """Make a change before any that is asked for from now on, or together with it; nobody waits for this one."""
        self._soon(change).add_done_callback(lambda done: done.cancelled() or done.exception())

    def _soon(self, change: Callable[[State], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[T] = loop.create_future()
        self._waiting.append((change, mine))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._begin, loop)
        return mine

    async def run(self, work: Callable[[], T], *, aside: bool = False, abort: Callable[[], object] | None = None) -> T:
        """Do other work on the thread; who is cancelled meanwhile hears of it when the work is done, or was aborted.

        What is not about the state is done `aside`, on another thread: files, and the networks they go to, take long.
        """
        thread = self._aside if aside else self._thread
        return await wait_until_done(asyncio.get_running_loop().run_in_executor(thread, work), abort)

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

    def _begin(self, loop: asyncio.AbstractEventLoop, seen: int = 0) -> None:
        """Make all changes that wait in one transaction, once a turn of the loop has brought no more than were `seen`.

        Of none, leave the thread to the next who asks.
        """
        if len(self._waiting) > seen:
            loop.call_soon(self._begin, loop, len(self._waiting))
            return
        changes = [one for one in self._waiting if not one[1].cancelled()]
        self._waiting.clear()
        self._busy = bool(changes)
        if changes:
            made = loop.run_in_executor(self._thread, self._made, [change for change, _ in changes])
            made.add_done_callback(lambda made: self._end(loop, made, [mine for _, mine in changes]))

    def _end(
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
        self._begin(loop)

    def _made(self, changes: list[Change]) -> list[Any]:
        with self.state.transaction():
            return [change(self.state) for change in changes]


async def translated(work: Awaitable[T], told: Callable[[Exception], ExportError]) -> T:
    """Return what comes of work that a format's or a store's library does; what goes wrong there is told as ours."""
    try:
        return await work
    except ExportError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever such a library raises
        wrong = told(error)
    # Outside of `except`: what the other library says may quote a credential, and would stay as the context.
    raise wrong
