"""A ledger in a file: shared by the processes of a machine, and there again after a restart.

SQLite's own locks make changes one after the other. They are the kernel's, so a process that is killed leaves none
behind; what it had written is whole or not there at all.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from agora_analytics.errors import LedgerError
from agora_analytics.quota._book import Book, decode
from agora_analytics.quota._counter import Moment

T = TypeVar("T")

_BUSY: Final = 1.0
"""Seconds that a change waits for another's."""

_LAYOUT: Final = "CREATE TABLE IF NOT EXISTS books (account TEXT PRIMARY KEY, book BLOB NOT NULL) WITHOUT ROWID"


class FileLedger:
    """Keeps the books in an SQLite file, which any number of processes of one machine may share.

    `path` must be on a local disk; its folder is made if need be, readable by the user alone. Nothing in it is a
    credential: accounts are told apart by a fingerprint. Raises `LedgerError` where the file cannot be used, or is
    locked for longer than a second.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._thread: ThreadPoolExecutor | None = None
        self._database: sqlite3.Connection | None = None

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
        try:
            database = self._database or self._open()
            database.execute("BEGIN IMMEDIATE")
            try:
                book = self._read(database, account)
                result = change(book)
                database.execute("INSERT OR REPLACE INTO books VALUES (?, ?)", (account, book.encode()))
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(
                f"the quota ledger {str(self.path)!r} cannot be used: {error}",
                advice="Nothing was sent. Check the path and its rights, or that no other program holds the file.",
            ) from error
        return result

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            # Whoever comes second waits for the first: switching to a log needs the file alone.
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_LAYOUT)
            self.path.chmod(0o600)
            self._reopen(database)
        except BaseException:
            database.close()
            raise
        self._database = database
        return database

    def _reopen(self, database: sqlite3.Connection) -> None:
        """Look through the books: they may be of before a restart of the machine."""
        database.execute("BEGIN IMMEDIATE")
        moment = Moment(time.monotonic(), time.time())
        for account, text in database.execute("SELECT account, book FROM books").fetchall():
            book = decode(text)
            book.reopen(moment)
            database.execute("UPDATE books SET book = ? WHERE account = ?", (book.encode(), account))
        database.execute("COMMIT")

    def _read(self, database: sqlite3.Connection, account: str) -> Book:
        row = database.execute("SELECT book FROM books WHERE account = ?", (account,)).fetchone()
        if row is not None:
            return decode(row[0])
        return Book(booted=time.time() - time.monotonic())

    def _shut(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
