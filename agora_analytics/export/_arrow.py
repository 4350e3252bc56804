"""Rows as Arrow: the only file that imports pyarrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from agora_analytics.export._batches import Batch, Runs, Values
from agora_analytics.export._columns import Column, Dataset

_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "time": pa.timestamp("s", tz="UTC"),
}
_REPEATED: Mapping[str, pa.DataType] = {
    "text": pa.dictionary(pa.int32(), pa.string()),
    "integer": pa.dictionary(pa.int32(), pa.int64()),
}


def schema(dataset: Dataset) -> pa.Schema:
    """Return the types of a dataset's columns, with unit and meaning of each."""
    return pa.schema([_field(column) for column in dataset.columns], metadata={"row": dataset.row})


def table(batch: Batch) -> pa.Table:
    """Return rows as a table."""
    fields = schema(batch.dataset)
    return pa.Table.from_arrays([_array(*pair) for pair in zip(batch.columns, fields, strict=True)], schema=fields)


def release() -> None:
    """Give back what Arrow's allocator holds in store: it would keep much more than a group of rows needs."""
    pa.default_memory_pool().release_unused()


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables as one; no table makes one without columns."""
    return pa.concat_tables(tables).unify_dictionaries() if tables else pa.table({})


class ParquetWriter:
    """Writes Parquet with zstd, in groups of rows: as many as are held in memory meanwhile."""

    _group = 2 * 2**20
    """Bytes of a group while it is in memory; on disk it is a tenth."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        self._writer = pq.ParquetWriter(path, schema(dataset), compression="zstd")
        self._waiting: list[pa.Table] = []
        self._bytes = 0

    def write(self, batch: Batch) -> None:
        """Add rows."""
        self._waiting.append(table(batch))
        self._bytes += self._waiting[-1].nbytes
        if self._bytes >= self._group:
            self._flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).unify_dictionaries())
            self._waiting, self._bytes = [], 0
            release()


def _field(column: Column) -> pa.Field:
    kind = _REPEATED.get(column.kind) if column.repeats else None
    told = {"unit": column.unit, "meaning": column.meaning}
    return pa.field(
        column.name, kind or _TYPES[column.kind], metadata={key: text for key, text in told.items() if text}
    )


def _array(values: Values, field: pa.Field) -> pa.Array:
    if not pa.types.is_dictionary(field.type):
        return pa.array(list(values) if isinstance(values, Runs) else values, field.type)
    if not isinstance(values, Runs):
        return pa.array(values, field.type.value_type).dictionary_encode()
    known = {value: at for at, value in enumerate(dict.fromkeys(one for one in values.values if one is not None))}
    indices = pa.array(list(values.map(known.get)), pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(known), field.type.value_type))
