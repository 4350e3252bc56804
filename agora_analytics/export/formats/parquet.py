"""Parquet with zstd: real timestamps, dictionaries where values recur; needs the extra `parquet`."""

from __future__ import annotations

from pathlib import Path

import attrs

from agora_analytics.export.formats.base import FileEncoder
from agora_analytics.export.schema import Dataset


@attrs.frozen
class Parquet:
    """Parquet."""

    @property
    def suffix(self) -> str:
        """How the names of its files end."""
        return ".parquet"

    def writer(self, path: Path, dataset: Dataset) -> FileEncoder:
        """Begin a file."""
        from agora_analytics.export.arrow import ParquetEncoder  # noqa: PLC0415 - an extra

        return ParquetEncoder(path, dataset)
