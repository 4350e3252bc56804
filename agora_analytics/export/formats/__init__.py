"""Formats of exports, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import attrs

from agora_analytics._core import validation
from agora_analytics._core.extras import MissingExtraError, install_command
from agora_analytics._core.files import not_linked
from agora_analytics.export.formats.base import FileWriter, FormatWriter
from agora_analytics.export.formats.csv import CsvWriter
from agora_analytics.export.formats.jsonl import JsonLinesWriter

__all__ = ["DATABASE_FORMATS", "FILE_FORMATS", "NAMES", "DatabaseFormat", "FileFormat", "check", "open_format"]


@attrs.frozen
class FileFormat:
    """A format of many files: one for each part. With `is_table`, a Delta log lists those of each dataset."""

    suffix: str
    _open: Callable[[Path, str], FileWriter]
    is_table: bool = False

    def open(self, scratch: Path) -> FileWriter:
        """Return a writer that puts its files into a scratch folder."""
        return self._open(scratch, self.suffix)


@attrs.frozen
class DatabaseFormat:
    """A format of one file that holds all datasets."""

    file: str
    open: Callable[[Path], FormatWriter]


def _parquet(scratch: Path, suffix: str) -> FileWriter:
    from agora_analytics.export.formats.parquet import ParquetWriter  # noqa: PLC0415 - an extra

    return ParquetWriter(scratch, suffix)


def _sqlite(path: Path) -> FormatWriter:
    from agora_analytics.export.formats.sqlite import SqliteWriter  # noqa: PLC0415 - only one format needs it

    return SqliteWriter(path)


def _duckdb(path: Path) -> FormatWriter:
    from agora_analytics.export.formats.duckdb import DuckdbWriter  # noqa: PLC0415 - an extra

    return DuckdbWriter(path)


FILE_FORMATS: Final[Mapping[str, FileFormat]] = {
    "jsonl": FileFormat(".jsonl", JsonLinesWriter),
    "jsonl.gz": FileFormat(".jsonl.gz", partial(JsonLinesWriter, compression="gzip")),
    "jsonl.zst": FileFormat(".jsonl.zst", partial(JsonLinesWriter, compression="zstd")),
    "csv": FileFormat(".csv", CsvWriter),
    "parquet": FileFormat(".parquet", _parquet),
    "delta": FileFormat(".parquet", _parquet, is_table=True),
}
"""Formats of many files, by name."""

DATABASE_FORMATS: Final[Mapping[str, DatabaseFormat]] = {
    "sqlite": DatabaseFormat("export.sqlite", _sqlite),
    "duckdb": DatabaseFormat("export.duckdb", _duckdb),
}
"""Formats of one file that holds all datasets, by name."""

NAMES: Final = (*FILE_FORMATS, *DATABASE_FORMATS)
"""Every format."""

_REQUIRED_LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "jsonl.zst": ("zstandard",),
    "parquet": ("pyarrow",),
    "delta": ("pyarrow",),
    "duckdb": ("duckdb", "pyarrow"),
}
_EXTRAS: Final[Mapping[str, str]] = {"jsonl.zst": "zstd", "parquet": "parquet", "delta": "parquet", "duckdb": "duckdb"}


def check(name: str) -> str:
    """Return `name`; raises `ValueError` if it is no format, or if a library that it needs is not installed."""
    name = validation.one_of("format", name, NAMES)
    # Found and not imported: that takes long, and only the writer process needs it.
    missing = [library for library in _REQUIRED_LIBRARIES.get(name, ()) if find_spec(library) is None]
    if missing:
        free = ", ".join(one for one in NAMES if one not in _REQUIRED_LIBRARIES)
        raise MissingExtraError(
            f"format={name!r} needs {', '.join(missing)}: {install_command(_EXTRAS[name])}; "
            f"without anything more there are {free}"
        )
    return name


def open_format(name: str, folder: Path, scratch: Path) -> FormatWriter:
    """Open the writer of a format: of a database in `folder`, or of files in `scratch`."""
    if name in FILE_FORMATS:
        return FILE_FORMATS[name].open(scratch)
    return DATABASE_FORMATS[name].open(not_linked(folder / DATABASE_FORMATS[name].file))
