"""Answers to questions about an export as sections: a table with units, bars for rates, and what is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from agora_analytics.export.queries import QueryResult
from agora_analytics.ops.report.charts import bar
from agora_analytics.ops.report.markup import Html, figure, is_finite, joined, listed, section, table, tag, text

MAX_ROWS: Final = 15
"""Rows of an answer that a report shows: the worst ones."""

HIDDEN: Final = frozenset({"app_id", "impact_users"})
"""Columns that a section leaves out; of several App IDs it shows which."""
_UNITS: Final = {"_rate": "fraction", "day_utc": "day", "minutes": "min", "_s": "s"}
"""Units by the end of a column's name."""

_WORDS: Final = {
    "sdk_version": "SDK version",
    "day_utc": "day (UTC)",
    "started_utc": "started (UTC)",
    "impact_users": "impact (users)",
    "app_id": "App ID",
}


def unit_of(column: str) -> str:
    """Return the unit of a column of an answer; empty for counts and texts."""
    return next((unit for end, unit in _UNITS.items() if column.endswith(end)), "")


def answer_section(title: str, answer: QueryResult, source: str, *, hidden: Collection[str] = HIDDEN) -> Html:
    """Return the section of an answer, without the `hidden` columns."""
    source = f"{source}, question {answer.question.name}"
    if not answer.total:
        return section(title, source, tag("p", text("No rows: nothing of the kind was found."), class_="none"))
    more_rows = answer.total - MAX_ROWS
    more = [tag("p", text(f"The first {MAX_ROWS} of {answer.total} rows."), class_="none")] if more_rows > 0 else []
    return section(title, source, _table(title, answer, hidden), *more)


def unanswered_section(answers: Mapping[str, QueryResult], titles: Mapping[str, str], source: str) -> Html:
    """Return the section that names the questions without an answer, and the datasets that would give one."""
    missing = {name: answers[name].missing for name in titles if answers[name].missing}
    if not missing:
        return joined(())
    lines = (text(f"{titles[name]}: needs {' and '.join(needs)}") for name, needs in missing.items())
    return section("Not in this report", source, tag("p", text("These datasets have no rows:")), listed(lines))


def _table(title: str, answer: QueryResult, hidden: Collection[str]) -> Html:
    at = [index for index, column in enumerate(answer.columns) if column not in hidden]
    rows = [[row[index] for index in at] for row in answer.rows[:MAX_ROWS]]
    columns = [answer.columns[index] for index in at]
    tops = [_highest(column, [row[index] for row in rows]) for index, column in enumerate(columns)]
    return table(
        title,
        [text(_heading(column)) for column in columns],
        ([_cell(*cell) for cell in zip(columns, row, tops, strict=True)] for row in rows),
        numbers=[all(isinstance(row[index], int | float | None) for row in rows) for index in range(len(columns))],
    )


def _heading(column: str) -> str:
    unit = unit_of(column)
    words = _WORDS.get(column) or column.removesuffix("_s").replace("_", " ")
    return f"{words} ({unit})" if unit and unit != "fraction" and unit not in words else words


def _cell(column: str, value: Any, highest: float) -> Html:
    unit = unit_of(column)
    shown = figure(value, unit)
    return joined([shown, bar(value, highest)]) if unit == "fraction" else shown


def _highest(column: str, values: list[Any]) -> float:
    return (
        max((value or 0.0 for value in values if is_finite(value)), default=0.0)
        if unit_of(column) == "fraction"
        else 0.0
    )
