"""The rows of an export as sorted text, read by other code than that which wrote them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Rows = list[tuple[str | None, ...]]


def rows(folder: Path, dataset: str) -> Rows:
    """Return all rows of a dataset, sorted; each value as text, times in ISO 8601."""
    columns = manifest_of(folder)["columns"][dataset]
    found: list[dict[str, Any]] = []
    for path in data_files(folder, dataset):
        found += read_rows(path, dataset)
    return sorted((row_as_text(row, columns) for row in found), key=lambda row: [cell or "" for cell in row])


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def data_files(folder: Path, dataset: str) -> list[Path]:
    """Return the files of a dataset, in order; the database, if there is one."""
    databases = [folder / name for name in ("export.sqlite", "export.duckdb") if (folder / name).exists()]
    # A Delta log is read by the tests of that format.
    files = (path for path in (folder / dataset).rglob("*") if path.is_file() and path.parent.name != "_delta_log")
    return databases or sorted(files)


def read_rows(path: Path, dataset: str) -> Iterable[dict[str, Any]]:  # noqa: PLR0911 - one for each format
    match path.suffix:
        case ".jsonl":
            return map(json.loads, path.read_text().splitlines())
        case ".gz":
            return map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
        case ".zst":
            import zstandard

            with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as file:
                return list(map(json.loads, file))
        case ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file))
        case ".parquet":
            import pyarrow.parquet as pq

            return pq.ParquetFile(path).read().to_pylist()
        case ".sqlite":
            return read_sqlite(path, dataset)
        case ".duckdb":
            return read_duckdb(path, dataset)
    raise AssertionError(path)


def read_sqlite(path: Path, dataset: str) -> Iterator[dict[str, Any]]:
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    try:
        yield from map(dict, database.execute(f"SELECT * FROM {dataset}").fetchall())
    finally:
        database.close()


def read_duckdb(path: Path, dataset: str) -> list[dict[str, Any]]:
    import duckdb

    with duckdb.connect(str(path), read_only=True) as database:
        return database.sql(f"SELECT * FROM {dataset}").to_arrow_table().to_pylist()


def row_as_text(row: dict[str, Any], columns: list[dict[str, Any]]) -> tuple[str | None, ...]:
    return tuple(value_as_text(row[column["name"]], column["kind"]) for column in columns)


def value_as_text(value: Any, kind: str) -> str | None:
    if value is None or (value == "" and kind != "text"):
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if kind == "boolean":
        return {"true": "True", "false": "False", "1": "True", "0": "False"}.get(str(value).lower(), str(value))
    return repr(float(value)) if kind == "number" else str(value)


def check_manifest(folder: Path) -> None:
    """Assert that the manifest lists every file and no other, each with its size, checksum and number of rows."""
    parts = {part["path"]: part for part in manifest_of(folder)["parts"] if part["sha256"]}
    files = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json" and not {".agora-export", "_delta_log"} & set(path.parts)
    }
    files = {name: path for name, path in files.items() if not name.startswith("export.")}
    assert set(parts) == set(files)
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == parts[name]["sha256"]
        assert path.stat().st_size == parts[name]["bytes"]
        assert len(list(read_rows(path, parts[name]["dataset"]))) == parts[name]["rows"]
