"""Waiting for a locked SQLite database: up to a timeout, interruptible, and logged when it takes long."""

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
"""Seconds between two attempts."""

_WARN_AFTER: Final = 10.0
"""Seconds of waiting before it is logged."""


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds a lock on the database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


class LockWait:
    """Repeats statements while a SQLite database is locked, for up to `timeout` seconds each.

    SQLite's own busy timeout can neither be cancelled nor log anything: set it to 0 for connections used here.
    """

    def __init__(self, timeout: float, name: str) -> None:
        self._timeout = timeout
        self._name = name
        self._cancelled = Event()

    def cancel(self) -> None:
        """End a wait of another thread, and all later ones, with the error of the last attempt."""
        self._cancelled.set()

    def run(self, statement: Callable[[], T]) -> T:
        """Return what `statement` returns; raises `sqlite3.OperationalError` if the database stays locked."""
        started, is_logged = time.monotonic(), False
        while True:
            try:
                return statement()
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - started
                if not is_busy(error) or waited >= self._timeout:
                    raise
                if waited >= _WARN_AFTER and not is_logged:
                    is_logged = True
                    log.warning(
                        "export: %s is locked by another program; waiting for up to %d s", self._name, self._timeout
                    )
                if self._cancelled.wait(_POLL_INTERVAL):
                    raise
