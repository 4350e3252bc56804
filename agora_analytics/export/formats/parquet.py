"""Parquet with zstd: real timestamps, dictionaries where values recur; needs the extra `parquet`."""

from __future__ import annotations

from pathlib import Path

from agora_analytics.export import arrow
from agora_analytics.export.formats.base import FileWriter, close_on_error
from agora_analytics.export.schema import Dataset
from agora_analytics.export.write.column_batch import ColumnBatch


class ParquetWriter(FileWriter):
    """Writes Parquet."""

    def _open_file(self, path: Path, dataset: Dataset) -> None:
        file = path.open("wb")  # pyarrow takes no file names that are not text
        with close_on_error(file):
            self._parquet = arrow.parquet_writer(file, dataset)
        self._file = file
        self._buffer = arrow.RowGroupBuffer(self._parquet.write_table)

    def _write(self, batch: ColumnBatch) -> None:
        self._buffer.append(batch)

    def _close_file(self) -> None:
        try:
            self._buffer.flush()
            self._parquet.close()
        finally:
            self._file.close()
