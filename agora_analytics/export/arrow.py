"""Rows as Arrow: the only file that imports pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from agora_analytics.export.formats.base import close_on_error
from agora_analytics.export.schema import Column, Dataset
from agora_analytics.export.write.column_batch import ColumnBatch, RunLength, Values

_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "time": pa.timestamp("ms", tz="UTC"),
}
_SECONDS = pa.timestamp("s", tz="UTC")
"""What rows hold; Parquet and pandas know no such unit, and would each choose another."""

_REPEATED: Mapping[str, pa.DataType] = {
    "text": pa.dictionary(pa.int32(), pa.string()),
    "integer": pa.dictionary(pa.int32(), pa.int64()),
}


@lru_cache
def schema(dataset: Dataset) -> pa.Schema:
    """Return the types of a dataset's columns, with unit and meaning of each."""
    return pa.schema([_field(column) for column in dataset.columns], metadata={"row": dataset.row})


def table(batch: ColumnBatch) -> pa.Table:
    """Return rows as a table."""
    fields = schema(batch.dataset)
    return pa.Table.from_arrays([_array(*pair) for pair in zip(batch.columns, fields, strict=True)], schema=fields)


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables as one; no table makes one without columns."""
    return pa.concat_tables(tables).unify_dictionaries() if tables else pa.table({})


class Gathering:
    """Rows on their way to what takes many at a time: a group in a file, or a statement, costs however few it has."""

    _most = 2**20
    """Bytes that are gathered, in memory; as Parquet they are a tenth."""

    def __init__(self, take: Callable[[pa.Table], object]) -> None:
        self._take = take
        self._waiting: list[pa.Table] = []
        self._bytes = 0

    def add(self, batch: ColumnBatch) -> None:
        """Add rows."""
        self._waiting.append(table(batch))
        self._bytes += self._waiting[-1].nbytes
        if self._bytes >= self._most:
            self.flush()

    def flush(self) -> None:
        """Pass on what was gathered."""
        if self._waiting:
            self._take(together(self._waiting))
            self._waiting, self._bytes = [], 0
            # Arrow's allocator would keep much more than that in store.
            pa.default_memory_pool().release_unused()


class ParquetEncoder:
    """Writes Parquet with zstd."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        # Only who writes files needs it, and loading it holds all threads of a process that makes frames.
        import pyarrow.parquet as pq  # noqa: PLC0415 - as said

        self._file = path.open("wb")  # pyarrow takes no names that are not text
        with close_on_error(self._file):
            self._writer = pq.ParquetWriter(self._file, schema(dataset), compression="zstd")
        self._rows = Gathering(self._writer.write_table)

    def write(self, batch: ColumnBatch) -> None:
        """Add rows."""
        self._rows.add(batch)

    def close(self) -> None:
        """Write what is left, and close the file."""
        try:
            self._rows.flush()
            self._writer.close()
        finally:
            self._file.close()


def _field(column: Column) -> pa.Field:
    kind = _REPEATED.get(column.kind) if column.repeats else None
    told = {"unit": column.unit, "meaning": column.meaning}
    return pa.field(
        column.name, kind or _TYPES[column.kind], metadata={key: text for key, text in told.items() if text}
    )


def _array(values: Values, field: pa.Field) -> pa.Array:
    if pa.types.is_timestamp(field.type):
        return pa.array(list(values), _SECONDS).cast(field.type)
    if not pa.types.is_dictionary(field.type):
        return pa.array(list(values) if isinstance(values, RunLength) else values, field.type)
    if not isinstance(values, RunLength):
        return pa.array(values, field.type.value_type).dictionary_encode()
    known = {value: at for at, value in enumerate(dict.fromkeys(one for one in values.values if one is not None))}
    indices = pa.array(list(values.map(known.get)), pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(known), field.type.value_type))
