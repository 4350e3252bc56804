"""Converts column batches to Arrow tables, with the schema of their dataset. The only file that imports pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import IO, Any

import pyarrow as pa

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
"""The unit of times in a column batch; Parquet and pandas do not have it, so columns are cast to milliseconds."""
_MICROSECONDS = pa.timestamp("us", tz="UTC")

# Dictionaries keep each text once: in memory, in Parquet, and as a categorical in data frames.
_REPEATED: Mapping[str, pa.DataType] = {
    "text": pa.dictionary(pa.int32(), pa.string()),
    "integer": pa.dictionary(pa.int32(), pa.int64()),
}


@lru_cache
def schema(dataset: Dataset) -> pa.Schema:
    """Return the Arrow schema of a dataset, with unit and meaning in the metadata of each column."""
    return pa.schema([_field(column) for column in dataset.columns], metadata={"row": dataset.row})


def table(batch: ColumnBatch) -> pa.Table:
    """Return a column batch as an Arrow table."""
    fields = schema(batch.dataset)
    return pa.Table.from_arrays([_array(*pair) for pair in zip(batch.columns, fields, strict=True)], schema=fields)


def keyed_table(batch: ColumnBatch, key: Collection[str]) -> pa.Table:
    """Return a column batch as an Arrow table for databases: key columns are not nullable, times in microseconds.

    Warehouses have no other unit for times with a zone, and dlt warns about each column that it has to convert.
    """
    fields = [field.with_nullable(field.name not in key) for field in schema(batch.dataset)]
    fields = [
        field.with_type(_MICROSECONDS) if pa.types.is_timestamp(field.type) else field.remove_metadata()
        for field in fields
    ]
    return table(batch).cast(pa.schema(fields))


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate tables; without any, return a table without columns."""
    return pa.concat_tables(tables).unify_dictionaries() if tables else pa.table({})


class RowGroupBuffer:
    """Collects rows in memory until they make a row group: each group, or statement, costs the same for any size."""

    _max_bytes = 2**20
    """Bytes of Arrow memory; as Parquet they are a tenth."""

    def __init__(self, write: Callable[[pa.Table], object]) -> None:
        self._write = write
        self._tables: list[pa.Table] = []
        self._bytes = 0

    def append(self, batch: ColumnBatch) -> None:
        """Append rows, and write a row group once there are enough."""
        self._tables.append(table(batch))
        self._bytes += self._tables[-1].nbytes
        if self._bytes >= self._max_bytes:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are left."""
        if self._tables:
            self._write(concat(self._tables))
            self._tables, self._bytes = [], 0
            # Arrow's allocator would keep much more memory than that.
            pa.default_memory_pool().release_unused()


def parquet_writer(file: IO[bytes], dataset: Dataset) -> Any:
    """Return pyarrow's Parquet writer for a file of a dataset."""
    # Loading it blocks all threads, and data frames do not need it.
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    return pq.ParquetWriter(file, schema(dataset), compression="zstd")


def _field(column: Column) -> pa.Field:
    kind = _REPEATED.get(column.kind) if column.repeats else None
    metadata = {"unit": column.unit, "meaning": column.meaning}
    return pa.field(
        column.name, kind or _TYPES[column.kind], metadata={key: text for key, text in metadata.items() if text}
    )


def _array(values: Values, field: pa.Field) -> pa.Array:
    if pa.types.is_timestamp(field.type):
        return pa.array(list(values), _SECONDS).cast(field.type)
    if not pa.types.is_dictionary(field.type):
        return pa.array(list(values) if isinstance(values, RunLength) else values, field.type)
    if not isinstance(values, RunLength):
        return pa.array(values, field.type.value_type).dictionary_encode()
    # Encoded from the runs: `dictionary_encode` would need a text for each of 100,000 rows first.
    distinct = dict.fromkeys(value for value in values.values if value is not None)
    index = {value: position for position, value in enumerate(distinct)}
    indices = pa.array(list(values.map(index.get)), pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(index), field.type.value_type))
