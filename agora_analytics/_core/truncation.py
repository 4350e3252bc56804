"""When a list ends, whether it is complete, and what to fetch where the service truncated it.

Some services return only so many rows of a list, though `total_size` says that there are more. Rows come newest first,
so the rest is fetched by a list that ends where the first one stopped. Where rows come in no order, the span is halved,
and a single second is fetched channel by channel.

Rows may also disappear between two pages, so that others move up to pages that were read: then the total falls. Rows
older than the last one before that are fetched again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from operator import attrgetter
from typing import Final, Generic, Protocol, TypeVar

import attrs

from agora_analytics._core import validation
from agora_analytics._core.retry import host_failed
from agora_analytics.errors import AgoraError, BadRequest, IncompleteList, ResponseError, ServerError
from agora_analytics.models import BadRow, Call, Session
from agora_analytics.spans import Span

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)

PATIENCE: Final = 3
"""Pages in a row without a new row before a list ends: a page of new rows may have appeared meanwhile."""

MAX_LISTS_WITHOUT_NEW_ROWS: Final = 20
"""Narrower lists in a row that may have no new row; halving a day down to a second takes 17."""

_FEW: Final = 3
"""The same, once that limit was reached."""

_DEEPEST: Final = 100_000
"""Rows after which this library truncates a list itself, to bound its memory."""

_MOVES: Final = 2
"""Times that a whole list is read again because its rows moved."""

_CHANNELS: Final = 100
"""Most channels that are fetched one by one for a second."""


class ListPage(Protocol[ItemT_co]):
    """What paging needs of a page."""

    @property
    def items(self) -> tuple[ItemT_co, ...]:
        """Its rows."""

    @property
    def has_more(self) -> bool | None:
        """Whether more pages follow; None if the service does not say."""

    @property
    def total_size(self) -> int | None:
        """Rows of all pages; None if the service does not say."""

    @property
    def skipped(self) -> tuple[BadRow, ...]:
        """Its rows that do not fit the reference."""


def _none(_: object) -> None:
    return None


@attrs.frozen(kw_only=True)
class RowKind(Generic[ItemT]):
    """How to read the rows of a list: key, end, start and channel.

    `ended` returns None for a row that is still open. `began` returns None unless the service promises rows in order,
    newest first, and `channel` returns None unless lists can be restricted to one channel.
    """

    what: str
    key: Callable[[ItemT], str]
    ended: Callable[[ItemT], int | None] = _none
    began: Callable[[ItemT], int | None] = _none
    channel: Callable[[ItemT], str | None] = _none

    @property
    def plain(self) -> bool:
        """Whether rows have only a key."""
        return self.began is _none and self.channel is _none


CALLS: Final = RowKind[Call](
    what="calls",
    key=attrgetter("call_id"),
    ended=lambda call: call.destroyed_ts if call.ended_at else None,
    began=lambda call: call.created_ts if call.started_at else None,
    channel=lambda call: call.cname,
)
CALLS_OF_CHANNEL: Final = attrs.evolve(CALLS, channel=_none)
SESSIONS: Final = RowKind[Session](what="sessions", key=attrgetter("sid"))
"""The reference orders sessions within a page only."""


def calls(cname: str | None) -> RowKind[Call]:
    """Return the row kind of the calls of one channel, or of all."""
    return CALLS if cname is None else CALLS_OF_CHANNEL


@attrs.frozen
class ListQuery:
    """What one list is about: a span, of one channel or of all.

    `rows_before` is the number of rows of the truncated list that this one narrows, 0 if it narrows none.
    """

    span: Span
    cname: str | None = None
    rows_before: int = 0

    def page_size(self, usual: int) -> int:
        """Return the page size: full pages where a list is narrowed, to save requests."""
        return validation.PAGE_SIZE if self.rows_before else usual


class PageOutcome(Enum):
    """What follows a page."""

    MORE = "another page"
    COMPLETE = "nothing: the list is complete"
    TRUNCATED = "nothing, though there are more rows"


@attrs.define(eq=False, repr=False)
class ListProgress(Generic[ItemT]):
    """Progress of reading one list.

    `count` rows have come, duplicates included, in pages of `size`; `keys` are theirs. `oldest` is when the oldest row
    began, None if rows are in no order. `moved` is True if rows may have moved to pages already read; `seam` is
    `oldest` before that. `total` is the last total size, `least` the smallest so far, `full` whether the last page with
    rows was full.
    """

    kind: RowKind[ItemT]
    count: int = 0
    size: int = validation.PAGE_SIZE
    trust_total: bool = True
    patience: int = PATIENCE
    keys: set[str] = attrs.field(factory=set)
    channels: dict[str, None] = attrs.field(factory=dict)
    oldest: int | None = None
    has_more: bool | None = None
    refusal: ResponseError | None = None
    least: int | None = None
    moved: bool = False
    seam: int | None = None
    total: int | None = None
    _before: int = attrs.field(init=False)
    _ordered: bool = True
    _stale: int = 0
    _repeats: bool = False
    _last: int = 0
    _unread: int = 0
    full: bool = False

    def __attrs_post_init__(self) -> None:
        self._before = self.count

    @property
    def distinct(self) -> int:
        """Distinct rows so far."""
        return self._before + len(self.keys) + self._unread

    def take(self, page: ListPage[ItemT]) -> None:
        """Add a page."""
        before = len(self.keys)
        # How far the pages before this one reached: if the total falls now, rows moved across that point.
        self.seam = self.seam if self.moved else self.oldest
        if self.kind.plain:
            self.keys.update(map(self.kind.key, page.items))
        else:
            self._note(page.items)
        new = len(self.keys) > before
        unread = _skipped(page)
        # On a page of duplicates, unreadable rows are most likely duplicates too.
        self._unread += unread if new or not page.items else 0
        self._last = len(page.items) + unread
        self.full = self._last >= self.size if self._last else self.full
        self.count += self._last
        self._stale = 0 if new else self._stale + 1
        self._repeats = self._repeats or bool(page.items and not new)
        self._read_totals(page)

    def refuse(self, error: ResponseError) -> None:
        """Record that the service refused the next page."""
        self.refusal = error
        self._last = 0

    def _note(self, rows: Iterable[ItemT]) -> None:
        """Note the new ones of some rows."""
        for row in rows:
            key = self.kind.key(row)
            if key in self.keys:
                continue
            self.keys.add(key)
            if len(self.channels) < _CHANNELS:
                self._note_channel(self.kind.channel(row))
            began = self.kind.began(row) if self._ordered else None
            # After one row without a start or out of order, the oldest says nothing about what is missing.
            self._ordered = began is not None and (self.oldest is None or began <= self.oldest)
            self.oldest = began if self._ordered else None

    def _note_channel(self, name: str | None) -> None:
        if name and name not in self.channels and validation.is_sendable(name):
            self.channels[name] = None

    def _read_totals(self, page: ListPage[ItemT]) -> None:
        self.has_more = page.has_more
        # Without `has_more` the total, right or wrong, is the only sign of the end.
        believed = self.trust_total or page.has_more is None
        if believed and page.total_size is not None and page.total_size >= 0:
            # A total smaller than its own page says nothing.
            fell = self.total is not None and max(self._last, 1) <= page.total_size < self.total
            self.moved = self.moved or (fell and self.distinct < (self.total or 0))
            self.total = page.total_size
            self.least = page.total_size if self.least is None else min(self.least, page.total_size)

    def verdict(self, cap: int | None = None) -> PageOutcome:
        """Return what follows the last page; `cap` is the number of rows at which another list was truncated."""
        if self._ended():
            return PageOutcome.TRUNCATED if self._lacks() else PageOutcome.COMPLETE
        # All that was announced is there, and the last page brought nothing new.
        if self._stale and self.least is not None and self.distinct >= self.least:
            return PageOutcome.COMPLETE
        if self._stale >= self.patience:
            return PageOutcome.TRUNCATED
        return PageOutcome.TRUNCATED if self.count >= min(cap or _DEEPEST, _DEEPEST) else PageOutcome.MORE

    def _ended(self) -> bool:
        """Whether no page follows: by `has_more`, or else by the total, or else after an empty page."""
        # Nothing more comes after an empty page, whatever `has_more` says.
        if not self._last:
            return True
        if self.has_more is not None:
            return not self.has_more
        return self.total is not None and self.count >= self.total

    def _lacks(self) -> bool:
        """Whether a list that ended lacks rows, according to the service."""
        if self.total is None or self.least is None:
            return self.refusal is not None or (not self._last and self.has_more is True)
        # New rows push others to the next page; these are counted twice in the total.
        return self.distinct < self.least if self._repeats else self.count < self.total

    def contradicts_cap(self, part: ListQuery) -> bool:
        """Whether a narrower list that ended earlier shows that truncation is not by depth."""
        went_on = self.oldest is not None and self.oldest + 1 < part.span.end
        return self.distinct < part.rows_before and not went_on and not self.full

    def will_be_halved(self, part: ListQuery, cap: int | None) -> bool:
        """Whether a list will be truncated and then halved, so that its pages would be fetched twice."""
        halved = self.oldest is None and bool(self._last) and part.span.duration > 1
        return halved and part.rows_before > 0 and cap is not None and (self.total or 0) > cap


@attrs.define(eq=False, repr=False)
class TruncationState:
    """What lists have shown of the service: the number of rows at which it truncates, and whether totals are right.

    `lists_without_new_rows` counts narrower lists in a row without a new row, `most` is its limit.
    """

    cap: int | None = None
    trusts_totals: bool = True
    lists_without_new_rows: int = 0
    most: int = MAX_LISTS_WITHOUT_NEW_ROWS
    _again: Counter[tuple[Span, str | None]] = attrs.field(factory=Counter)

    def reading(
        self,
        kind: RowKind[ItemT],
        part: ListQuery,
        size: int = validation.PAGE_SIZE,
        *,
        count: int = 0,
        total: int | None = None,
    ) -> ListProgress[ItemT]:
        """Return the progress of a list at its start, or after `count` rows of `total`.

        `size` is the page size of lists that are not narrowed.
        """
        # A narrower list is narrowed again after one page without a new row.
        return ListProgress(
            kind, count, part.page_size(size), self.trusts_totals, 1 if part.rows_before else PATIENCE, total=total
        )

    def verdict(self, part: ListQuery, reading: ListProgress[ItemT]) -> PageOutcome:
        """Return what follows the last page of a list."""
        if reading.moved and self._from_seam(part, reading) is not None:
            return PageOutcome.TRUNCATED
        verdict = reading.verdict(self.cap)
        if reading.moved and verdict is PageOutcome.COMPLETE:
            return PageOutcome.TRUNCATED
        return (
            PageOutcome.TRUNCATED if verdict is PageOutcome.MORE and reading.will_be_halved(part, self.cap) else verdict
        )

    def narrower(
        self, part: ListQuery, reading: ListProgress[ItemT], *, has_new_rows: bool
    ) -> tuple[ListQuery, ...] | None:
        """Return the lists to fetch in place of the rest of a truncated one, newest first.

        Empty if it proves to be complete after all, None if the rest cannot be fetched. `has_new_rows` is whether the
        list had any new row.
        """
        if reading.moved:
            again = self._from_seam(part, reading)
            if again is None:
                return None
            # A shorter span gets nearer to its end each time; only a repeat of the whole could go on for ever.
            self._again[part.span, part.cname] += again.span == part.span
            return (again,)
        self.lists_without_new_rows = 0 if has_new_rows or not part.rows_before else self.lists_without_new_rows + 1
        # A list that was left in order to be halved shows no cap, and neither does less than a page.
        if not reading.will_be_halved(part, self.cap) and reading.distinct >= reading.size:
            self.cap = reading.distinct
        if self.lists_without_new_rows >= self.most:
            self.most = _FEW
            return () if self._is_whole(reading) else None
        parts = () if reading.contradicts_cap(part) else _narrower(part, reading)
        return parts or (() if self._is_whole(reading) else None)

    def _from_seam(self, part: ListQuery, reading: ListProgress[ItemT]) -> ListQuery | None:
        """Return what to fetch again of a list whose rows moved, None after enough repeats."""
        rows_before = max(reading.distinct, 1)
        if reading.oldest is not None and reading.seam is not None:
            reached = max(reading.seam, part.span.start) + 1
            if reached < part.span.end:
                return attrs.evolve(part, span=Span(part.span.start, reached), rows_before=rows_before)
        many = self._again[part.span, part.cname]
        return attrs.evolve(part, rows_before=rows_before) if many < _MOVES else None

    def _is_whole(self, reading: ListProgress[ItemT]) -> bool:
        """Whether a list that no narrower one adds to is complete: only its total contradicts."""
        if reading.has_more is not False or reading.full:
            return False
        self.trusts_totals = False
        return True


def _narrower(part: ListQuery, reading: ListProgress[ItemT]) -> tuple[ListQuery, ...]:
    span, rows_before = part.span, max(reading.distinct, 1)
    if reading.oldest is not None:
        # The second of the oldest row once more, as others of that second may be missing.
        reached = max(reading.oldest, span.start) + 1
        if reached < span.end:
            return (attrs.evolve(part, span=Span(span.start, reached), rows_before=rows_before),)
    if span.duration > 1:
        # Where all rows began in the newest second, that second alone is what is too much.
        middle = span.end - 1 if reading.oldest is not None else span.start + span.duration // 2
        halves = Span(middle, span.end), Span(span.start, middle)
        return tuple(attrs.evolve(part, span=half, rows_before=rows_before) for half in halves)
    if part.cname is None:
        return tuple(ListQuery(span, channel, rows_before) for channel in reading.channels)
    return ()


def is_depth(error: AgoraError, number: int) -> bool:
    """Whether an error is about a page's number alone: the first page of the list was answered."""
    # An error on the first page is about the whole list.
    if number == 1 or not isinstance(error, ResponseError):
        return False
    return type(error) in {BadRequest, ResponseError} or (isinstance(error, ServerError) and not host_failed(error))


def incomplete(part: ListQuery, reading: ListProgress[ItemT]) -> IncompleteList:
    """Return the error of a list that cannot be completed."""
    reported = "more" if reading.least is None else str(reading.least)
    why = "rows moved while its pages were read" if reading.moved else "the service cuts the list off"
    where = f"{reading.kind.what} of {part.span}" + (f", channel {part.cname!r}" if part.cname else "")
    error = IncompleteList(
        f"{where}: {reading.distinct} of {reported} rows came, {why}, and no narrower list has more",
        hint="Narrow the search by channel (`cname`) where that is possible; report the request to Agora support.",
        span=part.span,
        rows=reading.distinct,
        reported=reading.least,
    )
    error.__cause__ = reading.refusal
    return error


def _skipped(page: ListPage[ItemT]) -> int:
    """Return how many rows of a page were skipped because they could not be read."""
    return sum(one.whole for one in page.skipped)
