"""Who still runs of the processes that share a file: a lock tells, which the kernel drops with its process."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path


class Sign:
    """A sign of life: a file that stays locked until it is removed or its process is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process = os.getpid()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        _lock(self._database)

    def remove(self) -> None:
        """Give the sign up."""
        self._database.close()
        if self._process == os.getpid():  # it is still the parent's in a forked child
            self._path.unlink(missing_ok=True)


def alive(path: Path) -> bool:
    """Whether a sign of life is held by anyone."""
    if not path.exists():
        return False
    database = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        _lock(database)
    except sqlite3.OperationalError:
        return True
    finally:
        database.close()
    return False


def _lock(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode=MEMORY")  # no further file
    database.execute("BEGIN EXCLUSIVE")
