"""The SQLite file behind `FileLedger`: one row per account, one row per process.

SQLite's locks serialize changes. They are the kernel's, so a killed process leaves none behind, and what it wrote is
whole or absent. Its requests in flight and reservations stay until another process finds that it crashed: each process
that has the file open is registered with the name of a `ProcessLock` beside it.
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
from agora_analytics._core.process_lock import ProcessLock, is_locked
from agora_analytics.errors import LedgerError
from agora_analytics.quota.ledger_state import MAX_PROCESSES, LedgerState, decode

T = TypeVar("T")

_LOCK_TIMEOUT: Final = 1.0
"""Seconds that a statement waits for the locks of other processes."""

_LOCK_POLL: Final = 1e-3
"""Seconds between two attempts; SQLite's own back-off grows, which starves a waiting process."""

_LOCKED: Final = "No request is sent without it. End the program that holds the lock, or give this one its own ledger."
_UNUSABLE: Final = "No request is sent without it. Check the path, its permissions and the free space of the disk."

_LAYOUT: Final = (
    "CREATE TABLE IF NOT EXISTS accounts (account TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS process_slots (slot INTEGER PRIMARY KEY, lock_name TEXT NOT NULL)",
)
_WRITE: Final = "INSERT OR REPLACE INTO accounts VALUES (?, ?)"


class LedgerFile:
    """An open ledger file, used by one thread; raises `LedgerError` for whatever goes wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slot = 0
        self._checked_at = 0.0
        self._stored = b""
        self._lock: ProcessLock | None = None
        with self._as_ledger_error():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not not_linked(path).exists():
                path.touch(0o600)  # before SQLite creates it with other permissions
            # No waiting of SQLite's own (see `_LOCK_POLL`); transactions are explicit; `abandon` may run in any thread.
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self.abandon()  # the process is not registered yet
            raise

    def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        """Apply a change to the state of an account, whole or not at all; errors of `change` itself pass unchanged."""
        with self._transaction():
            state = self._read(account)
            # At most once a second: to look at the locks of other processes opens files.
            if state.has_stale_permits(now := time.monotonic()) and now > self._checked_at + 1:
                self._checked_at = now
                self._reclaim_crashed()
                # Read again, since reclaiming has changed what is stored.
                state = self._read(account)
            result = change(state)
            self._write(account, state)
        return result

    def close(self) -> None:
        """Unregister the process and close the file."""
        if self._lock is not None:
            # If that fails, the released lock shows others that this process is gone.
            with suppress(LedgerError), self._transaction():
                self._database.execute("DELETE FROM process_slots WHERE slot = ?", (self._slot,))
            self._lock.remove()
        self._database.close()

    def abandon(self) -> None:
        """Close the file at once, as if the process had crashed: others reclaim what it held."""
        if self._lock is not None:
            self._lock.remove()
        self._database.close()

    def _prepare(self) -> None:
        with self._as_ledger_error():
            # Write-ahead log: readers do not block writers, and no change waits for the disk.
            self._retry_locked("PRAGMA journal_mode=WAL")
            self._retry_locked("PRAGMA synchronous=NORMAL")
            self._path.chmod(0o600)
        with self._transaction(), self._as_ledger_error():
            # An error rather than a fresh start, which would forget what was spent today.
            if self._database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'books'").fetchone():
                raise ValueError("an earlier version of the library stored it; delete it when no program uses it")
            for table in _LAYOUT:
                self._database.execute(table)
            # Before it registers: crashed processes may have left no slot free.
            self._reclaim_crashed()
            for account in self._accounts():
                state = self._read(account)
                state.rebase(time.monotonic(), time.time())
                self._write(account, state)
            self._register()

    def _register(self) -> None:
        """Register this process in the first free slot."""
        name = secrets.token_hex(4)
        self._lock = ProcessLock(self._lock_path(name))
        taken = {slot for (slot,) in self._database.execute("SELECT slot FROM process_slots")}
        free = next((slot for slot in range(MAX_PROCESSES) if slot not in taken), None)
        if free is None:
            raise ValueError(f"{MAX_PROCESSES} processes use it already")
        self._slot = free
        self._database.execute("INSERT INTO process_slots VALUES (?, ?)", (self._slot, name))

    def _reclaim_crashed(self) -> None:
        """Unregister crashed processes and reclaim what they held."""
        with self._as_ledger_error():
            processes = self._database.execute("SELECT slot, lock_name FROM process_slots").fetchall()
            crashed = [(slot, name) for slot, name in processes if not is_locked(self._lock_path(name))]
            for slot, name in crashed:
                for account in self._accounts():
                    state = self._read(account)
                    state.reclaim(slot, time.monotonic())
                    self._write(account, state)
                self._database.execute("DELETE FROM process_slots WHERE slot = ?", (slot,))
                self._lock_path(name).unlink(missing_ok=True)

    def _count_processes(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM process_slots").fetchone()
        return int(count)

    def _lock_path(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}-{name}")

    def _accounts(self) -> list[str]:
        return [account for (account,) in self._database.execute("SELECT account FROM accounts")]

    def _read(self, account: str) -> LedgerState:
        with self._as_ledger_error():
            row = self._database.execute("SELECT state FROM accounts WHERE account = ?", (account,)).fetchone()
            self._stored = row[0] if row else b""
            state = decode(row[0]) if row else LedgerState(boot_time=time.time() - time.monotonic())
            state.process_slot, state.processes = self._slot, max(1, self._count_processes())
            return state

    def _write(self, account: str, state: LedgerState) -> None:
        """Store the state that was read last."""
        # A rejection changes nothing, and while processes wait for a window most changes are rejections.
        if (encoded := state.encode()) != self._stored:
            with self._as_ledger_error():
                self._database.execute(_WRITE, (account, encoded))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._as_ledger_error():
            # The write lock at once: two readers that both want to write later would block each other.
            self._retry_locked("BEGIN IMMEDIATE")
        try:
            yield
            with self._as_ledger_error():
                self._retry_locked("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    def _retry_locked(self, statement: str) -> None:
        """Run a statement, and retry while another process holds a lock; SQLite itself waits for some locks only."""
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                self._database.execute(statement)
            except sqlite3.OperationalError as error:
                if not _locked(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_LOCK_POLL)
            else:
                return

    @contextmanager
    def _as_ledger_error(self) -> Iterator[None]:
        try:
            yield
        except (*DecodeFailures, sqlite3.Error, OSError, ValueError) as error:
            raise _unusable(self._path, error) from error


def _locked(error: Exception) -> bool:
    """Whether a statement failed because of a lock."""
    # The low byte is the code; SQLite puts variants such as BUSY_SNAPSHOT above it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _unusable(path: Path, error: Exception) -> LedgerError:
    reason, hint = str(error), _UNUSABLE
    if _locked(error):
        reason, hint = f"another program has kept it locked for more than {_LOCK_TIMEOUT:g} s", _LOCKED
    return LedgerError(f"the quota ledger {str(path)!r} cannot be used: {reason}", hint=hint)
