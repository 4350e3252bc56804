"""How a script written in an afternoon writes rows: with the obvious library for each format."""

from __future__ import annotations

import csv
import gzip
import json
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
Write = Callable[[Rows], object]
Output = tuple[Write, Callable[[], object]]
"""Functions that write rows, and close the file."""

_TEXT, _WHOLE, _REAL, _FLAG = "TEXT", "INTEGER", "REAL", "BOOLEAN"
_COLUMNS = {
    "calls": {
        **dict.fromkeys(("call_id", "cname"), _TEXT),
        **dict.fromkeys(("created_ts", "destroyed_ts"), _WHOLE),
        "finished": _FLAG,
        "call_pcu": _WHOLE,
        **dict.fromkeys(("call_acu", "call_audio_freeze_rate", "call_video_freeze_rate"), _REAL),
    },
    "sessions": {
        **dict.fromkeys(("call_id", "sid", "cname"), _TEXT),
        "uid": _WHOLE,
        **dict.fromkeys(("account", "network", "platform"), _TEXT),
        "speaker": _FLAG,
        **dict.fromkeys(("roles", "sdk_version", "device_type"), _TEXT),
        **dict.fromkeys(("join_ts", "leave_ts"), _WHOLE),
        "finished": _FLAG,
        **dict.fromkeys(("user_audio_freeze_rate", "user_video_freeze_rate"), _REAL),
    },
    "metrics": {
        **dict.fromkeys(("call_id", "sid"), _TEXT),
        **dict.fromkeys(("mid", "peer_uid", "ts"), _WHOLE),
        "value": _REAL,
    },
}
_AT_ONCE = 50_000
"""Rows that are buffered for a columnar format."""


def opened(form: str, folder: Path, name: str) -> Output:
    """Begin a dataset's file."""
    return _OPEN[form](folder / f"{name}.{form}", name)


def _lines(open_file: Callable[[Path], Any]) -> Callable[[Path, str], Output]:
    def begin(path: Path, _: str) -> Output:
        file = open_file(path)

        def write(rows: Rows) -> None:
            for row in rows:
                file.write(json.dumps(row) + "\n")

        return write, file.close

    return begin


def _zstd(path: Path) -> Any:
    import zstandard  # noqa: PLC0415 - only this format needs it

    return zstandard.open(path, "wt")


def _csv(path: Path, name: str) -> Output:
    file = path.open("w", newline="")
    writer = csv.DictWriter(file, tuple(_COLUMNS[name]), extrasaction="ignore")
    writer.writeheader()
    return lambda rows: writer.writerows(map(_flat, rows)), file.close


def _parquet(path: Path, name: str) -> Output:
    import pyarrow.parquet as pq  # noqa: PLC0415

    writer = pq.ParquetWriter(path, _schema(name), compression="zstd")
    write, end = _gathered(name, writer.write_table)
    return write, lambda: (end(), writer.close())


def _sqlite(path: Path, name: str) -> Output:
    columns = _COLUMNS[name]
    database = sqlite3.connect(path)
    database.execute(f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
    insert = f"INSERT INTO {name} VALUES ({', '.join(f':{column}' for column in columns)})"  # noqa: S608 - our own
    blank = dict.fromkeys(columns)
    return (
        lambda rows: database.executemany(insert, [blank | _flat(row) for row in rows]),
        lambda: (database.commit(), database.close()),
    )


def _duckdb(path: Path, name: str) -> Output:
    import duckdb  # noqa: PLC0415

    database = duckdb.connect(str(path))
    columns = ", ".join(f"{column} {kind}" for column, kind in _COLUMNS[name].items())
    database.execute(f"CREATE TABLE {name} ({columns.replace('INTEGER', 'BIGINT')})")

    def take(table: Any) -> None:
        database.register("rows", table)
        database.execute(f"INSERT INTO {name} SELECT * FROM rows")  # noqa: S608 - our own

    write, end = _gathered(name, take)
    return write, lambda: (end(), database.close())


def _gathered(name: str, take: Callable[[Any], object]) -> Output:
    """Buffer rows, and pass them on as tables."""
    import pyarrow as pa  # noqa: PLC0415

    waiting: Rows = []

    def end() -> None:
        take(pa.Table.from_pylist(waiting, _schema(name)))
        waiting.clear()

    def write(rows: Rows) -> None:
        waiting.extend(map(_flat, rows))
        if len(waiting) >= _AT_ONCE:
            end()

    return write, end


def _schema(name: str) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    kinds = {_TEXT: pa.string(), _WHOLE: pa.int64(), _REAL: pa.float64(), _FLAG: pa.bool_()}
    return pa.schema([(column, kinds[kind]) for column, kind in _COLUMNS[name].items()])


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Write a list as text, for formats whose rows are flat."""
    return {**row, "roles": ",".join(row["roles"])} if "roles" in row else row


_OPEN: dict[str, Callable[[Path, str], Output]] = {
    "jsonl": _lines(partial(Path.open, mode="w")),
    "jsonl.gz": _lines(partial(gzip.open, mode="wt", compresslevel=1)),
    "jsonl.zst": _lines(_zstd),
    "csv": _csv,
    "parquet": _parquet,
    "sqlite": _sqlite,
    "duckdb": _duckdb,
}
