"""Runs SQL over an export with DuckDB: a view for each dataset, whatever the format of the files.

Times are UTC, as DuckDB's TIMESTAMP without a zone: that type needs no time zone database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import duckdb

from agora_analytics._core import validation
from agora_analytics.errors import ExportError
from agora_analytics.export.formats import DATABASE_FORMATS, FILE_FORMATS
from agora_analytics.export.queries.questions import QUESTIONS, Question, derived_views
from agora_analytics.export.schema import DATASETS, Column, Dataset
from agora_analytics.export.selection import SHARD_NAMES
from agora_analytics.spans import Span, iso

__all__ = ["QueryResult", "connect", "run", "views"]

_TYPES: Final = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "time": "TIMESTAMPTZ",
}
_TIMES: Final = {"calls": "created_ts", "sessions": "join_ts", "statistics": "start_ts"}
"""The time by which a span selects rows; in the other datasets it is `ts`."""

_COUNTED_AT_ONCE: Final = 10_000

_ESCAPED: Final = "^'[-=+@\\t\\r]"
"""Text of a CSV file with the apostrophe that protects spreadsheets from formulas."""


@attrs.frozen(kw_only=True)
class QueryResult:
    """The answer to a question.

    Attributes:
        question: the question.
        columns: names of the columns. A name that ends in `_rate` is a fraction; others say their unit.
        rows: the rows in the order of the question: worst, most or oldest first. Times are UTC, without a zone.
        total: how many rows there are without a limit.
        missing: datasets that the question needs and the export does not have; without them there are no rows.

    """

    question: Question
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    total: int
    missing: tuple[str, ...] = ()


def run(name: str, folder: str | Path, *, span: Span | None = None, limit: int | None = None) -> QueryResult:
    """Return the answer to a question of `QUESTIONS` about the export in a folder.

    It reads files and sends no request. It blocks: in an asyncio program call it with `asyncio.to_thread`.

    Args:
        name: the name of the question.
        folder: where `client.export.run` or `merge` wrote Parquet, CSV, JSON Lines or a DuckDB database.
        span: only rows whose time (of a call its start, of a session when it joined) is in it; by default all.
        limit: the most rows to return; `total` counts all.

    Raises:
        ValueError, TypeError: for an unknown name, or a folder without an export that DuckDB can read.
        ExportError: files are damaged, or are being written by a run.

    """
    question = QUESTIONS[validation.one_of("name", name, tuple(QUESTIONS))]
    limit = validation.none_or(validation.int_in_range, "limit", limit, 1)
    with reading(folder, span=span) as database:
        return answer(database, question, limit)


def answer(database: duckdb.DuckDBPyConnection, question: Question, limit: int | None = None) -> QueryResult:
    """Return the answer to a question on a connection with the views."""
    found = database.execute(question.sql)
    columns = tuple(str(column[0]) for column in found.description or ())
    rows = tuple(map(tuple, found.fetchall() if limit is None else found.fetchmany(limit)))
    # Counted in pieces: an answer may have a row for each of a million channels.
    total = len(rows) + sum(map(len, iter(lambda: found.fetchmany(_COUNTED_AT_ONCE), [])))
    missing = () if total else tuple(name for name in question.needs if not _has_rows(database, name))
    return QueryResult(question=question, columns=columns, rows=rows, total=total, missing=missing)


def connect(folder: str | Path, *, span: Span | None = None) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection in memory with a view for each dataset of an export, for SQL of your own.

    A dataset that was not exported is a view without rows. `span` and the errors are those of `run`.
    """
    place = validation.path("folder", folder)
    span = validation.none_or(validation.instance, "span", span, Span)
    database = duckdb.connect(":memory:", config={"threads": "2"})
    try:
        with _errors_of(place):
            for statement in _statements(database, Path(place), span):
                database.execute(statement)
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def reading(folder: str | Path, *, span: Span | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield the connection of `connect`; what DuckDB cannot read inside is an `ExportError` too."""
    with connect(folder, span=span) as database, _errors_of(folder):
        yield database


@contextmanager
def _errors_of(folder: str | Path) -> Iterator[None]:
    """Raise `ExportError` for an error of DuckDB, which has classes of its own."""
    try:
        yield
    except duckdb.Error as error:
        is_locked = "could not set lock" in str(error).lower()
        # Of several lines the first says what is wrong; the others repeat the SQL.
        raise ExportError(
            f"the export in {str(folder)!r} cannot be read: {str(error).splitlines()[0]}",
            hint="If a run writes it, wait until that has ended. Otherwise a file is damaged or gone: put it back.",
            kind="running" if is_locked else "disk" if isinstance(error, duckdb.IOException) else "state",
        ) from None


def narrow_to_call(database: duckdb.DuckDBPyConnection, call_id: str) -> list[str | None]:
    """Narrow the views of a connection to the rows of one call, so that questions are answered about it.

    Return the App IDs that have such a call; the rows are those of the first one.
    """
    found = database.execute(
        "SELECT DISTINCT app_id FROM (SELECT app_id, call_id FROM calls UNION ALL SELECT app_id, call_id FROM sessions)"
        " WHERE call_id = ? ORDER BY 1 NULLS LAST",
        (call_id,),
    ).fetchall()
    apps = [app for (app,) in found]
    of_call = "call_id = ? AND app_id IS NOT DISTINCT FROM ?"
    for name in ("calls", "sessions", "metrics", "statistics"):
        # A view over itself would be a circle, and a table is read once for all questions.
        database.execute(
            f"CREATE TABLE call_{name} AS SELECT * FROM {name} WHERE {of_call}",  # noqa: S608 - our own names
            (call_id, apps[0] if apps else None),
        )
        database.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM call_{name}")  # noqa: S608 - a dataset's
    return apps


def data_files(folder: Path) -> set[str]:
    """Return the files of an export from which the views read rows, relative to its folder."""
    suffixes = tuple(form.suffix for form in FILE_FORMATS.values())
    patterns = [pattern for name in DATASETS for pattern in _places(f"{name}/app=*/day=*/*")]
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.name.endswith(suffixes)}
    databases = {path for pattern in _places(DATABASE_FORMATS["duckdb"].file) for path in folder.glob(pattern)}
    return {path.relative_to(folder).as_posix() for path in found | databases}


def views(folder: str | Path) -> str:
    """Return the SQL that makes these views, for the DuckDB shell and other tools; see `run` for the errors."""
    place = validation.path("folder", folder)
    with duckdb.connect(":memory:") as database, _errors_of(place):
        statements = list(_statements(database, Path(place).absolute(), None))
    return "".join(f"{statement};\n" for statement in statements)


def _statements(database: duckdb.DuckDBPyConnection, folder: Path, span: Span | None) -> Iterator[str]:
    """Yield the statements that make the views; attaches databases to the connection to see their tables."""
    databases = [path for pattern in _places(DATABASE_FORMATS["duckdb"].file) for path in sorted(folder.glob(pattern))]
    names = [f"export_{number}" for number in range(len(databases))]
    for name, path in zip(names, databases, strict=True):
        attach = f"ATTACH IF NOT EXISTS {_quoted(str(path))} AS {name} (READ_ONLY)"
        database.execute(attach)
        yield attach
    tables = set(database.execute("SELECT database_name, table_name FROM duckdb_tables()").fetchall())
    sources = {
        name: [f"{home}.{name}" for home in names if (home, name) in tables] + list(_readers(folder, dataset))
        for name, dataset in DATASETS.items()
    }
    if (folder / DATABASE_FORMATS["sqlite"].file).is_file():
        raise ValueError(f"folder={str(folder)!r} holds SQLite: export as parquet, csv, jsonl or duckdb for queries")
    if not any(sources.values()) and not databases and not (folder / "manifest.json").is_file():
        if not folder.is_dir():
            raise ValueError(f"folder={str(folder)!r} is not a folder")
        raise ValueError(f"folder={str(folder)!r} holds no export that DuckDB reads")
    for name, dataset in DATASETS.items():
        yield _view(dataset, sources[name], span)
    yield from (part for part in derived_views().split(";\n") if part.strip())


def _places(name: str) -> tuple[str, str]:
    """Return the patterns of a name in an export, and in the shards of one; exports side by side are none."""
    return name, f"{SHARD_NAMES}/{name}"


def _readers(folder: Path, dataset: Dataset) -> Iterator[str]:
    """Yield a table function of DuckDB for each format and depth at which there are files."""
    columns = ", ".join(f"{_quoted(column.name)}: '{_TYPES[column.kind]}'" for column in dataset.columns)
    # The files of a Delta table are those of Parquet, and would be read twice.
    for name, form in ((name, form) for name, form in FILE_FORMATS.items() if not form.is_table):
        for pattern in _places(f"{dataset.name}/app=*/day=*/*{form.suffix}"):
            if next(folder.glob(pattern), None) is None:
                continue
            files = _quoted(f"{_literal(folder.as_posix())}/{pattern}")
            if name == "parquet":
                yield f"read_parquet({files}, hive_partitioning = false)"
            elif name == "csv":
                yield (
                    f"read_csv({files}, header = true, columns = {{{columns}}}, auto_detect = false, delim = ',',"
                    " quote = '\"', escape = '\"', new_line = '\\r\\n', nullstr = '', hive_partitioning = false)"
                )
            else:
                yield (
                    f"read_json({files}, format = 'newline_delimited', columns = {{{columns}}},"
                    " hive_partitioning = false)"
                )


def _view(dataset: Dataset, sources: list[str], span: Span | None) -> str:
    selects = []
    for source in sources:
        values = ", ".join(_value(column, csv=source.startswith("read_csv")) for column in dataset.columns)
        selects.append(f"SELECT {values} FROM {source}")  # noqa: S608 - names of our own, and paths that are quoted
    # A view without rows still has its columns, so that a question about it is answered with none.
    empty = ", ".join(f"NULL::{_shown_type(column)} AS {column.name}" for column in dataset.columns)
    rows = " UNION ALL ".join(selects) or f"SELECT {empty} WHERE false"
    time = _TIMES.get(dataset.name, "ts")
    if span is not None:
        first, last = (f"TIMESTAMP {_quoted(str(iso(second)).rstrip('Z'))}" for second in span)
        rows = f"SELECT * FROM ({rows}) WHERE {time} >= {first} AND {time} < {last}"  # noqa: S608 - our own names
    return f"CREATE OR REPLACE VIEW {dataset.name} AS {rows}"


def _value(column: Column, *, csv: bool) -> str:
    name = column.name
    if column.kind == "time":
        return f"make_timestamp(epoch_us({name})) AS {name}"
    if csv and column.kind == "text":
        return f"CASE WHEN regexp_matches({name}, {_quoted(_ESCAPED)}) THEN substr({name}, 2) ELSE {name} END AS {name}"
    return f"{name}::{_TYPES[column.kind]} AS {name}"


def _shown_type(column: Column) -> str:
    return "TIMESTAMP" if column.kind == "time" else _TYPES[column.kind]


def _has_rows(database: duckdb.DuckDBPyConnection, name: str) -> bool:
    return database.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() is not None  # noqa: S608 - a dataset's name


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _literal(path: str) -> str:
    """Return a path in which DuckDB takes no character for a pattern."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)
