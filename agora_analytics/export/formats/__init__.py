"""Formats of an export, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from agora_analytics._core import validation
from agora_analytics._core.files import not_linked
from agora_analytics.export.formats.base import FileEncoder, FileFormat
from agora_analytics.export.formats.csv import Csv
from agora_analytics.export.formats.jsonl import JsonLines
from agora_analytics.export.formats.parquet import Parquet
from agora_analytics.export.formats.part_files import FileTables
from agora_analytics.export.schema import Dataset
from agora_analytics.export.write.column_batch import ColumnBatch

__all__ = [
    "DATABASE_FORMATS",
    "FILE_FORMATS",
    "NAMES",
    "DatabaseFormat",
    "FileEncoder",
    "FileFormat",
    "TableWriter",
    "check",
    "open_tables",
]


class TableWriter(Protocol):
    """What takes the rows of parts, one part after the other; they are there whole or not at all."""

    def ready(self) -> None:
        """See that rows can be written; a database may be waited for until others let go of it."""

    def begin(self, dataset: Dataset, part: int) -> None:
        """Begin to write a part anew; in a database its table too, where need be."""

    def add(self, batch: ColumnBatch) -> None:
        """Add rows to the part."""

    def end(self) -> None:
        """Make what was written since `begin` visible."""

    def undo(self) -> None:
        """Forget what was written since `begin`."""

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part and rows of all that a database holds; of files, nothing."""

    def copy(self, path: Path) -> None:
        """Copy a database as it is between two parts; files are by themselves."""

    def close(self) -> None:
        """Let go of it; a database has all of it in one file then."""

    def abort(self) -> None:
        """End a wait of another thread for who else has a database; it waits for nobody any more."""


@attrs.frozen
class DatabaseFormat:
    """A format of one file that holds all datasets."""

    file: str
    open: Callable[[Path], TableWriter]


def _sqlite(path: Path) -> TableWriter:
    from agora_analytics.export.formats.sqlite import SqliteTables  # noqa: PLC0415 - not all need SQLite's tables

    return SqliteTables(path)


def _duckdb(path: Path) -> TableWriter:
    from agora_analytics.export.formats.duckdb import DuckdbTables  # noqa: PLC0415 - an extra

    return DuckdbTables(path)


FILE_FORMATS: Final[Mapping[str, FileFormat]] = {
    "jsonl": JsonLines(),
    "jsonl.gz": JsonLines("gzip"),
    "jsonl.zst": JsonLines("zstd"),
    "csv": Csv(),
    "parquet": Parquet(),
}
"""Formats of many files."""

DATABASE_FORMATS: Final[Mapping[str, DatabaseFormat]] = {
    "sqlite": DatabaseFormat("export.sqlite", _sqlite),
    "duckdb": DatabaseFormat("export.duckdb", _duckdb),
}
"""Formats of one file that holds all datasets."""

NAMES: Final = (*FILE_FORMATS, *DATABASE_FORMATS)
"""Every format."""

_REQUIRED_LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "jsonl.zst": ("zstandard",),
    "parquet": ("pyarrow",),
    "duckdb": ("duckdb", "pyarrow"),
}
_EXTRAS: Final[Mapping[str, Any]] = {"jsonl.zst": "zstd", "parquet": "parquet", "duckdb": "duckdb"}


def check(name: str) -> str:
    """Return the name of a format; raises `ValueError` for another, or where what it needs is not installed."""
    name = validation.choice("format", name, NAMES)
    missing = [library for library in _REQUIRED_LIBRARIES.get(name, ()) if find_spec(library) is None]
    if missing:
        free = ", ".join(one for one in NAMES if one not in _REQUIRED_LIBRARIES)
        raise ValueError(
            f'format={name!r} needs {", ".join(missing)}: pip install "agora-analytics[{_EXTRAS[name]}]"; '
            f"without anything more there are {free}"
        )
    return name


def open_tables(name: str, folder: Path, scratch: Path) -> TableWriter:
    """Open what takes rows in a format: a database in a folder, or files that are put down in another, out of sight."""
    if name in FILE_FORMATS:
        return FileTables(FILE_FORMATS[name], scratch)
    return DATABASE_FORMATS[name].open(not_linked(folder / DATABASE_FORMATS[name].file))
