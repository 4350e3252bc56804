"""Locks that end with their process, as the kernel drops them: to show that a process lives, and to claim a name.

Both are SQLite's exclusive lock on a file, which works between threads and between processes on every system. A forked
child has none of its parent's locks.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from agora_analytics._core.files import not_linked

_CLAIM_TIMEOUT: Final = 0.1
"""Seconds that a claim waits for the lock: two attempts at the same moment would otherwise both fail."""


class ProcessLock:
    """A file that stays locked until it is removed or its process ends, which shows other processes that it lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process = os.getpid()
        # `remove` may be called in any thread, even by the garbage collector.
        self._database = sqlite3.connect(not_linked(path), isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        _lock(self._database)

    def remove(self) -> None:
        """Release the lock and delete the file."""
        self._database.close()
        if self._process == os.getpid():  # in a forked child it is still the parent's
            self._path.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the `ProcessLock` at a path."""
    # SQLite would create the file.
    if not path.exists():
        return False
    database = sqlite3.connect(not_linked(path), timeout=0, isolation_level=None)
    try:
        _lock(database)
    except sqlite3.OperationalError:
        return True
    finally:
        database.close()
    return False


class Claim:
    """A file locked by this object, until it is released or its process ends.

    The empty file stays: if it were deleted, two processes could each lock a file of that name.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self.process = os.getpid()
        self._database = database
        _claims[id(self)] = self

    def __del__(self) -> None:
        self._database.close()

    def release(self) -> None:
        """Release the lock; may be called twice."""
        self._database.close()


# Only for a forked child to find its parent's claims; it keeps none of them alive.
_claims: WeakValueDictionary[int, Claim] = WeakValueDictionary()


def claim(path: Path) -> Claim | None:
    """Lock a file, creating it if needed; None where another holds it. Raises `OSError` where it cannot be used."""
    _close_parents_claims()
    database = _opened(path)
    try:
        path.chmod(0o600)
        _lock(database)
    except sqlite3.Error as error:
        database.close()
        # The low byte is the code; SQLite puts variants of it above.
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return None
        raise OSError(f"{path.name}: {error}") from None
    except BaseException:
        database.close()
        raise
    return Claim(database)


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(not_linked(path), timeout=_CLAIM_TIMEOUT, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise OSError(f"{path.name}: {error}") from None


def _close_parents_claims() -> None:
    """In a forked child, close the parent's claims, which SQLite takes for this process's own."""
    # Listed in one step, as other threads may add claims meanwhile.
    for known_claim in [claimed for ref in _claims.valuerefs() if (claimed := ref()) is not None]:
        if known_claim.process != os.getpid():
            known_claim.release()


def _lock(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode=MEMORY")  # no further file
    database.execute("BEGIN EXCLUSIVE")
