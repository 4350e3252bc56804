"""Rows in the tables of an SQLite database; times are text in ISO 8601, as its date functions read them."""

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
"""Rows that one statement takes at most."""


_LOCK_TIMEOUT: Final = 900.0
"""Seconds to wait where somebody reads the database; who begins to read meanwhile waits for the part."""


class SqliteWriter(FormatWriter):
    """The tables of a database, one for each dataset; a part's rows are there whole or not at all."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        # No timeout: where a lock is needed it is waited for here, and pages that cannot leave the cache stay in it.
        self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        self._lock_wait = LockWait(_LOCK_TIMEOUT, path.name)
        self._path = path
        self._part = 0
        self._is_ready = False

    def ready(self) -> None:
        """See that the file is a database."""
        if self._is_ready:
            return  # none of this can be said while a part is being written
        # A part is mostly new pages, which a rollback journal need not hold, and a log of changes writes twice.
        self._locked("PRAGMA journal_mode=DELETE")
        self._locked("PRAGMA synchronous=NORMAL")
        self._locked("PRAGMA cache_size=-4000")
        self._is_ready = True

    def _begin(self, dataset: Dataset, part: int) -> None:
        """Begin to write a part anew, its table too where need be."""
        columns = ", ".join(f"{column.name} {_TYPES[column.kind]}" for column in dataset.columns)
        self._locked("BEGIN IMMEDIATE")
        self._database.execute("CREATE TABLE IF NOT EXISTS _parts (part INTEGER PRIMARY KEY)")
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {dataset.name} ({columns}, _part INTEGER)")
        if self._database.execute("DELETE FROM _parts WHERE part = ?", (part,)).rowcount:
            self._database.execute(f"DELETE FROM {dataset.name} WHERE _part = ?", (part,))  # noqa: S608 - our own name
        self._database.execute("INSERT INTO _parts VALUES (?)", (part,))
        self._part = part

    def _write(self, batch: ColumnBatch) -> None:
        """Add rows to the part."""
        kinds = [column.kind for column in batch.dataset.columns]
        told: list[Any] = [
            map(iso, one) if kind == "time" else one for kind, one in zip(kinds, batch.columns, strict=True)
        ]
        width = len(kinds) + 1
        insert = f"INSERT INTO {batch.dataset.name} VALUES "  # noqa: S608 - our own name
        row = f"({', '.join('?' * width)})"
        rows = zip(*told, repeat(self._part, batch.rows), strict=True)
        # Many rows a statement: for each statement, the thread waits until the interpreter is free again.
        together = min(_ROWS_PER_INSERT, self._database.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width)
        many = insert + ", ".join([row] * together)
        for _ in range(batch.rows // together):
            self._database.execute(many, tuple(chain.from_iterable(islice(rows, together))))
        self._database.executemany(insert + row, rows)

    def _commit(self) -> None:
        """Make what was written since `begin` visible."""
        self._locked("COMMIT")

    def _roll_back(self) -> None:
        """Forget what was written since `begin`."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part and rows of all that it holds."""
        return count_rows(self._locked, _TABLES)

    def copy(self, path: Path) -> None:
        """Copy the file: between two parts nobody has anything in it that is not complete."""
        copyfile(self._path, path)

    def _close(self) -> None:
        """Close the database."""
        self._database.close()

    def abort(self) -> None:
        """End the wait for who reads the database."""
        self._lock_wait.cancel()

    def _locked(self, statement: str) -> list[Any]:
        """Return the rows of a statement that needs a lock, which others may have."""
        return self._lock_wait.run(lambda: self._database.execute(statement).fetchall())
