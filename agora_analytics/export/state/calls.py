"""Calls that were listed: which are pending, how far their details are, and which were skipped."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, ClassVar, Final

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.export.fetch.call_cursor import CallCursor, restored, stored
from agora_analytics.export.state.slices import SliceTables, SpanStatus
from agora_analytics.export.state.staging import SerializedRows
from agora_analytics.models import Call
from agora_analytics.spans import DAY, HOUR, Span

NEARBY_SECONDS: Final = HOUR
"""Seconds within which open calls are refreshed together."""

_MAX_USERS: Final = 2**31

_sids = json.strict_decoder(tuple[str, ...])


class CallStatus(IntEnum):
    """Status of a call. The numbers are stored."""

    OPEN = 0
    """Not over when it was last listed."""
    PENDING = 1
    """Over; its details are still to be fetched."""
    DONE = 2
    """Its details are complete."""
    SKIPPED = 3
    """Its details cannot be fetched; `reason` says why."""


@attrs.frozen
class PendingCall:
    """A call whose details are pending; `cursor` is how far they are, None for a new one."""

    id: int
    app: str
    call_id: str
    span: Span
    cursor: CallCursor | None

    @property
    def day(self) -> int:
        """The UTC day of its start, as days since 1970."""
        return self.span.start // DAY


@attrs.frozen(kw_only=True)
class DueFilter:
    """Which pending calls are due: at most `count` that ended `before`, highest score first if `worst`, else oldest."""

    worst: bool = False
    min_users: int = 0
    before: int
    count: int = 64


class CallTables(SliceTables):
    """Calls by status, with what is kept while their details are fetched."""

    schema: ClassVar[str] = (
        SliceTables.schema
        + """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, app TEXT, call_id TEXT, cname TEXT, first INTEGER, last INTEGER, score REAL, users INTEGER,
    status INTEGER, cursor TEXT NOT NULL DEFAULT '', reason TEXT, UNIQUE (app, call_id)
);
CREATE INDEX IF NOT EXISTS oldest ON calls (status, first);
CREATE INDEX IF NOT EXISTS worst ON calls (status, score);
CREATE TABLE IF NOT EXISTS pages (call INTEGER, sids BLOB);
CREATE INDEX IF NOT EXISTS pages_by_call ON pages (call);
CREATE TABLE IF NOT EXISTS partials (call INTEGER, dataset TEXT, row_count INTEGER, payload BLOB);
CREATE INDEX IF NOT EXISTS partials_by_call ON partials (call);
"""
    )

    def find_call(self, app: str, call_id: str) -> tuple[int, int] | None:
        """Return id and status of a call; None if it was never listed."""
        found: tuple[int, int] | None = self._fetchone(
            "SELECT id, status FROM calls WHERE app = ? AND call_id = ?", app, call_id
        )
        return found

    def upsert_call(self, app: str, call: Call, span: Span, status: int, score: float) -> int:
        """Insert or update a call, and return its id."""
        row = self._fetchone(
            "INSERT INTO calls (app, call_id, cname, first, last, score, users, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (app, call_id) DO UPDATE SET last = excluded.last, score = excluded.score,"
            " users = excluded.users, status = excluded.status RETURNING id",
            app,
            call.call_id,
            call.cname,
            span.start,
            span.end,
            score,
            # SQLite refuses integers of more than 64 bits, and the service may send any.
            min(max(call.call_pcu or 0, 0), _MAX_USERS),
            status,
        )
        return int(row[0]) if row else 0

    def open_calls(self) -> list[tuple[int, str, str | None, int]]:
        """Return id, App ID, channel and start of open calls, oldest first."""
        return self._fetchall(
            "SELECT id, app, cname, first FROM calls WHERE status = ? ORDER BY first", CallStatus.OPEN
        )

    def pending(self, due: DueFilter, apps: Iterable[str], but: Iterable[int]) -> list[PendingCall]:
        """Return up to `due.count` pending calls in the order of `due`, without the ids in `but`."""
        order = "score DESC, first" if due.worst else "first, id"
        excluded, app_ids = ",".join(map(str, but)), json.encode(list(apps)).decode()
        rows = self._fetchall(
            "SELECT id, app, call_id, first, last, cursor FROM calls"  # noqa: S608 - numbers of our own
            f" WHERE status = ? AND users >= ? AND last <= ? AND app IN (SELECT value FROM json_each(?))"
            f" AND id NOT IN ({excluded}) ORDER BY {order} LIMIT ?",
            CallStatus.PENDING,
            due.min_users,
            due.before,
            app_ids,
            due.count,
        )
        return [
            PendingCall(number, app, call, Span(first, last), restored(cursor) if cursor else None)
            for number, app, call, first, last, cursor in rows
        ]

    def first_end(self, due: DueFilter, apps: Iterable[str], but: Iterable[int]) -> int | None:
        """Return the earliest end of the pending calls, without the ids in `but`; None if there are none."""
        excluded, app_ids = ",".join(map(str, but)), json.encode(list(apps)).decode()
        found = self._fetchone(
            "SELECT min(last) FROM calls WHERE status = ? AND users >= ?"  # noqa: S608 - numbers of our own
            f" AND app IN (SELECT value FROM json_each(?)) AND id NOT IN ({excluded})",
            CallStatus.PENDING,
            due.min_users,
            app_ids,
        )
        return found[0] if found else None

    def set_cursor(self, call: PendingCall, cursor: CallCursor) -> None:
        """Record how far the details of a call are."""
        self._execute("UPDATE calls SET cursor = ? WHERE id = ?", stored(cursor), call.id)

    def skip_call(self, call: int, reason: str) -> None:
        """Skip a call for a reason. Its cursor is kept, in case it is requeued."""
        self._execute("UPDATE calls SET status = ?, reason = ? WHERE id = ?", CallStatus.SKIPPED, reason, call)

    def requeue_skipped(self, reasons: Iterable[str]) -> None:
        """Make the calls pending again that were skipped for these reasons."""
        again = json.encode(list(reasons)).decode()
        self._execute(
            "UPDATE calls SET status = ? WHERE status = ? AND reason IN (SELECT value FROM json_each(?))",
            CallStatus.PENDING,
            CallStatus.SKIPPED,
            again,
        )

    def finish_call(self, call: int, *, begun: bool = True) -> None:
        """Mark a call as done. Without `begun`, skip two DELETEs: the call never stored pages or partial rows."""
        self._execute("UPDATE calls SET status = ?, cursor = '' WHERE id = ?", CallStatus.DONE, call)
        if begun:
            self._execute("DELETE FROM pages WHERE call = ?", call)
            self._execute("DELETE FROM partials WHERE call = ?", call)

    def not_yet_queryable(self, newest: int) -> tuple[int, int]:
        """Return the number of pending calls that ended after `newest`, and the latest end (0 for none)."""
        count, last = self._fetchone(
            "SELECT count(*), max(last) FROM calls WHERE status = ? AND last > ?", CallStatus.PENDING, newest
        )
        return int(count), int(last or 0)

    def calls_by_status(self) -> dict[int, int]:
        """Return the number of calls by status."""
        return dict(self._fetchall("SELECT status, count(*) FROM calls GROUP BY status"))

    def below_min_users(self, min_users: int) -> int:
        """Return the number of pending calls with fewer users."""
        found = self._fetchone(
            "SELECT count(*) FROM calls WHERE status = ? AND users < ?", CallStatus.PENDING, min_users
        )
        return int(found[0]) if found else 0

    def count_pending(self, app: str, min_users: int) -> int:
        """Return the number of pending calls of an App ID with at least `min_users`."""
        found = self._fetchone(
            "SELECT count(*) FROM calls WHERE status = ? AND app = ? AND users >= ?", CallStatus.PENDING, app, min_users
        )
        return int(found[0])

    def skipped_calls(self) -> list[tuple[str, str, int, int, int]]:
        """Return App ID, reason, number, earliest start and latest end of skipped calls."""
        return self._fetchall(
            "SELECT app, reason, count(*), min(first), max(last) FROM calls WHERE status = ? GROUP BY app, reason",
            CallStatus.SKIPPED,
        )

    def skipped_call_ids(self, app: str, reason: str, most: int) -> tuple[str, ...]:
        """Return the ids of the oldest calls of an App ID that were skipped for a reason, at most `most`."""
        rows = self._fetchall(
            "SELECT call_id FROM calls WHERE status = ? AND app = ? AND reason = ? ORDER BY first, id LIMIT ?",
            *(CallStatus.SKIPPED, app, reason, most),
        )
        return tuple(call_id for (call_id,) in rows)

    def calls_for_manifest(self) -> list[tuple[Any, ...]]:
        """Return the calls that a rebuilt state needs: those that are not done, and those that may be listed again.

        May be listed again: calls that no read span contains, and calls that started or ended near an open one.
        """
        return self._fetchall(
            "SELECT app, call_id, cname, first, last, score, users, status, reason, cursor != '' FROM calls"
            " WHERE status != ? OR NOT EXISTS (SELECT 1 FROM spans WHERE spans.app = calls.app AND spans.status = ?"
            " AND source IN ('calls', 'calls ' || cname) AND spans.first < calls.first AND calls.last < spans.last)"
            " OR EXISTS (SELECT 1 FROM calls AS open WHERE open.status = ? AND open.app = calls.app"
            " AND open.first BETWEEN calls.first - ? AND calls.last + ?)",
            CallStatus.DONE,
            SpanStatus.READ,
            CallStatus.OPEN,
            NEARBY_SECONDS,
            NEARBY_SECONDS,
        )

    def insert_calls(self, calls: Iterable[tuple[Any, ...]]) -> None:
        """Insert calls of a manifest, without their cursors."""
        self._executemany(
            "INSERT INTO calls (app, call_id, cname, first, last, score, users, status, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            list(calls),
        )

    def delete_done_calls(self, before: int) -> None:
        """Delete the calls that are done and ended before: no list returns them any more."""
        self._execute("DELETE FROM calls WHERE status = ? AND last < ?", CallStatus.DONE, before)

    def add_page(self, call: int, sids: tuple[str, ...]) -> None:
        """Store the session ids of a page of a call."""
        self._execute("INSERT INTO pages VALUES (?, ?)", call, json.encode(sids))

    def pages(self, call: int) -> list[tuple[str, ...]]:
        """Return the session ids of a call, page by page."""
        return [_sids(page) for (page,) in self._fetchall("SELECT sids FROM pages WHERE call = ? ORDER BY rowid", call)]

    def add_partial(self, call: int, rows: SerializedRows) -> None:
        """Store rows of a slice of a call's span; they are merged with those of the next one."""
        self._execute("INSERT INTO partials VALUES (?, ?, ?, ?)", call, rows.dataset, rows.count, rows.payload)

    def take_partials(self, call: int) -> tuple[SerializedRows, ...]:
        """Return the partial rows of a call, and delete them."""
        rows = self._fetchall("SELECT dataset, row_count, payload FROM partials WHERE call = ? ORDER BY rowid", call)
        self._execute("DELETE FROM partials WHERE call = ?", call)
        return tuple(SerializedRows(*row) for row in rows)
