"""A ledger in a file: shared by the processes of a machine, and there again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agora_analytics.quota._book import Book

if TYPE_CHECKING:
    from agora_analytics.quota._sqlite import BookFile

T = TypeVar("T")


class FileLedger:
    """Keeps the books in an SQLite file, which any number of processes of one machine may share.

    `path` must be on a local disk; its folder is made if need be, readable by the user alone. Nothing in it is a
    credential: accounts are told apart by a fingerprint. Raises `LedgerError` where the file cannot be used, or is
    locked for longer than a second.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._thread: ThreadPoolExecutor | None = None
        self._file: BookFile | None = None

    def __repr__(self) -> str:
        return f"FileLedger({str(self.path)!r})"

    async def change(self, account: str, change: Callable[[Book], T]) -> T:
        """Apply a change to the book of an account, whole or not at all, and return its result.

        A change that has begun is finished, even if the caller is cancelled meanwhile.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "agora_analytics ledger")
        work = self._thread.submit(self._change, account, change)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            if not work.cancelled():
                await asyncio.wait([asyncio.wrap_future(work)])
            raise

    async def close(self) -> None:
        """Close the file; may be called twice, and the ledger used again after."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._shut)
            thread.shutdown(wait=False)

    def _change(self, account: str, change: Callable[[Book], T]) -> T:
        if self._file is None:
            # SQLite is loaded by those who use it.
            from agora_analytics.quota._sqlite import BookFile  # noqa: PLC0415

            self._file = BookFile(self.path)
        return self._file.change(account, change)

    def _shut(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
