"""SQLite: a table for each dataset; times are text in ISO 8601, which its date functions read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from itertools import chain, islice, repeat
from pathlib import Path
from shutil import copyfile
from typing import Any, Final

from agora_analytics.export.formats.base import FormatWriter, count_rows, iso
from agora_analytics.export.schema import Dataset
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.export.write.lock_wait import LockWait

_TYPES: Final[Mapping[str, str]] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "number": "REAL",
    "boolean": "INTEGER",
    "time": "TEXT",
}

_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table'"

_ROWS_PER_INSERT: Final = 200
"""Most rows of one INSERT statement."""

_LOCK_TIMEOUT: Final = 900.0
"""Seconds to wait for readers of the database; new readers wait until the part is committed."""


class SqliteWriter(FormatWriter):
    """Writes each part in one transaction; `_part` of a row is the id of its part, and `_parts` has the ids of all."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        # No busy timeout: LockWait waits, and a page that cannot be spilled from the cache at once stays there.
        self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        self._lock_wait = LockWait(_LOCK_TIMEOUT, path.name)
        self._path = path
        self._part = 0
        self._is_ready = False

    def ready(self) -> None:
        """Check that the file is a database, and set it up."""
        if self._is_ready:
            return  # these pragmas are refused inside a transaction
        # A part is mostly new pages: a rollback journal does not hold them, a write-ahead log would write them twice.
        self._execute_locked("PRAGMA journal_mode=DELETE")
        self._execute_locked("PRAGMA synchronous=NORMAL")
        self._execute_locked("PRAGMA cache_size=-4000")
        self._is_ready = True

    def _begin(self, dataset: Dataset, part: int) -> None:
        columns = ", ".join(f"{column.name} {_TYPES[column.kind]}" for column in dataset.columns)
        self._execute_locked("BEGIN IMMEDIATE")
        self._database.execute("CREATE TABLE IF NOT EXISTS _parts (part INTEGER PRIMARY KEY)")
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {dataset.name} ({columns}, _part INTEGER)")
        if self._database.execute("DELETE FROM _parts WHERE part = ?", (part,)).rowcount:
            self._database.execute(f"DELETE FROM {dataset.name} WHERE _part = ?", (part,))  # noqa: S608 - our own name
        self._database.execute("INSERT INTO _parts VALUES (?)", (part,))
        self._part = part

    def _write(self, batch: ColumnBatch) -> None:
        kinds = [column.kind for column in batch.dataset.columns]
        columns: list[Any] = [
            map(iso, column) if kind == "time" else column for kind, column in zip(kinds, batch.columns, strict=True)
        ]
        width = len(kinds) + 1
        insert = f"INSERT INTO {batch.dataset.name} VALUES "  # noqa: S608 - our own name
        row = f"({', '.join('?' * width)})"
        rows = zip(*columns, repeat(self._part, batch.rows), strict=True)
        # Many rows per statement, since after each the thread waits for the interpreter lock.
        at_once = min(_ROWS_PER_INSERT, self._database.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width)
        many = insert + ", ".join([row] * at_once)
        for _ in range(batch.rows // at_once):
            self._database.execute(many, tuple(chain.from_iterable(islice(rows, at_once))))
        self._database.executemany(insert + row, rows)

    def _commit(self) -> None:
        self._execute_locked("COMMIT")

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part id and rows of every part."""
        return count_rows(self._execute_locked, _TABLES)

    def copy(self, path: Path) -> None:
        """Copy the file, between two parts; then no transaction is open."""
        copyfile(self._path, path)

    def _close(self) -> None:
        self._database.close()

    def abort(self) -> None:
        """End the wait for readers of the database."""
        self._lock_wait.cancel()

    def _execute_locked(self, statement: str) -> list[Any]:
        """Execute a statement that needs a lock, and wait for the lock."""
        return self._lock_wait.run(lambda: self._database.execute(statement).fetchall())
