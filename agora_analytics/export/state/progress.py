"""How far an export is: what is done, what is still to be asked, and rows that wait for their file.

One SQLite file. Whatever an answer changes is one transaction: its rows and the mark that it need not be asked again,
so that a process may be killed at any moment and loses no more than what it was asking just then.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, ClassVar, Final

import attrs

from agora_analytics._core.decoding import json
from agora_analytics._core.truncation import ListProgress
from agora_analytics.export.fetch.cursor import Cursor, restored, stored
from agora_analytics.export.fetch.sources import Slice
from agora_analytics.export.state.found_parts import Taken
from agora_analytics.export.state.sqlite_store import DamagedError
from agora_analytics.export.state.staging import Packed
from agora_analytics.export.state.versions import illegible
from agora_analytics.models import Call
from agora_analytics.spans import DAY, Span, merged, without

NEAR: Final = 3_600
"""Seconds within which calls that went on are looked up together."""

_MOST: Final = 2**31
_KINDS: Final = 4
READ, UNSETTLED, EXPIRED, CUT = range(_KINDS)
"""What a span is: read for good; read, and to be read again; never read, and forgotten by the service; read in part.

What is read in part, since the service cuts its list off, is asked for again by the next run.
"""

NAMES_OF_KINDS: Final = {READ: "read", UNSETTLED: "unsettled", EXPIRED: "expired", CUT: "cut off"}
"""What a manifest calls them."""

_STATUSES: Final = 4
OPEN, PENDING, DONE, LEFT = range(_STATUSES)
"""What a call's status is: it goes on; its details are to be asked for; done; left out."""


_sids = json.strict_decoder(tuple[str, ...])


@attrs.frozen
class PendingSlice:
    """A slice still to be asked for, from its `page` on: `count` rows have come, the first when it was `asked`.

    `reading` is what came in this run, `rows_before` how many rows came of the list that this one narrows.
    """

    id: int
    app: str
    source: str
    slice: Slice
    page: int
    count: int
    again: bool
    asked: int = 0
    reading: ListProgress[Call] | None = None
    rows_before: int = 0


@attrs.frozen
class PendingCall:
    """A call whose details are to be asked for, and how far they are."""

    id: int
    app: str
    call_id: str
    span: Span
    cursor: Cursor | None

    @property
    def day(self) -> int:
        """The UTC day at which it began."""
        return self.span.start // DAY


@attrs.frozen(kw_only=True)
class Due:
    """Which pending calls are due: those of the `worst` score first, or the oldest, that ended `before`."""

    worst: bool = False
    min_users: int = 0
    before: int
    count: int = 64


class State(Taken):
    """All that an export remembers; used by one thread. Raises `ExportError` for whatever goes wrong with it."""

    layout: ClassVar[str] = (
        Taken.layout
        + """
CREATE TABLE IF NOT EXISTS spans (app TEXT, source TEXT, first INTEGER, last INTEGER, kind INTEGER);
CREATE TABLE IF NOT EXISTS slices (
    id INTEGER PRIMARY KEY, app TEXT, source TEXT, first INTEGER, last INTEGER, keep INTEGER,
    page INTEGER DEFAULT 1, count INTEGER DEFAULT 0, again INTEGER DEFAULT 0, asked INTEGER DEFAULT 0
);
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, app TEXT, call_id TEXT, cname TEXT, first INTEGER, last INTEGER, score REAL, users INTEGER,
    status INTEGER, cursor TEXT NOT NULL DEFAULT '', reason TEXT, UNIQUE (app, call_id)
);
CREATE INDEX IF NOT EXISTS oldest ON calls (status, first);
CREATE INDEX IF NOT EXISTS worst ON calls (status, score);
CREATE TABLE IF NOT EXISTS skipped (
    app TEXT, source TEXT, count INTEGER, first TEXT, PRIMARY KEY (app, source)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pages (call INTEGER, sids BLOB);
CREATE INDEX IF NOT EXISTS pages_by_call ON pages (call);
CREATE TABLE IF NOT EXISTS halves (call INTEGER, dataset TEXT, size INTEGER, piece BLOB);
CREATE INDEX IF NOT EXISTS halves_by_call ON halves (call);
"""
    )

    def _prepare(self) -> None:
        super()._prepare()
        if wrong := illegible(self._all, kinds=_KINDS, statuses=_STATUSES):
            raise DamagedError(wrong)

    # What is done, and slices to be asked for

    def spans(self, app: str, source: str, kind: int) -> tuple[Span, ...]:
        """Return the spans of a source that are `READ`, `UNSETTLED`, `EXPIRED` or `CUT`, in order."""
        rows = self._all(
            "SELECT first, last FROM spans WHERE app = ? AND source = ? AND kind = ? ORDER BY first", app, source, kind
        )
        return tuple(Span(*row) for row in rows)

    def mark(self, app: str, source: str, span: Span | None, kind: int) -> None:
        """Note that a span of a source is of a kind, and no other any more; None is nothing to note."""
        if span is None:
            return
        for other in (READ, UNSETTLED, EXPIRED, CUT):
            before = self.spans(app, source, other)
            after = merged((*before, span)) if other == kind else _less(before, span)
            if after != before:
                self._run("DELETE FROM spans WHERE app = ? AND source = ? AND kind = ?", app, source, other)
                self._many("INSERT INTO spans VALUES (?, ?, ?, ?, ?)", [(app, source, *one, other) for one in after])

    def all_spans(self) -> list[tuple[str, str, int, int, int]]:
        """Return App ID, source, first and last second and kind of every span."""
        return self._all("SELECT app, source, first, last, kind FROM spans ORDER BY app, source, first")

    def add_slices(self, app: str, source: str, slices: Iterable[Slice], *, again: bool = False) -> None:
        """Note what is to be asked for."""
        rows = [(app, source, *one.span, one.keep, again) for one in slices]
        self._many("INSERT INTO slices (app, source, first, last, keep, again) VALUES (?, ?, ?, ?, ?, ?)", rows)

    def slices(self) -> tuple[PendingSlice, ...]:
        """Return what is still to be asked for, oldest first."""
        rows = self._all(
            "SELECT id, app, source, first, last, keep, page, count, again, asked FROM slices ORDER BY first, id"
        )
        return tuple(
            PendingSlice(number, app, source, Slice(Span(first, last), keep), page, count, bool(again), asked)
            for number, app, source, first, last, keep, page, count, again, asked in rows
        )

    def turn_page(self, one: PendingSlice) -> None:
        """Note which page of a slice is next, and how many rows have come."""
        self._run(
            "UPDATE slices SET page = ?, count = ?, asked = ? WHERE id = ?", one.page, one.count, one.asked, one.id
        )

    def end_slice(self, one: PendingSlice) -> None:
        """Note that a slice need not be asked for any more."""
        self._run("DELETE FROM slices WHERE id = ?", one.id)

    def narrow(self, one: PendingSlice, slices: Iterable[Slice], rows_before: int) -> list[PendingSlice]:
        """Put narrower slices in the place of one, of whose list so many rows came, and return them."""
        self.end_slice(one)
        return [
            PendingSlice(
                self._one(
                    "INSERT INTO slices (app, source, first, last, keep, again) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                    one.app,
                    one.source,
                    *new.span,
                    new.keep,
                    one.again,
                )[0],
                one.app,
                one.source,
                new,
                page=1,
                count=0,
                again=one.again,
                rows_before=rows_before,
            )
            for new in slices
        ]

    # Calls

    def known(self, app: str, call_id: str) -> tuple[int, int] | None:
        """Return the id and the status of a call that was seen before."""
        found: tuple[int, int] | None = self._one(
            "SELECT id, status FROM calls WHERE app = ? AND call_id = ?", app, call_id
        )
        return found

    def keep_call(self, app: str, call: Call, span: Span, status: int, score: float) -> int:
        """Remember a call, or what has become of it, and return its id."""
        row = self._one(
            "INSERT INTO calls (app, call_id, cname, first, last, score, users, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (app, call_id) DO UPDATE SET last = excluded.last, score = excluded.score,"
            " users = excluded.users, status = excluded.status RETURNING id",
            app,
            call.call_id,
            call.cname,
            span.start,
            span.end,
            score,
            min(max(call.call_pcu or 0, 0), _MOST),
            status,
        )
        return int(row[0]) if row else 0

    def open_calls(self) -> list[tuple[int, str, str | None, int]]:
        """Return id, App ID, channel and start of the calls that went on when last seen, oldest first."""
        return self._all("SELECT id, app, cname, first FROM calls WHERE status = ? ORDER BY first", OPEN)

    def pending(self, due: Due, apps: Iterable[str], but: Iterable[int]) -> list[PendingCall]:
        """Return calls whose details are to be asked for, first those that are due first."""
        order = "score DESC, first" if due.worst else "first, id"
        taken, mine = ",".join(map(str, but)), json.encode(list(apps)).decode()
        rows = self._all(
            "SELECT id, app, call_id, first, last, cursor FROM calls"  # noqa: S608 - numbers of our own
            f" WHERE status = ? AND users >= ? AND last <= ? AND app IN (SELECT value FROM json_each(?))"
            f" AND id NOT IN ({taken}) ORDER BY {order} LIMIT ?",
            PENDING,
            due.min_users,
            due.before,
            mine,
            due.count,
        )
        return [
            PendingCall(number, app, call, Span(first, last), restored(cursor) if cursor else None)
            for number, app, call, first, last, cursor in rows
        ]

    def soonest(self, due: Due, apps: Iterable[str], but: Iterable[int]) -> int | None:
        """Return the first end of a pending call that is too new yet, None where there is none."""
        taken, mine = ",".join(map(str, but)), json.encode(list(apps)).decode()
        found = self._one(
            "SELECT min(last) FROM calls WHERE status = ? AND users >= ?"  # noqa: S608 - numbers of our own
            f" AND app IN (SELECT value FROM json_each(?)) AND id NOT IN ({taken})",
            PENDING,
            due.min_users,
            mine,
        )
        return found[0] if found else None

    def move_on(self, call: PendingCall, cursor: Cursor) -> None:
        """Note how far the details of a call are."""
        self._run("UPDATE calls SET cursor = ? WHERE id = ?", stored(cursor), call.id)

    def leave_out(self, call: int, reason: str) -> None:
        """Note that a call is left out, and why; how far it was is kept, should it be asked for again."""
        self._run("UPDATE calls SET status = ?, reason = ? WHERE id = ?", LEFT, reason, call)

    def try_again(self, reasons: Iterable[str]) -> None:
        """Have the calls asked for again that were left out for these reasons."""
        again = json.encode(list(reasons)).decode()
        self._run(
            "UPDATE calls SET status = ? WHERE status = ? AND reason IN (SELECT value FROM json_each(?))",
            PENDING,
            LEFT,
            again,
        )

    def end_call(self, call: int, *, begun: bool = True) -> None:
        """Note that nothing more is to be asked of a call; `begun` tells that there may be something to forget."""
        self._run("UPDATE calls SET status = ?, cursor = '' WHERE id = ?", DONE, call)
        if begun:
            self._run("DELETE FROM pages WHERE call = ?", call)
            self._run("DELETE FROM halves WHERE call = ?", call)

    def counts(self) -> tuple[int, int, dict[str, int]]:
        """Return how many slices and how many calls are still to be asked for, and the rows there are by dataset."""
        slices = self._one("SELECT count(*) FROM slices")[0]
        calls = self._one("SELECT count(*) FROM calls WHERE status = ?", PENDING)[0]
        rows = self._all(
            "SELECT dataset, sum(size) FROM (SELECT kin, size FROM parts WHERE written AND number > 0"
            " UNION ALL SELECT kin, size FROM staged) JOIN groups ON groups.id = kin GROUP BY dataset"
        )
        return int(slices), int(calls), dict(rows)

    def later(self, newest: int) -> tuple[int, int]:
        """Return how many calls are still to be asked for that ended after a moment, and the last end (0 for none)."""
        count, last = self._one("SELECT count(*), max(last) FROM calls WHERE status = ? AND last > ?", PENDING, newest)
        return int(count), int(last or 0)

    def calls_by_status(self) -> dict[int, int]:
        """Return how many calls there are of each status."""
        return dict(self._all("SELECT status, count(*) FROM calls GROUP BY status"))

    def too_small(self, min_users: int) -> int:
        """Return how many pending calls have fewer users."""
        found = self._one("SELECT count(*) FROM calls WHERE status = ? AND users < ?", PENDING, min_users)
        return int(found[0]) if found else 0

    def pending_of(self, app: str, min_users: int) -> int:
        """Return how many pending calls of an App ID have so many users."""
        found = self._one(
            "SELECT count(*) FROM calls WHERE status = ? AND app = ? AND users >= ?", PENDING, app, min_users
        )
        return int(found[0])

    def left(self) -> list[tuple[str, str, int, int, int]]:
        """Return App ID, reason, count, first and last second of the calls that are left out."""
        return self._all(
            "SELECT app, reason, count(*), min(first), max(last) FROM calls WHERE status = ? GROUP BY app, reason", LEFT
        )

    def left_calls(self, app: str, reason: str, most: int) -> tuple[str, ...]:
        """Return the oldest calls of an App ID that are left out for a reason, at most so many."""
        rows = self._all(
            "SELECT call_id FROM calls WHERE status = ? AND app = ? AND reason = ? ORDER BY first, id LIMIT ?",
            *(LEFT, app, reason, most),
        )
        return tuple(call_id for (call_id,) in rows)

    def skip(self, app: str, source: str, count: int, first: str) -> None:
        """Note that rows of a source do not fit, and what is wrong with the first of them."""
        self._run(
            "INSERT INTO skipped VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            app,
            source,
            count,
            first,
        )

    def skipped(self) -> list[tuple[str, str, int, str]]:
        """Return App ID, source, count of the rows that do not fit, and what is wrong with the first of them."""
        return self._all("SELECT app, source, count, first FROM skipped ORDER BY app, source")

    def kept_calls(self) -> list[tuple[Any, ...]]:
        """Return what is to be remembered of calls: those that are not done, and those that may be listed again.

        A list may show them again that were not over when a span was read that was read last, and those that began or
        ended near one that goes on.
        """
        return self._all(
            "SELECT app, call_id, cname, first, last, score, users, status, reason, cursor != '' FROM calls"
            " WHERE status != ? OR NOT EXISTS (SELECT 1 FROM spans WHERE spans.app = calls.app AND kind = ?"
            " AND source IN ('calls', 'calls ' || cname) AND spans.first < calls.first AND calls.last < spans.last)"
            " OR EXISTS (SELECT 1 FROM calls AS going WHERE going.status = ? AND going.app = calls.app"
            " AND going.first BETWEEN calls.first - ? AND calls.last + ?)",
            DONE,
            READ,
            OPEN,
            NEAR,
            NEAR,
        )

    def recall_calls(self, calls: Iterable[tuple[Any, ...]]) -> None:
        """Remember calls as they were told, but for how far they were."""
        self._many(
            "INSERT INTO calls (app, call_id, cname, first, last, score, users, status, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            list(calls),
        )

    def forget_calls(self, before: int) -> None:
        """Forget the calls that are done and ended before: no list shows them any more."""
        self._run("DELETE FROM calls WHERE status = ? AND last < ?", DONE, before)

    def keep_page(self, call: int, sids: tuple[str, ...]) -> None:
        """Remember the sessions of a page of a call."""
        self._run("INSERT INTO pages VALUES (?, ?)", call, json.encode(sids))

    def pages(self, call: int) -> list[tuple[str, ...]]:
        """Return the sessions of a call, page by page."""
        return [_sids(page) for (page,) in self._all("SELECT sids FROM pages WHERE call = ? ORDER BY rowid", call)]

    def keep_half(self, call: int, rows: Packed) -> None:
        """Keep what is to be merged with what comes next."""
        self._run("INSERT INTO halves VALUES (?, ?, ?, ?)", call, rows.dataset, rows.count, rows.stored)

    def take_halves(self, call: int) -> tuple[Packed, ...]:
        """Return what was kept to be merged, and forget it."""
        rows = self._all("SELECT dataset, size, piece FROM halves WHERE call = ? ORDER BY rowid", call)
        self._run("DELETE FROM halves WHERE call = ?", call)
        return tuple(Packed(*row) for row in rows)


def _less(spans: Iterable[Span], span: Span) -> tuple[Span, ...]:
    return tuple(chain.from_iterable(without(one, span) for one in spans))
