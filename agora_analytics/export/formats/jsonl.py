"""JSON Lines: an object a row, plain or compressed; times in ISO 8601."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, Any, cast

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.export.formats.base import closed_if_it_fails, utc
from agora_analytics.export.schema import Dataset
from agora_analytics.export.write.column_batch import Batch

_LEVEL = 1
"""gzip's fastest: rows repeat so much that more effort hardly shows."""


@attrs.frozen
class Lines:
    """JSON Lines, `gzip` or `zstd` where told."""

    compression: str | None = None

    @property
    def suffix(self) -> str:
        """How the names of its files end."""
        return ".jsonl" + {None: "", "gzip": ".gz", "zstd": ".zst"}[self.compression]

    def writer(self, path: Path, dataset: Dataset) -> LinesWriter:
        """Begin a file."""
        file = path.open("wb")
        with closed_if_it_fails(file), closed_if_it_fails(packed := self._packed(file)):
            return LinesWriter(packed, file, dataset)

    def _packed(self, file: IO[bytes]) -> IO[bytes]:
        if self.compression == "gzip":
            # No time and no name in it: the same rows make the same file.
            return cast("IO[bytes]", gzip.GzipFile("", "wb", _LEVEL, file, mtime=0))
        if self.compression == "zstd":
            from agora_analytics.export.formats import zstd  # noqa: PLC0415 - an extra

            return zstd.packed(file)
        return file


class LinesWriter:
    """Writes JSON Lines."""

    def __init__(self, packed: IO[bytes], file: IO[bytes], dataset: Dataset) -> None:
        self._packed = packed
        self._file = file
        self._row = json.row_struct(dataset.name, dataset.names)
        self._times = [at for at, column in enumerate(dataset.columns) if column.kind == "time"]

    def write(self, batch: Batch) -> None:
        """Add rows."""
        columns: list[Any] = list(batch.columns)
        for at in self._times:
            columns[at] = map(utc, columns[at])
        self._packed.write(json.encode_lines(map(self._row, *columns)))

    def close(self) -> None:
        """Write what is left, and close the file, even if the disk is full."""
        try:
            self._packed.close()
        finally:
            self._file.close()
