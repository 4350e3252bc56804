"""The rows of an export, read without the library's code, and how they differ from the truth."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import attrs

Row = tuple[str, ...]

DATASETS: Final = ("calls", "sessions", "metrics")
DATABASES: Final = ("sqlite", "duckdb")


@attrs.frozen
class Found:
    """How many rows there should be, how many there are, and how many are doubled, lost, or strange."""

    true: int = 0
    found: int = 0
    doubled: int = 0
    lost: int = 0
    strange: int = 0

    def __bool__(self) -> bool:
        return not (self.doubled or self.lost or self.strange)


Truth = Mapping[str, Counter[Row]]


def read(folder: Path) -> Truth:
    """Return the rows of each dataset as text, with the number of times that each occurs."""
    if not (folder / "manifest.json").exists():
        return {}
    columns = manifest_of(folder)["columns"]
    return {name: Counter(_row(row, columns[name]) for row in _rows(folder, name)) for name in columns}


def compared(truth: Truth, found: Truth) -> Found:
    """Return how rows differ from the truth."""
    both = [(truth[name], found.get(name, Counter())) for name in truth]
    return Found(
        true=sum(want.total() for want, _ in both),
        found=sum(have.total() for _, have in both),
        doubled=sum((have - want).total() for want, have in both)
        - sum(len(have.keys() - want.keys()) for want, have in both),
        lost=sum((want - have).total() for want, have in both),
        strange=sum(len(have.keys() - want.keys()) for want, have in both),
    )


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return the manifest."""
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def files_of(folder: Path) -> list[Path]:
    """Return the files that hold rows."""
    found = [folder / f"export.{form}" for form in DATABASES]
    return [one for one in found if one.exists()] or sorted(
        path for name in DATASETS for path in (folder / name).rglob("*") if path.is_file()
    )


def unlike_manifest(folder: Path) -> list[str]:
    """Return the files that differ from the manifest in size or checksum, and those that are missing."""
    manifest = manifest_of(folder)
    listed = {one["path"]: (one["bytes"], one["sha256"]) for one in manifest["parts"] if one["sha256"]}
    if manifest["database"]:
        listed[f"export.{manifest['settings']['format']}"] = (
            manifest["database"]["bytes"],
            manifest["database"]["sha256"],
        )
    held = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files_of(folder)}
    seen = {name: (len(one), sha256(one).hexdigest()) for name, one in held.items()}
    return sorted(name for name in listed.keys() | seen.keys() if listed.get(name) != seen.get(name))


def _rows(folder: Path, dataset: str) -> Iterable[Mapping[str, Any]]:
    if (path := folder / "export.sqlite").exists():
        yield from _sqlite(path, dataset)
    elif (path := folder / "export.duckdb").exists():
        yield from _duck(path, dataset)
    else:
        for file in sorted((folder / dataset).rglob("*")):
            if file.is_file():
                yield from _READERS[file.suffix](file)


def _lines(path: Path) -> Iterable[Mapping[str, Any]]:
    return map(json.loads, path.read_text().splitlines())


def _csv(path: Path) -> Iterable[Mapping[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _parquet(path: Path) -> Iterable[Mapping[str, Any]]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra, and slow to load

    found: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return found


def _sqlite(path: Path, dataset: str) -> Iterable[Mapping[str, Any]]:
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    try:
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (dataset,)).fetchone():
            yield from map(dict, database.execute(f"SELECT * FROM {dataset}"))  # noqa: S608 - a dataset's own name
    finally:
        database.close()


def _duck(path: Path, dataset: str) -> Iterable[Mapping[str, Any]]:
    import duckdb  # noqa: PLC0415 - an extra, and slow to load

    with duckdb.connect(str(path), read_only=True) as database:
        if not database.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [dataset]).fetchall():
            return []
        found: list[dict[str, Any]] = database.sql(f"SELECT * FROM {dataset}").to_arrow_table().to_pylist()  # noqa: S608
    return found


_READERS: Final = {".jsonl": _lines, ".csv": _csv, ".parquet": _parquet}


def _row(row: Mapping[str, Any], columns: list[dict[str, Any]]) -> Row:
    return tuple(_text(row[column["name"]], column["kind"]) for column in columns)


def _text(value: Any, kind: str) -> str:
    """Return a value as text, the same for every format; CSV has no null, and escapes formulas."""
    if value is None or value == "":
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if kind == "boolean":
        return str(value).lower().replace("1", "true").replace("0", "false")
    if kind == "number":
        return repr(float(value))
    text = str(value)
    return text[1:] if kind == "text" and text[:1] == "'" and text[1:2] in tuple("=+-@\t\r") else text
