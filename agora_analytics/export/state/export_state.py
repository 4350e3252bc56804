"""The state of an export: what is done, what is pending, and the rows that are staged. One SQLite file.

Crash recovery: a rerun keeps what is in this file. Each answer is one transaction: its rows, and the mark that it need
not be fetched again. So a process that is killed at any point loses no more than the requests that were in flight.
Which rows are in files already is decided in `staging.py`; if this file itself is lost, in `rebuild.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from agora_analytics.export.fetch.call_cursor import restored
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.state.calls import CallStatus, CallTables
from agora_analytics.export.state.slices import SpanStatus
from agora_analytics.export.state.sqlite_store import DamagedError

_OUT_OF_RANGE: Final = (
    "SELECT {column} FROM {table} WHERE {column} IS NULL OR {column} < 0 OR {column} >= {known} LIMIT 1"
)


class ExportState(CallTables):
    """The whole state, used by one thread. Raises `ExportError` for every error of its file."""

    schema: ClassVar[str] = (
        CallTables.schema
        + """
CREATE TABLE IF NOT EXISTS misfits (
    app TEXT, source TEXT, count INTEGER, first TEXT, PRIMARY KEY (app, source)
) WITHOUT ROWID;
"""
    )

    def _prepare(self) -> None:
        super()._prepare()
        if wrong := _unknown_value(self._fetchall):
            raise DamagedError(wrong)

    def counts(self) -> tuple[int, int, dict[str, int]]:
        """Return the number of pending slices, of pending calls, and of rows by dataset, staged ones included."""
        slices = self._fetchone("SELECT count(*) FROM slices")[0]
        calls = self._fetchone("SELECT count(*) FROM calls WHERE status = ?", CallStatus.PENDING)[0]
        rows = self._fetchall(
            "SELECT dataset, sum(row_count) FROM"
            " (SELECT partition_id, row_count FROM parts WHERE published AND number > 0"
            " UNION ALL SELECT partition_id, row_count FROM staged)"
            " JOIN partitions USING (partition_id) GROUP BY dataset"
        )
        return int(slices), int(calls), dict(rows)

    def skipped_count(self) -> int:
        """Return the number of calls that were skipped, and of spans that have expired or were read in part."""
        calls = self._fetchone("SELECT count(*) FROM calls WHERE status = ?", CallStatus.SKIPPED)[0]
        statuses = SpanStatus.EXPIRED, SpanStatus.TRUNCATED
        return int(calls + self._fetchone("SELECT count(*) FROM spans WHERE status IN (?, ?)", *statuses)[0])

    def oldest_pending(self, min_users: int) -> tuple[dict[str, int], int | None]:
        """Return the start of the oldest pending slice of each source, and of the oldest pending call, if any."""
        slices = self._fetchall("SELECT source, min(first) FROM slices GROUP BY source")
        calls = "SELECT min(first) FROM calls WHERE status = ? AND users >= ?"
        return dict(slices), self._fetchone(calls, CallStatus.PENDING, min_users)[0]

    def add_misfits(self, app: str, source: str, count: int, first: str) -> None:
        """Count rows of a source that do not fit its schema; `first` is what is wrong with the first one."""
        self._execute(
            "INSERT INTO misfits VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            app,
            source,
            count,
            first,
        )

    def misfits(self) -> list[tuple[str, str, int, str]]:
        """Return App ID, source, number of rows that do not fit, and what is wrong with the first one."""
        return self._fetchall("SELECT app, source, count, first FROM misfits ORDER BY app, source")


def _unknown_value(select: Callable[[str], list[tuple[Any, ...]]]) -> str | None:
    """Return what this version cannot interpret in a state; None if it can interpret everything.

    Such a value was written by another version, or by accident; guessing its meaning would lose rows or duplicate them.
    """
    for table, column, known in (("spans", "status", len(SpanStatus)), ("calls", "status", len(CallStatus))):
        for (found,) in select(_OUT_OF_RANGE.format(table=table, column=column, known=known)):
            return f"{found!r} is no {column} of {table} that this version knows"
    for (dataset,) in select("SELECT DISTINCT dataset FROM partitions"):
        if dataset not in DATASETS:
            return f"{dataset!r} is no dataset that this version knows"
    for (cursor,) in select("SELECT cursor FROM calls WHERE cursor != ''"):
        try:
            restored(cursor)
        except ValueError as error:
            return str(error)
    return None
