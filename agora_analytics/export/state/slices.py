"""Which spans of each source were read, and which slices of them are still to be fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from itertools import chain
from typing import ClassVar, Final

import attrs

from agora_analytics._core.truncation import ListProgress
from agora_analytics.export.fetch.sources import Slice
from agora_analytics.export.state.recovery_tables import RecoveryTables
from agora_analytics.models import Call
from agora_analytics.spans import Span, merged, without


class SpanStatus(IntEnum):
    """Status of a span of a source. The numbers are stored.

    A truncated span was read in part, since the service cut its list off: the next run asks for it again.
    """

    READ = 0
    """Read, and final."""
    UNSETTLED = 1
    """Read, but the service may still change it: read it again later."""
    EXPIRED = 2
    """Never read, and older than the service keeps data."""
    TRUNCATED = 3
    """Read in part."""


SPAN_STATUS_NAMES: Final[Mapping[int, str]] = {
    SpanStatus.READ: "read",
    SpanStatus.UNSETTLED: "unsettled",
    SpanStatus.EXPIRED: "expired",
    SpanStatus.TRUNCATED: "truncated",
}
"""Names of span statuses in a manifest."""


@attrs.frozen
class PendingSlice:
    """A slice that is still to be fetched, from `page` on.

    Attributes:
        id: its id.
        app: App ID.
        source: name of the source.
        slice: the span, and the end of the rows in it that count.
        page: the next page.
        count: rows of earlier pages.
        again: whether the span was fetched before, and open calls in it are refreshed.
        requested_at: when its first page was requested, by the service's clock; 0 if not yet.
        reading: the pages of this run.
        rows_before: rows of the truncated list that this slice is a part of.

    """

    id: int
    app: str
    source: str
    slice: Slice
    page: int
    count: int
    again: bool
    requested_at: int = 0
    reading: ListProgress[Call] | None = None
    rows_before: int = 0


_INSERT_SLICE: Final = "INSERT INTO slices (app, source, first, last, owned_until, again) VALUES (?, ?, ?, ?, ?, ?)"


class SliceTables(RecoveryTables):
    """Spans that were read, by status, and pending slices."""

    schema: ClassVar[str] = (
        RecoveryTables.schema
        + """
CREATE TABLE IF NOT EXISTS spans (app TEXT, source TEXT, first INTEGER, last INTEGER, status INTEGER);
CREATE TABLE IF NOT EXISTS slices (
    id INTEGER PRIMARY KEY, app TEXT, source TEXT, first INTEGER, last INTEGER, owned_until INTEGER,
    page INTEGER DEFAULT 1, count INTEGER DEFAULT 0, again INTEGER DEFAULT 0, requested_at INTEGER DEFAULT 0
);
"""
    )

    def spans(self, app: str, source: str, status: int) -> tuple[Span, ...]:
        """Return the spans of a source with a status, in order."""
        rows = self._fetchall(
            "SELECT first, last FROM spans WHERE app = ? AND source = ? AND status = ? ORDER BY first",
            app,
            source,
            status,
        )
        return tuple(Span(*row) for row in rows)

    def mark_span(self, app: str, source: str, span: Span | None, status: int) -> None:
        """Set the status of a span of a source; None is ignored."""
        if span is None:
            return
        for other in SpanStatus:
            before = self.spans(app, source, other)
            after = merged((*before, span)) if other == status else _subtract(before, span)
            # Most marks touch one status: the others need no rewrite.
            if after != before:
                self._execute("DELETE FROM spans WHERE app = ? AND source = ? AND status = ?", app, source, other)
                self._executemany(
                    "INSERT INTO spans VALUES (?, ?, ?, ?, ?)", [(app, source, *one, other) for one in after]
                )

    def all_spans(self) -> list[tuple[str, str, int, int, int]]:
        """Return App ID, source, start, end and status of every span."""
        return self._fetchall("SELECT app, source, first, last, status FROM spans ORDER BY app, source, first")

    def add_slices(self, app: str, source: str, slices: Iterable[Slice], *, again: bool = False) -> None:
        """Add pending slices."""
        rows = [(app, source, *one.span, one.owned_until, again) for one in slices]
        self._executemany(_INSERT_SLICE, rows)

    def slices(self) -> tuple[PendingSlice, ...]:
        """Return the pending slices, oldest first."""
        rows = self._fetchall(
            "SELECT id, app, source, first, last, owned_until, page, count, again, requested_at FROM slices"
            " ORDER BY first, id"
        )
        return tuple(
            PendingSlice(
                number, app, source, Slice(Span(first, last), owned_until), page, count, bool(again), requested_at
            )
            for number, app, source, first, last, owned_until, page, count, again, requested_at in rows
        )

    def set_slice_page(self, one: PendingSlice) -> None:
        """Record the next page of a slice, and how many rows it has so far."""
        self._execute(
            "UPDATE slices SET page = ?, count = ?, requested_at = ? WHERE id = ?",
            one.page,
            one.count,
            one.requested_at,
            one.id,
        )

    def delete_slice(self, one: PendingSlice) -> None:
        """Delete a slice: it is fetched, or cannot be."""
        self._execute("DELETE FROM slices WHERE id = ?", one.id)

    def split_slice(self, one: PendingSlice, slices: Iterable[Slice], rows_before: int) -> list[PendingSlice]:
        """Replace a slice, whose list was truncated after `rows_before` rows, by narrower ones; return these."""
        self.delete_slice(one)
        return [
            PendingSlice(
                self._fetchone(
                    f"{_INSERT_SLICE} RETURNING id",
                    one.app,
                    one.source,
                    *new.span,
                    new.owned_until,
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


def _subtract(spans: Iterable[Span], span: Span) -> tuple[Span, ...]:
    return tuple(chain.from_iterable(without(one, span) for one in spans))
