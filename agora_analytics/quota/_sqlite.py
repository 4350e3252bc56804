"""Books in an SQLite file.

SQLite's own locks make changes one after the other. They are the kernel's, so a process that is killed leaves none
behind; what it had written is whole or not there at all.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from agora_analytics.errors import LedgerError
from agora_analytics.quota._book import Book, decode

T = TypeVar("T")

_BUSY: Final = 1.0
"""Seconds that a change waits for those of others."""

_LAYOUT: Final = "CREATE TABLE IF NOT EXISTS books (account TEXT PRIMARY KEY, book BLOB NOT NULL) WITHOUT ROWID"
_WRITE: Final = "INSERT OR REPLACE INTO books VALUES (?, ?)"


class BookFile:
    """An open file of books; used by one thread. Raises `LedgerError` for whatever goes wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._telling():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def change(self, account: str, change: Callable[[Book], T]) -> T:
        """Apply a change to the book of an account, whole or not at all."""
        with self._telling(), self._transaction():
            found = self._database.execute("SELECT book FROM books WHERE account = ?", (account,)).fetchone()
            book = decode(found[0]) if found else Book(booted=time.time() - time.monotonic())
            result = change(book)
            self._database.execute(_WRITE, (account, book.encode()))
        return result

    def close(self) -> None:
        """Close it."""
        self._database.close()

    def _prepare(self) -> None:
        # A log of changes instead of whole pages: no reader stops a writer, and nothing waits for the disk.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._path.chmod(0o600)
        with self._transaction():
            self._database.execute(_LAYOUT)
            for account, text in self._database.execute("SELECT account, book FROM books").fetchall():
                book = decode(text)
                book.reopen(time.monotonic(), time.time())
                self._database.execute(_WRITE, (account, book.encode()))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise LedgerError(
                f"the quota ledger {str(self._path)!r} cannot be used: {error}",
                advice="Nothing was sent. Check the path and its rights, and that no other program holds the file.",
            ) from error
