"""Books in an SQLite file.

SQLite's own locks make changes one after the other. They are the kernel's, so a process that is killed leaves none
behind; what it had written is whole or not there at all. What it had under way stays in the books until another finds
that it is gone: each process that has the file open is listed in it, with a sign of life beside it.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from agora_analytics._core.decoding.json import DecodeFailures
from agora_analytics._core.files import not_linked
from agora_analytics._core.process_lock import Sign, alive
from agora_analytics.errors import LedgerError
from agora_analytics.quota.ledger_state import SLOTS, Book, decode

T = TypeVar("T")

_BUSY: Final = 1.0
"""Seconds that a statement waits for the locks of others."""

_POLL: Final = 1e-3
"""Seconds between two tries meanwhile; SQLite's own are ever further apart, which starves those who wait."""

_LOCKED: Final = "Nothing was sent. End the program that holds it, or give this one a ledger of its own."
_UNUSABLE: Final = "Nothing was sent. Check the path and its rights, and that the disk has room."

_LAYOUT: Final = (
    "CREATE TABLE IF NOT EXISTS books (account TEXT PRIMARY KEY, book BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS processes (slot INTEGER PRIMARY KEY, sign TEXT NOT NULL)",
)
_WRITE: Final = "INSERT OR REPLACE INTO books VALUES (?, ?)"


class BookFile:
    """An open file of books; used by one thread. Raises `LedgerError` for whatever goes wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slot = 0
        self._looked = 0.0
        self._sign: Sign | None = None
        with self._telling():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not not_linked(path).exists():
                path.touch(0o600)  # from the first moment: another process may be opening it too
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self.abandon()  # nothing of it is listed
            raise

    def change(self, account: str, change: Callable[[Book], T]) -> T:
        """Apply a change to the book of an account, whole or not at all; what it raises itself stays what it is."""
        with self._transaction():
            book = self._read(account)
            if book.doubtful(now := time.monotonic()) and now > self._looked + 1:
                self._looked = now
                self._bury()
                book = self._read(account)
            result = change(book)
            self._write(account, book)
        return result

    def close(self) -> None:
        """Close it."""
        if self._sign is not None:
            with suppress(LedgerError), self._transaction():
                self._database.execute("DELETE FROM processes WHERE slot = ?", (self._slot,))
            self._sign.remove()
        self._database.close()

    def abandon(self) -> None:
        """Let go of it at once, as a process does that is killed: others find that it is gone."""
        if self._sign is not None:
            self._sign.remove()
        self._database.close()

    def _prepare(self) -> None:
        with self._telling():
            # A log of changes instead of whole pages: no reader stops a writer, and nothing waits for the disk.
            self._patiently("PRAGMA journal_mode=WAL")
            self._patiently("PRAGMA synchronous=NORMAL")
            self._path.chmod(0o600)
        with self._transaction(), self._telling():
            for table in _LAYOUT:
                self._database.execute(table)
            self._bury()
            for account in self._accounts():
                book = self._read(account)
                book.reopen(time.monotonic(), time.time())
                self._write(account, book)
            self._enter()

    def _enter(self) -> None:
        """List this process, in the first slot that is free."""
        name = secrets.token_hex(4)
        self._sign = Sign(self._beside(name))
        taken = {slot for (slot,) in self._database.execute("SELECT slot FROM processes")}
        self._slot = next(slot for slot in range(SLOTS) if slot not in taken)
        self._database.execute("INSERT INTO processes VALUES (?, ?)", (self._slot, name))

    def _bury(self) -> None:
        """Strike out the processes that are gone; what they had under way has been counted or never will be."""
        with self._telling():
            listed = self._database.execute("SELECT slot, sign FROM processes").fetchall()
            gone = [(slot, sign) for slot, sign in listed if not alive(self._beside(sign))]
            for slot, sign in gone:
                for account in self._accounts():
                    book = self._read(account)
                    book.bury(slot, time.monotonic())
                    self._write(account, book)
                self._database.execute("DELETE FROM processes WHERE slot = ?", (slot,))
                self._beside(sign).unlink(missing_ok=True)

    def _beside(self, sign: str) -> Path:
        return self._path.with_name(f"{self._path.name}-{sign}")

    def _accounts(self) -> list[str]:
        return [account for (account,) in self._database.execute("SELECT account FROM books")]

    def _read(self, account: str) -> Book:
        with self._telling():
            found = self._database.execute("SELECT book FROM books WHERE account = ?", (account,)).fetchone()
            book = decode(found[0]) if found else Book(booted=time.time() - time.monotonic())
            book.slot = self._slot
            return book

    def _write(self, account: str, book: Book) -> None:
        with self._telling():
            self._database.execute(_WRITE, (account, book.encode()))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._telling():
            self._patiently("BEGIN IMMEDIATE")
        try:
            yield
            with self._telling():
                self._patiently("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    def _patiently(self, statement: str) -> None:
        """Run a statement that may meet a lock of others; SQLite waits for some of these locks only."""
        until = time.monotonic() + _BUSY
        while True:
            try:
                self._database.execute(statement)
            except sqlite3.OperationalError as error:
                if not _locked(error) or time.monotonic() > until:
                    raise
                time.sleep(_POLL)
            else:
                return

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (*DecodeFailures, sqlite3.Error, OSError, ValueError) as error:
            raise _unusable(self._path, error) from error


def _locked(error: Exception) -> bool:
    """Whether it is a lock that a statement failed for."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _unusable(path: Path, error: Exception) -> LedgerError:
    said, hint = str(error), _UNUSABLE
    if _locked(error):
        said, hint = f"another program has kept it locked for more than {_BUSY:g} s", _LOCKED
    return LedgerError(f"the quota ledger {str(path)!r} cannot be used: {said}", hint=hint)
