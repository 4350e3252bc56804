"""JSON Lines: one object per row, plain or compressed with gzip or zstd; times in ISO 8601."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, Any, Final, Literal, cast

from agora_analytics._core.decoding import json
from agora_analytics.export.formats.base import FileWriter, close_on_error, utc
from agora_analytics.export.schema import Dataset
from agora_analytics.export.write.column_batch import ColumnBatch

_LEVEL: Final = 1
"""gzip's fastest level: rows repeat so much that a higher one saves little."""


class JsonLinesWriter(FileWriter):
    """Writes JSON Lines."""

    def __init__(self, scratch: Path, suffix: str, compression: Literal["gzip", "zstd"] | None = None) -> None:
        super().__init__(scratch, suffix)
        self._compression = compression

    def _open_file(self, path: Path, dataset: Dataset) -> None:
        file = path.open("wb")
        with close_on_error(file), close_on_error(stream := self._compressed(file)):
            self._row = json.row_struct(dataset.name, dataset.names)
            self._times = [at for at, column in enumerate(dataset.columns) if column.kind == "time"]
        self._file, self._stream = file, stream

    def _compressed(self, file: IO[bytes]) -> IO[bytes]:
        if self._compression == "gzip":
            # Without time and name, the same rows make the same file.
            return cast("IO[bytes]", gzip.GzipFile("", "wb", _LEVEL, file, mtime=0))
        if self._compression == "zstd":
            from agora_analytics.export.formats import zstd  # noqa: PLC0415 - an extra

            return zstd.compressed(file)
        return file

    def _write(self, batch: ColumnBatch) -> None:
        columns: list[Any] = list(batch.columns)
        for at in self._times:
            columns[at] = map(utc, columns[at])
        self._stream.write(json.encode_lines(map(self._row, *columns)))

    def _close_file(self) -> None:
        try:
            self._stream.close()  # flushes, which a full disk refuses
        finally:
            self._file.close()
