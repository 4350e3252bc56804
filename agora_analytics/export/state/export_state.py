"""How far an export is: what is done, what is still to be asked, and rows that wait for their file.

One SQLite file. Whatever an answer changes is one transaction: its rows and the mark that it need not be asked again,
so that a process may be killed at any moment and loses no more than what it was asking just then.
"""

from __future__ import annotations

from typing import ClassVar

from agora_analytics.export.state.calls import CallStatus, CallTables
from agora_analytics.export.state.slices import SpanStatus
from agora_analytics.export.state.sqlite_store import DamagedError
from agora_analytics.export.state.versions import unknown_value


class ExportState(CallTables):
    """All that an export remembers; used by one thread. Raises `ExportError` for whatever goes wrong with it."""

    schema: ClassVar[str] = (
        CallTables.schema
        + """
CREATE TABLE IF NOT EXISTS skipped (
    app TEXT, source TEXT, count INTEGER, first TEXT, PRIMARY KEY (app, source)
) WITHOUT ROWID;
"""
    )

    def _prepare(self) -> None:
        super()._prepare()
        if wrong := unknown_value(self._fetchall, kinds=len(SpanStatus), statuses=len(CallStatus)):
            raise DamagedError(wrong)

    def counts(self) -> tuple[int, int, dict[str, int]]:
        """Return how many slices and how many calls are still to be asked for, and the rows there are by dataset."""
        slices = self._fetchone("SELECT count(*) FROM slices")[0]
        calls = self._fetchone("SELECT count(*) FROM calls WHERE status = ?", CallStatus.PENDING)[0]
        rows = self._fetchall(
            "SELECT dataset, sum(size) FROM (SELECT kin, size FROM parts WHERE written AND number > 0"
            " UNION ALL SELECT kin, size FROM staged) JOIN groups ON groups.id = kin GROUP BY dataset"
        )
        return int(slices), int(calls), dict(rows)

    def add_misfits(self, app: str, source: str, count: int, first: str) -> None:
        """Note that rows of a source do not fit, and what is wrong with the first of them."""
        self._execute(
            "INSERT INTO skipped VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            app,
            source,
            count,
            first,
        )

    def misfits(self) -> list[tuple[str, str, int, str]]:
        """Return App ID, source, count of the rows that do not fit, and what is wrong with the first of them."""
        return self._fetchall("SELECT app, source, count, first FROM skipped ORDER BY app, source")
