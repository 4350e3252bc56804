"""Waiting for another program that has a database: for so long, until it is given up, and told after a while."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from threading import Event
from typing import Final, TypeVar

T = TypeVar("T")

log = logging.getLogger("agora_analytics")

_POLL_INTERVAL: Final = 0.05
"""Seconds between two tries."""

_WARN_AFTER: Final = 10.0
"""Seconds of waiting before it is logged."""


def is_busy(error: BaseException) -> bool:
    """Whether another connection has a lock on the database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


class LockWait:
    """Tries again while a SQLite database is locked, for up to so many seconds.

    SQLite's own busy timeout can neither be interrupted nor log anything: connections used here have one of 0.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds = seconds
        self._what = what
        self._over = Event()

    def cancel(self) -> None:
        """End a wait of another thread, and all that come later, with the error of its last try."""
        self._over.set()

    def run(self, work: Callable[[], T]) -> T:
        """Return what some work returns; raises `sqlite3.OperationalError` if the database stays locked."""
        begun, told = time.monotonic(), False
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - begun
                if not is_busy(error) or waited >= self._seconds:
                    raise
                if waited >= _WARN_AFTER and not told:
                    told = True
                    log.warning(
                        "export: %s is locked by another program; waiting for up to %d s", self._what, self._seconds
                    )
                if self._over.wait(_POLL_INTERVAL):
                    raise
