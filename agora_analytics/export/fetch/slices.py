"""Fetches slices: lists of calls, page by page, and series.

Each answer is saved in one transaction with the mark that it need not be requested again, so that a run that is killed
repeats at most the requests in flight.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial

import attrs

from agora_analytics._core import paging, truncation
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics._core.truncation import ListProgress, ListQuery, PageOutcome, TruncationState
from agora_analytics.errors import IncompleteList, PlanRefused, ResponseError
from agora_analytics.export.fetch.fetcher import RetentionExpired, RetryingFetcher, log
from agora_analytics.export.fetch.retention import RetentionTracker
from agora_analytics.export.fetch.slice_planner import SlicePlanner
from agora_analytics.export.fetch.sources import CallSource, EndpointSet, SeriesSource, Slice, Source
from agora_analytics.export.selection import Selection, wants
from agora_analytics.export.state import marks
from agora_analytics.export.state.calls import CallStatus
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import PendingSlice, SpanStatus
from agora_analytics.export.state.staging import serialized
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.export.write import column_batch
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.models import Call, CallPage
from agora_analytics.spans import DAY, Span


class SliceFetcher:
    """Fetches pending slices, and stages their rows."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        selection: Selection,
        state_thread: StateThread,
        fetcher: RetryingFetcher,
        retention: RetentionTracker,
        *,
        planner: SlicePlanner,
    ) -> None:
        self._dispatcher = dispatcher
        self._selection = selection
        self._state_thread = state_thread
        self._fetcher = fetcher
        self._retention = retention
        self._planner = planner
        self._learned = TruncationState()

    async def fetch(self, endpoints: EndpointSet, source: Source, pending: PendingSlice) -> None:
        """Fetch what is missing of a slice; what has expired meanwhile is marked so."""
        remaining = [pending]
        while remaining:
            remaining += await self._step(endpoints, source, remaining.pop())

    async def probe_clock(self, endpoints: EndpointSet, source: Source, pending: PendingSlice) -> None:
        """Fetch a slice that is due by a clock that may be wrong. Whatever the answer, its date sets the clock."""
        remaining = [pending]
        try:
            while remaining:
                remaining += await self._request(endpoints, source, remaining.pop())
        except RetentionExpired:
            self._retention.record_expired(source.endpoint, pending.slice.span.start)
            await self._state_thread.change(lambda state: state.delete_slice(pending))
        except PlanRefused as error:
            # Too recent by the service's clock: the slice is planned again once that is known.
            if error.kind != "latency":
                raise
            await self._state_thread.change(lambda state: state.delete_slice(pending))

    async def _step(self, endpoints: EndpointSet, source: Source, pending: PendingSlice) -> list[PendingSlice]:
        """Make one request, and return what remains of a slice, with what is next at the end."""
        try:
            return await self._request(endpoints, source, pending)
        except RetentionExpired:
            begin = source.earliest(self._retention.record_expired(source.endpoint, pending.slice.span.start))
            rest = await self._state_thread.change(partial(marks.drop_expired, source=source, one=pending, begin=begin))
            return [rest] if rest else []

    async def _request(self, endpoints: EndpointSet, source: Source, pending: PendingSlice) -> list[PendingSlice]:
        slices = self._planner.split_beginning(source, pending.slice.span)
        if len(slices) != 1:
            return await self._divide(endpoints, source, pending, slices)
        if isinstance(source, CallSource):
            return await self._page(endpoints, source, pending)
        await self._series(endpoints, source, pending)
        return []

    async def _divide(
        self, endpoints: EndpointSet, source: Source, pending: PendingSlice, slices: Sequence[Slice]
    ) -> list[PendingSlice]:
        """Replace a slice that is too long by its first parts and the rest, if the service has its beginning.

        A probe of the beginning finds that out: if it has expired, `_step` gets a `RetentionExpired`.
        """
        span, owned_until = pending.slice.span, pending.slice.owned_until
        if slices:
            # Probed before it is split: a span of years may have expired, and would become thousands of slices.
            probe = source.probe(endpoints, pending.app, span.start)
            await self._fetcher(probe.send, self._queryable_check(endpoints, source, pending))
        *parts, last = slices or (None,)
        rest = Slice(Span(last.span.start, span.end), owned_until) if last else None
        return await self._state_thread.change(
            lambda state: state.split_slice(pending, filter(None, (*parts, rest)), 0)[::-1]
        )

    def _queryable_check(
        self, endpoints: EndpointSet, source: Source, pending: PendingSlice
    ) -> Callable[[], Awaitable[float]]:
        """Return the check before every attempt: that a slice has not expired, and how long until it is queryable."""
        limits, span = self._dispatcher.plan.of_endpoint(source.endpoint), pending.slice.span

        async def check() -> float:
            await self._retention.check(source.endpoint, span.start, partial(source.probe, endpoints, pending.app))
            early = span.end - limits.newest(self._dispatcher.time.utc_second())
            return early if early > 0 and self._dispatcher.time.confirmed else 0.0

        return check

    def _passed(self, before: int) -> int:
        """Return what had certainly passed at `before`, now that an answer has improved the clock."""
        return min(before, self._dispatcher.time.passed_second())

    # Lists of calls

    async def _page(self, endpoints: EndpointSet, source: CallSource, pending: PendingSlice) -> list[PendingSlice]:
        part = ListQuery(pending.slice.span, rows_before=pending.rows_before)
        reading = pending.reading or self._learned.reading(truncation.calls(source.cname), part, count=pending.count)
        now = self._dispatcher.time.passed_second()
        self._fetcher.narrowed += bool(pending.rows_before)
        calls = await self._read(endpoints, source, pending, reading)
        # A call that appears after the first page was requested is on no page.
        requested_at = self._passed(now) if pending.page == 1 else pending.requested_at
        verdict = self._learned.verdict(part, reading)
        # A second is the shortest span, so its list can be narrowed only by channel.
        if verdict is PageOutcome.TRUNCATED and part.span.duration == 1 and source.cname is None and reading.channels:
            return await self._page_by_channel(endpoints, source, pending, requested_at)

        def save(state: ExportState) -> list[PendingSlice]:
            new = self._store_calls(state, pending.app, calls)
            if verdict is PageOutcome.MORE:
                return [_turn_page(state, pending, reading, requested_at)]
            if verdict is PageOutcome.TRUNCATED:
                return self._narrow(
                    state, source, pending, reading, requested_at, has_new_rows=pending.page > 1 or new > 0
                )
            self._finish(state, source, pending, requested_at, SpanStatus.READ)
            return []

        return await self._state_thread.change(save)

    async def _read(
        self, endpoints: EndpointSet, source: CallSource, pending: PendingSlice, reading: ListProgress[Call]
    ) -> tuple[Call, ...]:
        """Fetch the next page of a slice, and add it to the reading."""
        span = pending.slice.span
        try:
            page = await self._fetcher(
                lambda: endpoints.calls.page(*span, cname=source.cname, page_no=pending.page),
                self._queryable_check(endpoints, source, pending),
                category=f"{source} {pending.app}",
            )
        except ResponseError as error:
            if not truncation.is_depth(error, pending.page):
                raise
            reading.refuse(error)
            return ()
        reading.take(page)
        return page.items

    def _narrow(
        self,
        state: ExportState,
        source: CallSource,
        pending: PendingSlice,
        reading: ListProgress[Call],
        requested_at: int,
        *,
        has_new_rows: bool,
    ) -> list[PendingSlice]:
        """Replace a slice whose list was truncated by narrower ones, or end it if none can be made."""
        part = ListQuery(pending.slice.span, rows_before=pending.rows_before)
        parts = self._learned.narrower(part, reading, has_new_rows=has_new_rows)
        if not parts:
            if parts is not None:
                log.warning("export: ignoring total_size of calls from now on: it is wrong for %s", part.span)
            self._finish(
                state, source, pending, requested_at, SpanStatus.TRUNCATED if parts is None else SpanStatus.READ
            )
            return []
        log.warning("export: the service truncated the list of %s of %s", source, part.span)
        # What is newer than the narrower parts was read, and need not be read again if the run ends here.
        reached = parts[0].span.end
        if reached < pending.slice.owned_until and not pending.again:
            newer = Slice(Span(reached, pending.slice.owned_until), pending.slice.owned_until)
            state.mark_span(
                pending.app,
                pending.source,
                marks.part_before(newer, source.final_before(requested_at)),
                SpanStatus.READ,
            )
        slices = (Slice(part.span, part.span.end) for part in reversed(parts))
        return state.split_slice(pending, slices, parts[0].rows_before)

    def _finish(
        self, state: ExportState, source: CallSource, pending: PendingSlice, requested_at: int, kind: int
    ) -> None:
        """Remove a slice, and mark its span with the outcome."""
        # A span that is read again for its open calls keeps its status.
        if not pending.again:
            state.mark_span(
                pending.app, pending.source, marks.part_before(pending.slice, source.final_before(requested_at)), kind
            )
        if kind == SpanStatus.TRUNCATED:
            log.warning("export: calls of %s are missing: the service truncates its list", pending.slice.span)
        state.delete_slice(pending)

    async def _page_by_channel(
        self, endpoints: EndpointSet, source: CallSource, pending: PendingSlice, requested_at: int
    ) -> list[PendingSlice]:
        """Fetch a second whose list is truncated, channel by channel."""
        calls, missing = await self._read_by_channel(endpoints, source, pending)

        def save(state: ExportState) -> list[PendingSlice]:
            self._store_calls(state, pending.app, calls)
            kind = SpanStatus.TRUNCATED if missing else SpanStatus.READ
            self._finish(state, source, pending, requested_at, kind)
            return []

        return await self._state_thread.change(save)

    async def _read_by_channel(
        self, endpoints: EndpointSet, source: CallSource, pending: PendingSlice
    ) -> tuple[list[Call], list[IncompleteList]]:
        """Return the calls of a truncated list, and what is missing of them."""
        missing: list[IncompleteList] = []

        async def fetch(part: ListQuery, number: int) -> CallPage:
            self._fetcher.narrowed += 1
            return await self._fetcher(
                lambda: endpoints.calls.page(*part.span, cname=part.cname, page_no=number),
                self._queryable_check(endpoints, source, pending),
            )

        spans = [pending.slice.span]
        rows = paging.rows(
            spans, fetch, truncation.CALLS, read_ahead=False, missing=missing.append, learned=self._learned
        )
        async with aclosing(rows) as calls:
            return [call async for call in calls], missing

    def _store_calls(self, state: ExportState, app: str, calls: Sequence[Call]) -> int:
        """Store calls that are new, or have ended since, stage their rows, and return how many are new.

        The row of an open call is provisional: the next version of the call replaces it.
        """
        ended_by_day: dict[int, list[Call]] = {}
        new = 0
        for call in calls:
            known = state.find_call(app, call.call_id)
            new += known is None
            # Listed twice: slices overlap, and rows move to the next page while new calls arrive.
            if known is not None and known[1] != CallStatus.OPEN:
                continue
            number, day = self._store_call(state, app, call)
            if known is not None:
                state.take_provisional(f"call {number}")
            if not wants(self._selection, call) or "calls" not in self._selection.datasets:
                continue
            if call.is_over:
                ended_by_day.setdefault(day, []).append(call)
            else:
                row = serialized(column_batch.calls(app, [call]))
                state.stage(app, day, row, source=f"call {number}", provisional=True)
        # One batch for each day, which is a partition.
        for day, ended in ended_by_day.items():
            batch = column_batch.calls(app, ended)
            state.stage(app, day, serialized(batch))
            marks.count_invalid_times(state, app, batch)
        return new

    def _store_call(self, state: ExportState, app: str, call: Call) -> tuple[int, int]:
        """Store a call with its status, and return its number and its day."""
        wanted = wants(self._selection, call) and self._selection.details
        over = call.is_over
        status = (CallStatus.PENDING if wanted else CallStatus.DONE) if over else CallStatus.OPEN
        # An impossible time is stored as 0: the row has null there, and the call must have some day.
        start = (call.created_ts or 0) if call.started_at else 0
        known = call.span if over else None
        span = known or Span(start, start + 1)
        number = state.upsert_call(app, call, span, status, marks.score(call))
        if status == CallStatus.PENDING and known is None:
            state.skip_call(number, "without a start or an end")
        return number, span.start // DAY

    # Series

    async def _series(self, endpoints: EndpointSet, source: SeriesSource, pending: PendingSlice) -> None:
        now = self._dispatcher.time.passed_second()
        rows = await self._fetcher(
            lambda: source.fetch(endpoints, pending.app, pending.slice),
            self._queryable_check(endpoints, source, pending),
            category=f"{source} {pending.app}",
        )
        final_before = source.final_before(self._passed(now))
        await self._state_thread.change(lambda state: _store_series(state, pending, rows, final_before))


def _turn_page(
    state: ExportState, pending: PendingSlice, reading: ListProgress[Call], requested_at: int
) -> PendingSlice:
    """Save the next page of a slice, and return it."""
    following = attrs.evolve(
        pending, page=pending.page + 1, count=reading.count, requested_at=requested_at, reading=reading
    )
    state.set_slice_page(following)
    return following


def _store_series(state: ExportState, pending: PendingSlice, rows: ColumnBatch, final_before: int) -> None:
    """Stage the rows of a slice by UTC day; those from `final_before` on are provisional."""
    name = f"{pending.app} {pending.source}"
    owned = Span(pending.slice.span.start, pending.slice.owned_until)
    for app, day, before in state.take_provisional(name):  # the new rows replace those of an earlier run
        others = before.filter("ts", lambda ts: ts not in owned)
        state.stage(app, day, serialized(others), source=name, provisional=True)
    for day in sorted({ts // DAY for ts in rows.column("ts")}):
        of_day = rows.filter("ts", Span(day * DAY, day * DAY + DAY).__contains__)
        state.stage(pending.app, day, serialized(of_day.filter("ts", lambda ts: ts < final_before)))
        provisional = of_day.filter("ts", lambda ts: ts >= final_before).with_constant("provisional", value=True)
        state.stage(pending.app, day, serialized(provisional), source=name, provisional=True)
    # The whole span first, and then its settled part: a mark replaces earlier ones where they overlap.
    state.mark_span(pending.app, pending.source, owned, SpanStatus.UNSETTLED)
    state.mark_span(pending.app, pending.source, marks.part_before(pending.slice, final_before), SpanStatus.READ)
    state.delete_slice(pending)


def by_name(sources: Sequence[Source]) -> Mapping[str, Source]:
    """Return sources by the names that the state uses for them."""
    return {str(source): source for source in sources}
