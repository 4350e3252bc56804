"""Rows in the tables of a DuckDB database: the only file that imports duckdb."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import Any, Final

import duckdb

from agora_analytics.export import arrow
from agora_analytics.export.formats.base import FormatWriter, close_on_error, count_rows
from agora_analytics.export.schema import Dataset
from agora_analytics.export.write.column_batch import ColumnBatch

_TYPES: Final[Mapping[str, str]] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "time": "TIMESTAMPTZ",
}
_TABLES: Final = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'export'"

_MEMORY_LIMIT: Final = "512MB"
"""What a checkpoint of wide rows with texts of kilobytes needs: with half of that, DuckDB refuses them for good."""

_IDLE_MEMORY_LIMIT: Final = "2MB"
"""What it may keep of that from one part to the next."""

_ROW_GROUP_SIZE: Final = 4_096
"""Rows that are compressed together: with DuckDB's own 122,880, a checkpoint takes tens of megabytes beside its limit,
and writes what earlier parts wrote once more."""


class DuckdbWriter(FormatWriter):
    """The tables of a database, one for each dataset; a part's rows are there whole or not at all."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        settings = {"memory_limit": _MEMORY_LIMIT, "threads": "1", "wal_autocheckpoint": "1KB"}  # with each part
        self._database = duckdb.connect(":memory:", config=settings)
        self._file = path
        self._path = str(path).replace("'", "''")
        self._buffer: arrow.RowGroupBuffer | None = None
        with close_on_error(self._database):
            with suppress(duckdb.CatalogException):  # before DuckDB 2.0, the groups it holds back are always five
                self._database.execute("SET write_buffer_row_group_count = 1")
            self._attach()

    def _begin(self, dataset: Dataset, part: int) -> None:
        """Begin to write a part anew, its table too where need be."""
        columns = ", ".join(f"{column.name} {_TYPES[column.kind]}" for column in dataset.columns)
        self._database.execute("BEGIN")
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {dataset.name} ({columns}, _part BIGINT)")
        self._database.execute(f"DELETE FROM {dataset.name} WHERE _part = ?", (part,))  # noqa: S608 - a dataset's own
        self._buffer = arrow.RowGroupBuffer(partial(self._insert, dataset.name, part))

    def _write(self, batch: ColumnBatch) -> None:
        """Add rows to the part."""
        if self._buffer is not None:
            self._buffer.append(batch)

    def _commit(self) -> None:
        """Make what was written since `begin` visible."""
        if self._buffer is not None:
            self._buffer.flush()
        self._database.execute("COMMIT")
        for limit in (_IDLE_MEMORY_LIMIT, _MEMORY_LIMIT):
            self._database.execute(f"SET memory_limit = '{limit}'")
        # What it knows of each group of rows stays in memory for as long as the file is open.
        self._detach()
        self._attach()

    def _roll_back(self) -> None:
        """Forget what was written since `begin`."""
        self._buffer = None
        try:
            self._database.execute("ROLLBACK")
        except duckdb.TransactionException:
            return

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part and rows of all that it holds; raises DuckDB's error where any of it cannot be read."""
        found = count_rows(lambda query: self._database.execute(query).fetchall(), _TABLES)
        for name in {dataset for dataset, _, _ in found}:  # rows are counted without what else is in them
            self._database.execute(f"SELECT max(hash(COLUMNS(*))) FROM {name}").fetchall()  # noqa: S608 - a dataset's
        return found

    def copy(self, path: Path) -> None:
        """Copy the file, which is closed meanwhile."""
        self._detach()
        try:
            copyfile(self._file, path)
        finally:
            self._attach()

    def _close(self) -> None:
        """Close the database, with all of it in one file."""
        self._database.close()

    def _detach(self) -> None:
        self._database.execute("USE memory")
        self._database.execute("DETACH export")

    def _attach(self) -> None:
        self._database.execute(f"ATTACH '{self._path}' AS export (ROW_GROUP_SIZE {_ROW_GROUP_SIZE})")
        self._database.execute("USE export")

    def _insert(self, name: str, part: int, rows: Any) -> None:
        self._database.register("_rows", rows)
        self._database.execute(f"INSERT INTO {name} SELECT *, ? FROM _rows", (part,))  # noqa: S608 - a dataset's own
        self._database.unregister("_rows")
