"""Formats of an export, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from agora_analytics._core import validation
from agora_analytics._core.files import not_linked
from agora_analytics.export.formats.base import Format, Writer
from agora_analytics.export.formats.csv import Csv
from agora_analytics.export.formats.jsonl import Lines
from agora_analytics.export.formats.parquet import Parquet
from agora_analytics.export.formats.part_files import FileTables
from agora_analytics.export.schema import Dataset
from agora_analytics.export.write.column_batch import Batch

__all__ = ["DATABASES", "FILES", "NAMES", "Database", "Format", "Tables", "Writer", "check", "opened"]


class Tables(Protocol):
    """What takes the rows of parts, one part after the other; they are there whole or not at all."""

    def ready(self) -> None:
        """See that rows can be written; a database may be waited for until others let go of it."""

    def begin(self, dataset: Dataset, part: int) -> None:
        """Begin to write a part anew; in a database its table too, where need be."""

    def add(self, batch: Batch) -> None:
        """Add rows to the part."""

    def end(self) -> None:
        """Make what was written since `begin` visible."""

    def undo(self) -> None:
        """Forget what was written since `begin`."""

    def held(self) -> list[tuple[str, int, int]]:
        """Return dataset, part and rows of all that a database holds; of files, nothing."""

    def copy(self, path: Path) -> None:
        """Copy a database as it is between two parts; files are by themselves."""

    def close(self) -> None:
        """Let go of it; a database has all of it in one file then."""

    def abort(self) -> None:
        """End a wait of another thread for who else has a database; it waits for nobody any more."""


@attrs.frozen
class Database:
    """A format of one file that holds all datasets."""

    file: str
    open: Callable[[Path], Tables]


def _sqlite(path: Path) -> Tables:
    from agora_analytics.export.formats.sqlite import SqliteTables  # noqa: PLC0415 - not all need SQLite's tables

    return SqliteTables(path)


def _duckdb(path: Path) -> Tables:
    from agora_analytics.export.formats.duckdb import DuckdbTables  # noqa: PLC0415 - an extra

    return DuckdbTables(path)


FILES: Final[Mapping[str, Format]] = {
    "jsonl": Lines(),
    "jsonl.gz": Lines("gzip"),
    "jsonl.zst": Lines("zstd"),
    "csv": Csv(),
    "parquet": Parquet(),
}
"""Formats of many files."""

DATABASES: Final[Mapping[str, Database]] = {
    "sqlite": Database("export.sqlite", _sqlite),
    "duckdb": Database("export.duckdb", _duckdb),
}
"""Formats of one file that holds all datasets."""

NAMES: Final = (*FILES, *DATABASES)
"""Every format."""

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "jsonl.zst": ("zstandard",),
    "parquet": ("pyarrow",),
    "duckdb": ("duckdb", "pyarrow"),
}
_EXTRAS: Final[Mapping[str, Any]] = {"jsonl.zst": "zstd", "parquet": "parquet", "duckdb": "duckdb"}


def check(name: str) -> str:
    """Return the name of a format; raises `ValueError` for another, or where what it needs is not installed."""
    name = validation.one_of("format", name, NAMES)
    missing = [library for library in _NEEDS.get(name, ()) if find_spec(library) is None]
    if missing:
        free = ", ".join(one for one in NAMES if one not in _NEEDS)
        raise ValueError(
            f'format={name!r} needs {", ".join(missing)}: pip install "agora-analytics[{_EXTRAS[name]}]"; '
            f"without anything more there are {free}"
        )
    return name


def opened(name: str, folder: Path, scratch: Path) -> Tables:
    """Open what takes rows in a format: a database in a folder, or files that are put down in another, out of sight."""
    if name in FILES:
        return FileTables(FILES[name], scratch)
    return DATABASES[name].open(not_linked(folder / DATABASES[name].file))
