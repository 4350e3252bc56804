"""What is asked of one call: its sessions, page by page, their metrics, twenty at a time, and its statistics.

A call's requests follow one another, and each answer is kept together with the place of the next request: its cursor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Final, TypeVar

import attrs

from agora_analytics._core import paging, truncation, validation
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics._core.truncation import ListProgress, ListQuery, PageOutcome, TruncationState
from agora_analytics.errors import IncompleteList, ResponseError
from agora_analytics.export.fetch.cursor import METRICS, SESSIONS, STATISTICS, Cursor
from agora_analytics.export.fetch.fetcher import Asking, TooOldError, log
from agora_analytics.export.fetch.retention import Expiry, Question
from agora_analytics.export.fetch.skip_reasons import UNMEASURED
from agora_analytics.export.fetch.sources import Groups
from agora_analytics.export.selection import Selection
from agora_analytics.export.state import marks
from agora_analytics.export.state.progress import PendingCall, State
from agora_analytics.export.state.staging import Packed, packed
from agora_analytics.export.state.state_thread import Disk
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import Batch, unpack
from agora_analytics.models import Session, SessionMetrics, SessionPage
from agora_analytics.plans import CALL_SESSIONS
from agora_analytics.spans import Span

EXPIRED: Final = "expired"
UNASKABLE: Final = "an id that cannot be asked for"
T = TypeVar("T")

_BATCHES: Final = validation.PAGE_SIZE // validation.SIDS
"""Requests for metrics that the sessions of a page need at most."""


@attrs.define
class _Work:
    """A call that is being worked on: its endpoints, the parts of its span, and its sessions, page by page.

    `reading` is how far the list of sessions is read.
    """

    groups: Groups
    call: PendingCall
    spans: tuple[Span, ...]
    pages: list[tuple[str, ...]]
    reading: ListProgress[Session] | None = None
    _seen: set[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._seen = set(chain.from_iterable(self.pages))

    def turn(self, page: tuple[Session, ...]) -> tuple[Session, ...]:
        """Take in a page, and return the sessions that none had before."""
        new = {one.sid: one for one in page if one.sid not in self._seen}
        self.pages.append(tuple(new))
        self._seen.update(new)
        return tuple(new.values())

    def last(self, cursor: Cursor) -> bool:
        """Whether a cursor is in the last part of the span."""
        return cursor.part + 1 == len(self.spans)


class Details:
    """Asks for the details of calls."""

    def __init__(self, session: Dispatcher, selection: Selection, disk: Disk, asking: Asking, expiry: Expiry) -> None:
        self._session = session
        self._selection = selection
        self._disk = disk
        self._ask = self._asking = asking
        self._learned = TruncationState()
        self._expiry = expiry
        self._limits = session.plan.of_endpoint(CALL_SESSIONS)
        self._first = Cursor(SESSIONS if selection.sessions else STATISTICS, cut=self._limits.longest_query)
        self._steps = {SESSIONS: self._sessions, METRICS: self._metrics, STATISTICS: self._statistics}

    async def fetch(self, groups: Groups, call: PendingCall) -> bool:
        """Ask for all of a call that is still missing, and return whether the service answered.

        What it keeps no longer, or cannot tell, is left out. Raises its refusals; `Refusals` finds out what they mean.
        """
        try:
            return await self._fetch(groups, call)
        except TooOldError:
            self._expiry.refused(CALL_SESSIONS, call.span.start)
            await self._leave_out(call, EXPIRED)
        except IncompleteList as error:
            await self._leave_out(call, type(error).__name__, error)
        return False

    async def _fetch(self, groups: Groups, call: PendingCall) -> bool:
        if not validation.is_sendable(call.call_id):
            await self._leave_out(call, UNASKABLE)
            return False
        begun = call.cursor or self._first
        if begun.cut > self._limits.longest_query:
            await self._leave_out(call, "begun under a plan that allowed longer spans")
            return False
        pages = await self._disk.change(lambda state: state.pages(call.id)) if call.cursor else []
        work = _Work(groups, call, call.span.slices(begun.cut), pages)
        cursor: Cursor | None = begun
        while cursor is not None:
            cursor = await self._steps[cursor.step](work, cursor)
        return True

    async def _asked(self, work: _Work, ask: Callable[[], Awaitable[T]]) -> T:
        return await self._ask(ask, self._timely(work), like=f"details {work.call.app}")

    def _timely(self, work: _Work) -> Callable[[], Awaitable[float]]:
        """Return what makes sure, before every attempt, that a call can still be asked about, and already."""
        call, page = work.call, work.groups.calls.sessions_page

        async def check() -> float:
            await self._expiry.check(
                CALL_SESSIONS,
                call.span.start,
                lambda second: Question(second, partial(page, call.call_id, second, second + 1)),
            )
            early = call.span.end - self._limits.newest(self._session.now())
            return early if early > 0 and self._session.confirmed else 0.0

        return check

    async def _sessions(self, work: _Work, cursor: Cursor) -> Cursor | None:
        call, span = work.call, work.spans[cursor.part]
        found, verdict, missing = await self._page(work, cursor, span)
        count = cursor.count + len(found)
        new = work.turn(found)
        if verdict is PageOutcome.MORE:
            total = (work.reading.total if work.reading else None) or 0
            after = self._due(work, attrs.evolve(cursor, page=cursor.page + 1, count=count, total=total))
        elif not work.last(cursor):
            after = self._due(work, Cursor(SESSIONS, cut=cursor.cut, part=cursor.part + 1))
        else:
            after = self._due(work, Cursor(METRICS, cut=cursor.cut))
        wanted = "sessions" in self._selection.datasets
        batch = column_batch.sessions(call.app, call.call_id, new) if wanted else None
        rows = packed(batch) if batch else None

        def keep(state: State) -> None:
            if batch is not None and rows is not None:
                state.stage(call.app, call.day, rows)
                marks.undated(state, call.app, batch)
            if after is not None:
                state.keep_page(call.id, work.pages[-1])
            self._proceed(state, call, after, begun=len(work.pages) > 1)

        await self._disk.change(keep)
        if missing:
            raise missing[0]
        return after

    async def _page(
        self, work: _Work, cursor: Cursor, span: Span
    ) -> tuple[tuple[Session, ...], PageOutcome, list[IncompleteList]]:
        """Return a page of sessions, or all that can be had of a list that is cut off, and what cannot."""
        part = ListQuery(span)
        if cursor.page == 1 or work.reading is None:
            work.reading = self._learned.reading(
                truncation.SESSIONS, part, count=cursor.count, total=cursor.total or None
            )
        reading, items = work.reading, tuple[Session, ...]()
        try:
            page = await self._ask_page(work, part, cursor.page)
        except ResponseError as error:
            if not truncation.is_depth(error, cursor.page):
                raise
            reading.refuse(error)
        else:
            reading.take(page)
            items = page.items
        verdict = self._learned.verdict(part, reading)
        if verdict is not PageOutcome.TRUNCATED:
            return items, verdict, []
        rest, missing = await self._rest(work, part, reading)
        return (*items, *rest), verdict, missing

    async def _rest(
        self, work: _Work, part: ListQuery, reading: ListProgress[Session]
    ) -> tuple[list[Session], list[IncompleteList]]:
        """Return the sessions of a list that was cut off, asked for in narrower parts, and what cannot be had."""
        parts = self._learned.narrower(part, reading, fruitful=True)
        if parts is None:
            return [], [truncation.incomplete(part, reading)]
        log.warning("export: the service cut off the sessions of call %s", work.call.call_id)
        missing: list[IncompleteList] = []

        async def fetch(part: ListQuery, number: int) -> SessionPage:
            self._asking.narrowed += 1
            return await self._ask_page(work, part, number)

        rows = paging.rows(
            parts[::-1], fetch, truncation.SESSIONS, read_ahead=False, missing=missing.append, learned=self._learned
        )
        async with aclosing(rows) as found:
            return [user async for user in found], missing

    async def _ask_page(self, work: _Work, part: ListQuery, number: int) -> SessionPage:
        page = work.groups.calls.sessions_page
        return await self._asked(work, lambda: page(work.call.call_id, *part.span, page_no=number))

    async def _metrics(self, work: _Work, cursor: Cursor) -> Cursor | None:
        call, span = work.call, work.spans[cursor.part]
        page, batch = divmod(cursor.number, _BATCHES)
        listed = work.pages[page][batch * validation.SIDS : (batch + 1) * validation.SIDS]
        sids = tuple(filter(validation.is_without_commas, listed))

        async def ask() -> list[SessionMetrics]:
            return [one async for one in work.groups.calls.metrics(call.call_id, sids, *span)]

        found = await self._asked(work, ask) if sids else []
        # Packed at once, and session by session: sixteen answers of a hundred thousand points each may wait here.
        undated: list[Batch] = []
        pieces = [self._packed(call, found.pop(0), undated) for _ in range(len(found))]
        last = work.last(cursor)
        after = self._due(work, attrs.evolve(cursor, part=0 if last else cursor.part + 1, number=cursor.number + last))

        def keep(state: State) -> None:
            halves = state.take_halves(call.id) if last and len(work.spans) > 1 else ()
            whole = _whole((*halves, *pieces)) if halves else pieces
            silent = len(sids) - _measured(whole, merged=bool(halves)) if last else 0
            if silent > 0:  # metrics of sessions that were not asked for may come, too
                state.skip(call.app, UNMEASURED, silent, "")
            for piece in whole:
                if last:
                    state.stage(call.app, call.day, piece)
                else:
                    state.keep_half(call.id, piece)
            for batch in undated:
                marks.undated(state, call.app, batch)
            if last and len(sids) < len(listed):
                state.skip(call.app, METRICS, len(listed) - len(sids), f"a session with {UNASKABLE}")
            self._proceed(state, call, after)

        await self._disk.change(keep)
        return after

    async def _statistics(self, work: _Work, cursor: Cursor) -> Cursor | None:
        call, span = work.call, work.spans[cursor.part]
        one = self._selection.breakdowns[cursor.number]
        rows = await self._asked(
            work, lambda: work.groups.calls.statistics(call.call_id, one.metric, one.dimension, *span)
        )
        asked = (one.metric, one.dimension)
        piece = packed(column_batch.statistics(call.app, call.call_id, asked, (span.start, span.end), rows))
        number = (cursor.number + 1) % len(self._selection.breakdowns)
        after: Cursor | None = attrs.evolve(cursor, number=number, part=cursor.part + (number == 0))
        if number == 0 and work.last(cursor):
            after = None

        def keep(state: State) -> None:
            state.stage(call.app, call.day, piece)
            self._proceed(state, call, after)

        await self._disk.change(keep)
        return after

    def _due(self, work: _Work, cursor: Cursor) -> Cursor | None:
        """Return a cursor, or the next where it has nothing to ask; None after the last."""
        if cursor.step == METRICS and self._selection.metrics:
            page, batch = divmod(cursor.number, _BATCHES)
            while page < len(work.pages) and len(work.pages[page]) <= batch * validation.SIDS:
                page, batch = page + 1, 0
            if page < len(work.pages):
                return attrs.evolve(cursor, number=page * _BATCHES + batch)
        if cursor.step == SESSIONS:
            return cursor
        return Cursor(STATISTICS, cut=cursor.cut) if self._selection.breakdowns else None

    def _proceed(self, state: State, call: PendingCall, cursor: Cursor | None, *, begun: bool = True) -> None:
        """Keep where a call is; `begun` tells that there may be something to forget of it at its end."""
        if cursor is None:
            state.end_call(call.id, begun=begun)
        else:
            state.move_on(call, cursor)

    def _packed(self, call: PendingCall, found: SessionMetrics, undated: list[Batch]) -> Packed:
        """Pack the metrics of a session; a batch with times that are no dates is noted."""
        batch = self._measured(call, found)
        if batch.undated:
            undated.append(batch)
        return packed(batch)

    def _measured(self, call: PendingCall, found: SessionMetrics) -> Batch:
        mids = self._selection.mids
        wanted = attrs.evolve(found, data=tuple(one for one in found.data if one.mid in mids)) if mids else found
        return column_batch.metrics(call.app, call.call_id, (wanted,))

    async def _leave_out(self, call: PendingCall, reason: str, error: Exception | None = None) -> None:
        if error is not None:
            log.warning("export: call %s is left out: %s", call.call_id, error)
        await self._disk.change(lambda state: state.leave_out(call.id, reason))


def _measured(pieces: Sequence[Packed], *, merged: bool) -> int:
    """Return of how many sessions there are metrics: a piece is of one session, unless they were merged."""
    if not merged:
        return sum(piece.count > 0 for piece in pieces)
    return sum(len(set(unpack(piece.dataset, piece.stored).column("sid"))) for piece in pieces)


def _whole(pieces: Sequence[Packed]) -> list[Packed]:
    """Merge what the parts of a call's span told of the same sessions: each moment of a track once."""
    found = [unpack(piece.dataset, piece.stored) for piece in pieces if piece.count]
    return [packed(column_batch.joined(found).once("sid", "mid", "peer_uid", "ts"))] if found else []
