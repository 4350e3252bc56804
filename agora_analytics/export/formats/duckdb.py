"""DuckDB: a table for each dataset. The only file that imports duckdb."""

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
"""Memory for a checkpoint of wide rows with texts of kilobytes; with half of it, DuckDB fails."""

_IDLE_MEMORY_LIMIT: Final = "2MB"
"""Memory that it may keep between two parts."""

_ROW_GROUP_SIZE: Final = 4_096
"""Rows per row group. With the default of 122,880, a checkpoint exceeds its memory limit by tens of megabytes, and
writes the rows of earlier parts again."""


class DuckdbWriter(FormatWriter):
    """Writes each part in one transaction; `_part` of a row is the id of its part."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        # A tiny `wal_autocheckpoint` makes a checkpoint after each part.
        settings = {"memory_limit": _MEMORY_LIMIT, "threads": "1", "wal_autocheckpoint": "1KB"}
        # In memory, with the file attached to it: a connection cannot detach the database that it was opened with.
        self._database = duckdb.connect(":memory:", config=settings)
        self._file = path
        # ATTACH takes no parameters.
        self._path = str(path).replace("'", "''")
        self._buffer: arrow.RowGroupBuffer | None = None
        with close_on_error(self._database):
            with suppress(duckdb.CatalogException):  # before DuckDB 2.0 it always buffers five row groups
                self._database.execute("SET write_buffer_row_group_count = 1")
            self._attach()

    def _begin(self, dataset: Dataset, part: int) -> None:
        columns = ", ".join(f"{column.name} {_TYPES[column.kind]}" for column in dataset.columns)
        self._database.execute("BEGIN")
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {dataset.name} ({columns}, _part BIGINT)")
        self._database.execute(f"DELETE FROM {dataset.name} WHERE _part = ?", (part,))  # noqa: S608 - a dataset's own
        self._buffer = arrow.RowGroupBuffer(partial(self._insert, dataset.name, part))

    def _write(self, batch: ColumnBatch) -> None:
        if self._buffer is not None:
            self._buffer.append(batch)

    def _commit(self) -> None:
        if self._buffer is not None:
            self._buffer.flush()
        self._database.execute("COMMIT")
        # DuckDB gives memory back only when a lower limit is set.
        for limit in (_IDLE_MEMORY_LIMIT, _MEMORY_LIMIT):
            self._database.execute(f"SET memory_limit = '{limit}'")
        # Metadata of row groups stays in memory for as long as the file is attached.
        self._detach()
        self._attach()

    def _roll_back(self) -> None:
        self._buffer = None
        try:
            self._database.execute("ROLLBACK")
        except duckdb.TransactionException:
            return

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part id and rows of every part; raises DuckDB's error if any value cannot be read."""
        found = count_rows(lambda query: self._database.execute(query).fetchall(), _TABLES)
        for name in {dataset for dataset, _, _ in found}:  # counting alone does not read the columns
            self._database.execute(f"SELECT max(hash(COLUMNS(*))) FROM {name}").fetchall()  # noqa: S608 - a dataset's
        return found

    def copy(self, path: Path) -> None:
        """Copy the file, between two parts; it is detached meanwhile."""
        self._detach()
        try:
            copyfile(self._file, path)
        finally:
            self._attach()

    def _close(self) -> None:
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
