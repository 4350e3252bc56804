"""`agora-analytics sql`: ready questions about an export, answered by DuckDB without any request."""

from __future__ import annotations

import asyncio
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora_analytics._core.extras import MissingExtraError, install_command
from agora_analytics.cli.formatting import format_number, format_percent
from agora_analytics.cli.options import ListOptions, command
from agora_analytics.cli.parsing import check_choice
from agora_analytics.cli.tables import Table

if TYPE_CHECKING:
    from agora_analytics.cli.output import Screen
    from agora_analytics.export.queries import QueryResult

_DEFAULT_LIMIT = 20


@command
async def sql(
    output: ListOptions,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A question; without it all of them are listed.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="The export; without it the SQL is printed.")
    ] = None,
) -> None:
    """Answer a question about an export: worst countries, who froze whom, trend by week and others.

    It sends no request. The SQL is for DuckDB; `views` as NAME prints the views that it reads, for tools of your own.

    Example: agora-analytics sql worst_networks
    """
    from agora_analytics.export.queries.questions import QUESTIONS  # noqa: PLC0415 - reads files, which help does not need

    screen = output.screen
    if name is None:
        rows = tuple((one.name, ", ".join(one.needs), one.text) for one in QUESTIONS.values())
        values = [{"name": one.name, "needs": one.needs, "question": one.text} for one in QUESTIONS.values()]
        screen.show(values, Table("questions", ("name", "datasets", "question"), rows))
        return
    check_choice("NAME", name, (*QUESTIONS, "views"))
    if folder is None:
        if name == "views":
            raise ValueError("FOLDER is missing: views are those of an export")
        _show_sql(screen, name, QUESTIONS[name].sql)
        return
    queries = require_queries()
    if name == "views":
        _show_sql(screen, name, await asyncio.to_thread(queries.views, folder))
        return
    # In a thread: a signal is handled meanwhile.
    limit = output.max_rows(_DEFAULT_LIMIT)
    _show_result(output.screen, await asyncio.to_thread(lambda: queries.run(name, folder, limit=limit)))


def _show_result(screen: Screen, result: QueryResult) -> None:
    rows = [dict(zip(result.columns, map(_plain, row), strict=True)) for row in result.rows]
    screen.show(rows, _table(result))
    if result.missing:
        screen.warn(f"the export has no {' and no '.join(result.missing)}: {result.question.text}")
    elif len(rows) < result.total:
        screen.note(f"the first {len(rows)} of {result.total} rows: see --limit")


def _show_sql(screen: Screen, name: str, text: str) -> None:
    if screen.json:
        screen.emit({"name": name, "sql": text})
    else:
        # As it is: wrapped to the width of a terminal, it could not be copied.
        typer.echo(text)


def require_queries() -> Any:
    """Return the module that runs queries; raises `ValueError` that names the extra if DuckDB is not installed."""
    try:
        return import_module("agora_analytics.export.queries.running")
    except ModuleNotFoundError:
        raise MissingExtraError(f"DuckDB is not installed: {install_command('duckdb')}") from None


def _table(result: QueryResult) -> Table:
    rows = result.rows
    numeric = [any(isinstance(row[at], int | float) for row in rows) for at in range(len(result.columns))]
    heads = tuple(f">{column}" if number else column for column, number in zip(result.columns, numeric, strict=True))
    cells = tuple(tuple(_cell(*pair) for pair in zip(result.columns, row, strict=True)) for row in rows)
    return Table(result.question.text, heads, cells, empty="none", optional=frozenset({"app_id"}))


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, bool | str):
        return str(value)
    return format_percent(value) if column.endswith("_rate") else format_number(value)


def _plain(value: Any) -> Any:
    return f"{value.isoformat()}Z" if isinstance(value, datetime) else value
