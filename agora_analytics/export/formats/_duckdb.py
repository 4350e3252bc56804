"""Rows in the tables of a DuckDB database: the only file that imports duckdb."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import duckdb

from agora_analytics.export import _arrow
from agora_analytics.export._batches import Batch
from agora_analytics.export._columns import Dataset

_TYPES: Final[Mapping[str, str]] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "time": "TIMESTAMPTZ",
}
_MEMORY: Final = "16MB"


class DuckdbTables:
    """The tables of a database, one for each dataset; a part's rows are there whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._database = duckdb.connect(str(path), config={"memory_limit": _MEMORY, "threads": "1"})

    def begin(self, dataset: Dataset, part: int) -> None:
        """Begin to write a part anew, its table too where need be."""
        columns = ", ".join(f"{column.name} {_TYPES[column.kind]}" for column in dataset.columns)
        self._database.execute("BEGIN")
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {dataset.name} ({columns}, _part BIGINT)")
        self._database.execute(f"DELETE FROM {dataset.name} WHERE _part = ?", (part,))  # noqa: S608 - a dataset's own

    def add(self, batch: Batch, part: int) -> None:
        """Add rows of a part."""
        self._database.register("_batch", _arrow.table(batch))
        self._database.execute(f"INSERT INTO {batch.dataset.name} SELECT *, ? FROM _batch", (part,))  # noqa: S608
        self._database.unregister("_batch")
        _arrow.release()

    def end(self) -> None:
        """Make what was written since `begin` visible."""
        self._database.execute("COMMIT")

    def undo(self) -> None:
        """Forget what was written since `begin`."""
        try:
            self._database.execute("ROLLBACK")
        except duckdb.TransactionException:
            return

    def close(self) -> None:
        """Close the database, with all of it in one file."""
        self._database.close()
