"""A ledger in an SQLite file, shared by the processes of a machine and kept over restarts."""

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
from agora_analytics.quota.ledger_state import LedgerState

if TYPE_CHECKING:
    from agora_analytics.quota.sqlite_store import LedgerFile

__all__ = ["FileLedger"]

T = TypeVar("T")


class FileLedger:
    """A ledger that any number of processes of one machine may share; it outlasts them.

    ```python
    async with FileLedger("quota.db") as ledger, AnalyticsClient.from_env(ledger=ledger) as client:
        print(await client.quota.snapshot())
    ```

    `path` must be on a local disk; its folder is created if needed, readable by the user alone. The file holds no
    credentials: accounts are stored under a fingerprint. Its methods raise `LedgerError` where the file cannot be used,
    or stays locked for longer than a second.

    The file is opened at the first request. Close it with `async with` or `close()`, after the clients that use it.
    Without that it is closed when the object is collected, or when the interpreter ends.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = validation.path("path", path)
        self._worker: _Worker | None = None
        self._dropped: weakref.finalize[[_Worker], FileLedger] | None = None

    def __repr__(self) -> str:
        return f"FileLedger({str(self.path)!r})"

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        """Apply a change to the state of an account, whole or not at all, and return its result.

        A caller that is cancelled meanwhile gets its `CancelledError` after the change was applied.
        """
        if self._worker is None or self._worker.process != os.getpid():
            self._worker = _Worker(self.path)
            # The callback holds the worker and not the ledger, or the ledger would never be collected.
            self._dropped = weakref.finalize(self, _abandon, self._worker)
        return await wait_until_done(self._worker.change(account, change))

    async def close(self) -> None:
        """Close the file; may be called twice, and the ledger may be used again after it."""
        worker, self._worker = self._worker, None
        if self._dropped is not None:
            # The file is closed in order below, so the finalizer has nothing to abandon.
            self._dropped.detach()
        if worker is not None and worker.process == os.getpid():
            try:
                await wait_until_done(worker.close_file())
            finally:
                worker.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Worker:
    """A thread, and the file that it opens at the first change."""

    def __init__(self, path: Path) -> None:
        self.process = os.getpid()  # threads do not survive a fork
        self._path = path
        self._file: LedgerFile | None = None
        # One thread keeps changes in order, and SQLite's waits for locks off the event loop.
        self._thread = ThreadPoolExecutor(1, "agora_analytics ledger")

    def change(self, account: str, change: Callable[[LedgerState], T]) -> asyncio.Future[T]:
        return self._run(self._change, account, change)

    def close_file(self) -> asyncio.Future[None]:
        """Close the file after all changes that were submitted before."""
        return self._run(self._close_file)

    def end(self) -> None:
        """End the thread once it is idle."""
        self._thread.shutdown()

    def abandon(self) -> None:
        """Close the file without the thread, which ends by itself.

        The garbage collector may call this anywhere, even while the thread's lock is held, so it takes no lock.
        """
        if self._file is not None:
            self._file.abandon()

    def _run(self, work: Callable[..., T], *args: object) -> asyncio.Future[T]:
        # The loop's own executor call: a loop with virtual time can wait for nothing else.
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        if self._file is None:
            # SQLite is loaded only by programs that use it.
            from agora_analytics.quota.sqlite_store import LedgerFile  # noqa: PLC0415

            self._file = LedgerFile(self._path)
        return self._file.change(account, change)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()


def _abandon(worker: _Worker) -> None:
    if worker.process == os.getpid():  # a forked child leaves its parent's file alone
        worker.abandon()
