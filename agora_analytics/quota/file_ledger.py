"""A ledger in a file: shared by the processes of a machine, and there again after a restart."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from agora_analytics._core import validation
from agora_analytics._core.futures import wait_until_done
from agora_analytics.quota.ledger_state import Book

if TYPE_CHECKING:
    from agora_analytics.quota.sqlite_store import BookFile

__all__ = ["FileLedger"]

T = TypeVar("T")


class FileLedger:
    """Keeps the books in an SQLite file, which any number of processes of one machine may share.

    `path` must be on a local disk; its folder is made if need be, readable by the user alone. Nothing in it is a
    credential: accounts are told apart by a fingerprint. Raises `LedgerError` where the file cannot be used, or is
    locked for longer than a second.

    Opens at the first request; close it with `async with` or `close()`, after the clients that use it. One that is
    dropped without closes when it is collected, or at the interpreter's end.

        async with FileLedger("quota.db") as ledger, AnalyticsClient.from_env(ledger=ledger) as client:
            ...
    """

    def __init__(self, path: str | Path) -> None:
        self.path = validation.path("path", path)
        self._worker: _Worker | None = None
        self._dropped: weakref.finalize[[_Worker], FileLedger] | None = None

    def __repr__(self) -> str:
        return f"FileLedger({str(self.path)!r})"

    async def change(self, account: str, change: Callable[[Book], T]) -> T:
        """Apply a change to the book of an account, whole or not at all, and return its result.

        It is made even if the caller is cancelled meanwhile, who hears of that once it is.
        """
        if self._worker is None or self._worker.process != os.getpid():
            self._worker = _Worker(self.path)
            self._dropped = weakref.finalize(self, _abandon, self._worker)
        return await wait_until_done(self._worker.change(account, change))

    async def close(self) -> None:
        """Close the file; may be called twice, and the ledger used again after."""
        worker, self._worker = self._worker, None
        if self._dropped is not None:
            self._dropped.detach()
        if worker is not None and worker.process == os.getpid():
            await wait_until_done(worker.shut())
            worker.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Worker:
    """A thread, and the file that it opens when first asked for a change."""

    def __init__(self, path: Path) -> None:
        self.process = os.getpid()  # threads do not survive a fork
        self._path = path
        self._file: BookFile | None = None
        self._thread = ThreadPoolExecutor(1, "agora_analytics ledger")

    def change(self, account: str, change: Callable[[Book], T]) -> asyncio.Future[T]:
        return self._run(self._change, account, change)

    def shut(self) -> asyncio.Future[None]:
        """Close the file after all changes before."""
        return self._run(self._shut)

    def end(self) -> None:
        """End the thread, which has nothing left to do."""
        self._thread.shutdown()

    def abandon(self) -> None:
        """Close the file for one who is gone; the thread ends by itself.

        The garbage collector may call it anywhere, even where the thread's own lock is held: it takes none.
        """
        if self._file is not None:
            self._file.abandon()

    def _run(self, work: Callable[..., T], *args: object) -> asyncio.Future[T]:
        # The loop's own way to a thread: on a loop whose time is virtual nothing else could be waited for.
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _change(self, account: str, change: Callable[[Book], T]) -> T:
        if self._file is None:
            # SQLite is loaded by those who use it.
            from agora_analytics.quota.sqlite_store import BookFile  # noqa: PLC0415

            self._file = BookFile(self._path)
        return self._file.change(account, change)

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()


def _abandon(worker: _Worker) -> None:
    if worker.process == os.getpid():  # a forked child leaves its parent's file alone
        worker.abandon()
