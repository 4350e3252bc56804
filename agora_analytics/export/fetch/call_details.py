"""Fetches the details of one call: its sessions, page by page, their metrics, 20 at a time, and its statistics.

The requests of a call follow one another. Each answer is saved in one transaction with the cursor of the next request,
so that another run resumes there. A call that is longer than one request may cover is fetched in slices: the list of
sessions of each slice, and for each batch of sessions the metrics of each slice, which are merged after the last one.

```text
sessions: slice 1 page 1, 2, … ─> slice 2 page 1, … ─> metrics: batch 1 slice 1, 2 ─> batch 2 slice 1, … ─> statistics
```
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
from agora_analytics.export.fetch.call_cursor import METRICS, SESSIONS, STATISTICS, CallCursor
from agora_analytics.export.fetch.fetcher import RetentionExpired, RetryingFetcher, log
from agora_analytics.export.fetch.retention import Probe, RetentionTracker
from agora_analytics.export.fetch.skip_reasons import UNMEASURED
from agora_analytics.export.fetch.sources import EndpointSet
from agora_analytics.export.selection import Selection
from agora_analytics.export.state import marks
from agora_analytics.export.state.calls import PendingCall
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.staging import SerializedRows, serialized
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import ColumnBatch, deserialize
from agora_analytics.models import Session, SessionMetrics, SessionPage
from agora_analytics.plans import CALL_SESSIONS
from agora_analytics.spans import Span

EXPIRED: Final = "expired"
INVALID_ID: Final = "an id that cannot be sent"
T = TypeVar("T")

_BATCHES_PER_PAGE: Final = validation.PAGE_SIZE // validation.SIDS
"""Requests for metrics that the sessions of a page need at most."""


@attrs.define
class CallProgress:
    """A call that is being fetched.

    Attributes:
        slices: the slices of its span, one request each.
        pages: ids of its sessions by page, each id once.
        reading: how far the list of sessions of the current slice is read.

    """

    endpoints: EndpointSet
    call: PendingCall
    slices: tuple[Span, ...]
    pages: list[tuple[str, ...]]
    reading: ListProgress[Session] | None = None
    _seen: set[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._seen = set(chain.from_iterable(self.pages))

    def add_page(self, page: tuple[Session, ...]) -> tuple[Session, ...]:
        """Add a page, and return its sessions that no page before had."""
        new = {session.sid: session for session in page if session.sid not in self._seen}
        self.pages.append(tuple(new))
        self._seen.update(new)
        return tuple(new.values())

    def is_last_slice(self, cursor: CallCursor) -> bool:
        """Whether a cursor is in the last slice of the span."""
        return cursor.slice + 1 == len(self.slices)

    def batch(self, cursor: CallCursor) -> tuple[str, ...]:
        """Return the ids of the sessions whose metrics are next."""
        page, batch = divmod(cursor.item, _BATCHES_PER_PAGE)
        return self.pages[page][batch * validation.SIDS : (batch + 1) * validation.SIDS]


class CallDetailsFetcher:
    """Fetches the details of pending calls."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        selection: Selection,
        state_thread: StateThread,
        fetcher: RetryingFetcher,
        retention: RetentionTracker,
    ) -> None:
        self._dispatcher = dispatcher
        self._selection = selection
        self._state_thread = state_thread
        self._fetcher = fetcher
        self._learned = TruncationState()
        self._retention = retention
        self._limits = dispatcher.plan.of_endpoint(CALL_SESSIONS)
        self._first = CallCursor(
            SESSIONS if selection.sessions else STATISTICS, slice_seconds=self._limits.longest_query
        )
        self._stages = {SESSIONS: self._sessions, METRICS: self._metrics, STATISTICS: self._statistics}

    async def fetch(self, endpoints: EndpointSet, call: PendingCall) -> bool:
        """Fetch what is missing of a call, and return whether the service answered.

        Skips a call that has expired, or whose list of sessions stays incomplete. Raises refusals:
        `RefusalClassifier` finds out what they concern.
        """
        try:
            return await self._fetch(endpoints, call)
        except RetentionExpired:
            self._retention.record_expired(CALL_SESSIONS, call.span.start)
            await self._skip(call, EXPIRED)
        except IncompleteList as error:
            await self._skip(call, type(error).__name__, error)
        return False

    async def _fetch(self, endpoints: EndpointSet, call: PendingCall) -> bool:
        if not validation.is_sendable(call.call_id):
            await self._skip(call, INVALID_ID)
            return False
        first = call.cursor or self._first
        # The cursor counts in slices of that length: with shorter ones it would point to another place.
        if first.slice_seconds > self._limits.longest_query:
            await self._skip(call, "begun under a plan that allowed longer spans")
            return False
        # A call without a cursor has no pages: most calls need no query for them.
        pages = await self._state_thread.change(lambda state: state.pages(call.id)) if call.cursor else []
        progress = CallProgress(endpoints, call, call.span.slices(first.slice_seconds), pages)
        cursor: CallCursor | None = first
        while cursor is not None:
            cursor = await self._stages[cursor.stage](progress, cursor)
        return True

    async def _send(self, progress: CallProgress, send: Callable[[], Awaitable[T]]) -> T:
        return await self._fetcher(send, self._queryable_check(progress), category=f"details {progress.call.app}")

    def _queryable_check(self, progress: CallProgress) -> Callable[[], Awaitable[float]]:
        """Return the check before every attempt: that a call has not expired, and how long until it is queryable."""
        call, page = progress.call, progress.endpoints.calls.sessions_page

        async def check() -> float:
            await self._retention.check(
                CALL_SESSIONS,
                call.span.start,
                lambda second: Probe(second, partial(page, call.call_id, second, second + 1)),
            )
            early = call.span.end - self._limits.newest(self._dispatcher.time.utc_second())
            return early if early > 0 and self._dispatcher.time.confirmed else 0.0

        return check

    # Sessions

    async def _sessions(self, progress: CallProgress, cursor: CallCursor) -> CallCursor | None:
        call, span = progress.call, progress.slices[cursor.slice]
        sessions, verdict, missing = await self._sessions_page(progress, cursor, span)
        new = progress.add_page(sessions)
        following = self._after_page(progress, cursor, verdict, rows_read=cursor.rows_read + len(sessions))
        wanted = "sessions" in self._selection.datasets
        batch = column_batch.sessions(call.app, call.call_id, new) if wanted else None
        rows = serialized(batch) if batch else None

        def save(state: ExportState) -> None:
            if batch is not None and rows is not None:
                state.stage(call.app, call.day, rows)
                marks.count_invalid_times(state, call.app, batch)
            # A call that ends with this page is never resumed.
            if following is not None:
                state.add_page(call.id, progress.pages[-1])
            self._advance(state, call, following, begun=len(progress.pages) > 1)

        await self._state_thread.change(save)
        if missing:
            raise missing[0]
        return following

    def _after_page(
        self, progress: CallProgress, cursor: CallCursor, verdict: PageOutcome, *, rows_read: int
    ) -> CallCursor | None:
        """Return the cursor after a page of sessions: the next page, the next slice, or the metrics."""
        if verdict is PageOutcome.MORE:
            total = (progress.reading.total if progress.reading else None) or 0
            return self._skip_empty(
                progress, attrs.evolve(cursor, page=cursor.page + 1, rows_read=rows_read, total=total)
            )
        if not progress.is_last_slice(cursor):
            return self._skip_empty(
                progress, CallCursor(SESSIONS, slice_seconds=cursor.slice_seconds, slice=cursor.slice + 1)
            )
        return self._skip_empty(progress, CallCursor(METRICS, slice_seconds=cursor.slice_seconds))

    async def _sessions_page(
        self, progress: CallProgress, cursor: CallCursor, span: Span
    ) -> tuple[tuple[Session, ...], PageOutcome, list[IncompleteList]]:
        """Return a page of sessions, or all that can be read of a truncated list, and what cannot."""
        part = ListQuery(span)
        if cursor.page == 1 or progress.reading is None:
            progress.reading = self._learned.reading(
                truncation.SESSIONS, part, count=cursor.rows_read, total=cursor.total or None
            )
        reading, items = progress.reading, tuple[Session, ...]()
        try:
            page = await self._request_page(progress, part, cursor.page)
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
        rest, missing = await self._read_narrower(progress, part, reading)
        return (*items, *rest), verdict, missing

    async def _read_narrower(
        self, progress: CallProgress, part: ListQuery, reading: ListProgress[Session]
    ) -> tuple[list[Session], list[IncompleteList]]:
        """Return the sessions of a truncated list, read in narrower parts, and what cannot be read."""
        parts = self._learned.narrower(part, reading, has_new_rows=True)
        if parts is None:
            return [], [truncation.incomplete(part, reading)]
        log.warning("export: the service truncated the sessions of call %s", progress.call.call_id)
        missing: list[IncompleteList] = []

        async def fetch(part: ListQuery, number: int) -> SessionPage:
            self._fetcher.narrowed += 1
            return await self._request_page(progress, part, number)

        rows = paging.rows(
            parts[::-1], fetch, truncation.SESSIONS, read_ahead=False, missing=missing.append, learned=self._learned
        )
        async with aclosing(rows) as sessions:
            return [session async for session in sessions], missing

    async def _request_page(self, progress: CallProgress, part: ListQuery, number: int) -> SessionPage:
        page = progress.endpoints.calls.sessions_page
        return await self._send(progress, lambda: page(progress.call.call_id, *part.span, page_no=number))

    # Metrics

    async def _metrics(self, progress: CallProgress, cursor: CallCursor) -> CallCursor | None:
        # One answer and the transaction that saves it belong together: longer than 25 lines for that.
        call, span = progress.call, progress.slices[cursor.slice]
        batch = progress.batch(cursor)
        # The service splits the list at commas: such an id would request the metrics of other sessions.
        sids = tuple(filter(validation.is_without_commas, batch))
        answer = await self._request_metrics(progress, sids, span) if sids else []
        # Serialized at once, and session by session: sixteen answers of 100,000 points each may be held here.
        undated: list[ColumnBatch] = []
        pieces = [self._pack_metrics(call, answer.pop(0), undated) for _ in range(len(answer))]
        last = progress.is_last_slice(cursor)
        following = self._skip_empty(
            progress, attrs.evolve(cursor, slice=0 if last else cursor.slice + 1, item=cursor.item + last)
        )

        def save(state: ExportState) -> None:
            if last:
                partials = state.take_partials(call.id) if len(progress.slices) > 1 else ()
                _stage_metrics(state, call, pieces, partials, requested=len(sids))
            else:
                # Not staged yet: a part of the file could be sealed with half of the session's points.
                for piece in pieces:
                    state.add_partial(call.id, piece)
            for rows in undated:
                marks.count_invalid_times(state, call.app, rows)
            if last and len(sids) < len(batch):
                state.add_misfits(call.app, METRICS, len(batch) - len(sids), f"a session with {INVALID_ID}")
            self._advance(state, call, following)

        await self._state_thread.change(save)
        return following

    async def _request_metrics(self, progress: CallProgress, sids: tuple[str, ...], span: Span) -> list[SessionMetrics]:
        calls, call_id = progress.endpoints.calls, progress.call.call_id

        async def send() -> list[SessionMetrics]:
            return [metrics async for metrics in calls.metrics(call_id, sids, *span)]

        return await self._send(progress, send)

    def _pack_metrics(self, call: PendingCall, metrics: SessionMetrics, undated: list[ColumnBatch]) -> SerializedRows:
        """Serialize the metrics of a session; a batch with times that are no dates is added to `undated`."""
        batch = self._metrics_batch(call, metrics)
        if batch.invalid_times:
            undated.append(batch)
        return serialized(batch)

    def _metrics_batch(self, call: PendingCall, metrics: SessionMetrics) -> ColumnBatch:
        mids = self._selection.mids
        if mids:
            metrics = attrs.evolve(metrics, data=tuple(track for track in metrics.data if track.mid in mids))
        return column_batch.metrics(call.app, call.call_id, (metrics,))

    # Statistics

    async def _statistics(self, progress: CallProgress, cursor: CallCursor) -> CallCursor | None:
        call, span = progress.call, progress.slices[cursor.slice]
        breakdown = self._selection.breakdowns[cursor.item]
        metric, dimension = breakdown.metric, breakdown.dimension
        rows = await self._send(
            progress, lambda: progress.endpoints.calls.statistics(call.call_id, metric, dimension, *span)
        )
        piece = serialized(
            column_batch.statistics(call.app, call.call_id, (metric, dimension), (span.start, span.end), rows)
        )
        item = (cursor.item + 1) % len(self._selection.breakdowns)
        following: CallCursor | None = attrs.evolve(cursor, item=item, slice=cursor.slice + (item == 0))
        if item == 0 and progress.is_last_slice(cursor):
            following = None

        def save(state: ExportState) -> None:
            state.stage(call.app, call.day, piece)
            self._advance(state, call, following)

        await self._state_thread.change(save)
        return following

    # The cursor

    def _skip_empty(self, progress: CallProgress, cursor: CallCursor) -> CallCursor | None:
        """Return the cursor, or the next one that has something to request; None after the last."""
        if cursor.stage == METRICS and self._selection.metrics:
            page, batch = divmod(cursor.item, _BATCHES_PER_PAGE)
            while page < len(progress.pages) and len(progress.pages[page]) <= batch * validation.SIDS:
                page, batch = page + 1, 0
            if page < len(progress.pages):
                return attrs.evolve(cursor, item=page * _BATCHES_PER_PAGE + batch)
        if cursor.stage == SESSIONS:
            return cursor
        return CallCursor(STATISTICS, slice_seconds=cursor.slice_seconds) if self._selection.breakdowns else None

    def _advance(self, state: ExportState, call: PendingCall, cursor: CallCursor | None, *, begun: bool = True) -> None:
        """Save the cursor of a call, or its end; `begun` is whether the state holds anything to delete then."""
        if cursor is None:
            state.finish_call(call.id, begun=begun)
        else:
            state.set_cursor(call, cursor)

    async def _skip(self, call: PendingCall, reason: str, error: Exception | None = None) -> None:
        if error is not None:
            log.warning("export: skipping call %s: %s", call.call_id, error)
        await self._state_thread.change(lambda state: state.skip_call(call.id, reason))


def _stage_metrics(
    state: ExportState,
    call: PendingCall,
    pieces: Sequence[SerializedRows],
    partials: Sequence[SerializedRows],
    *,
    requested: int,
) -> None:
    """Stage the metrics of a batch of sessions, merged with those of earlier slices of the call's span.

    Counts the sessions without metrics, of which `requested` were requested.
    """
    # Neighbouring parts of a span may both report the point at their border.
    merged = _merge_partials((*partials, *pieces)) if partials else pieces
    silent = requested - _sessions_with_metrics(merged, merged=bool(partials))
    if silent > 0:  # the service may also send metrics of sessions that were not requested
        state.add_misfits(call.app, UNMEASURED, silent, "")
    for piece in merged:
        state.stage(call.app, call.day, piece)


def _sessions_with_metrics(pieces: Sequence[SerializedRows], *, merged: bool) -> int:
    """Return how many sessions have metrics: each piece is of one session, unless they were merged."""
    if not merged:
        return sum(piece.count > 0 for piece in pieces)
    return sum(len(set(deserialize(piece.dataset, piece.payload).column("sid"))) for piece in pieces)


def _merge_partials(pieces: Sequence[SerializedRows]) -> list[SerializedRows]:
    """Merge the metrics of several slices of a call's span: each point of a track once, as it came last."""
    batches = [deserialize(piece.dataset, piece.payload) for piece in pieces if piece.count]
    return [serialized(column_batch.concat(batches).drop_duplicates("sid", "mid", "peer_uid", "ts"))] if batches else []
