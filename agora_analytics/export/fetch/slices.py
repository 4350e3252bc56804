"""What is asked for span by span: the lists of calls, and series."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import attrs

from agora_analytics._core import paging, truncation
from agora_analytics._core.dispatcher import Session
from agora_analytics._core.truncation import Learned, Part, Reading, Verdict
from agora_analytics.errors import IncompleteList, PlanRefused, ResponseError
from agora_analytics.export.fetch.fetcher import RETENTION_MARGIN, RetentionExpired, RetryingFetcher, log
from agora_analytics.export.fetch.retention import RetentionTracker
from agora_analytics.export.fetch.sources import DAY, CallSource, EndpointSet, SeriesSource, Slice, Source
from agora_analytics.export.selection import Selection, is_over, wants
from agora_analytics.export.state import marks
from agora_analytics.export.state.calls import NEARBY_SECONDS, CallStatus
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import PendingSlice, SpanStatus
from agora_analytics.export.state.staging import serialized
from agora_analytics.export.state.state_thread import StateThread
from agora_analytics.export.write import column_batch
from agora_analytics.models import Call, CallPage
from agora_analytics.spans import Span, without

_TOGETHER: Final = 64
"""Requests that a span is cut into at once."""

_SOON: Final = 60
"""Seconds of a run's beginning for which no request of their own is made."""


class SliceFetcher:
    """Plans which spans are to be asked for, and asks."""

    def __init__(
        self,
        session: Session,
        selection: Selection,
        disk: StateThread,
        fetcher: RetryingFetcher,
        retention: RetentionTracker,
    ) -> None:
        self._session = session
        self._selection = selection
        self._disk = disk
        self._fetcher = fetcher
        self._learned = Learned()
        self._retention = retention
        self._begun: dict[Source, int] = {}

    # Which spans

    def plan(self, state: ExportState, app: str, source: Source) -> None:
        """Note what of a source is still to be asked for, were it too old by the clock: the service says what is."""
        for missing in self._missing(state, app, source):
            self._enqueue_missing(state, app, source, missing)

    def first_due(self, state: ExportState, app: str, source: Source) -> PendingSlice | None:
        """Return a slice that is due by a clock that may be wrong, and note it; None where there is none."""
        self._begun.setdefault(source, self._newest(source))
        if not self._fitting(state, app, source):
            # By that clock all of it may lie in the future, or be too old.
            asked = source.expand(self._selection.span)
            missing = self._missing(state, app, source) or self._not_covered(state, app, source, asked)
            if missing:
                start = source.earliest(max(missing[0].start, self._oldest(source)))
                span = Span(start, missing[0].end) if start < missing[0].end else missing[0]
                state.add_slices(app, str(source), self._cut(source, self._beginning(source, span))[:1])
        return next(iter(self._fitting(state, app, source)), None)

    def _fitting(self, state: ExportState, app: str, source: Source) -> list[PendingSlice]:
        """Return the slices that are noted, and that one request can carry."""
        longest = self._longest(source)
        return [one for one in self._enqueued(state, app, source) if one.slice.span.duration <= longest]

    def _enqueued(self, state: ExportState, app: str, source: Source) -> list[PendingSlice]:
        return [one for one in state.slices() if (one.app, one.source) == (app, str(source)) and not one.again]

    def _oldest(self, source: Source) -> int:
        """Return the oldest second that can be asked for by the clock, and still can when it is asked for."""
        return self._session.plan.of_endpoint(source.endpoint).oldest(self._session.now()) + RETENTION_MARGIN

    def _newest(self, source: Source) -> int:
        """Return the last end that can be asked for by the clock, or that could when the run began just before."""
        newest = self._session.plan.of_endpoint(source.endpoint).newest(self._session.now())
        begun = self._begun.get(source, newest)
        return begun if begun <= newest < begun + _SOON else newest

    def _cut(self, source: Source, span: Span) -> tuple[Slice, ...]:
        return source.split(span, self._longest(source))

    def _longest(self, source: Source) -> int:
        return self._session.plan.of_endpoint(source.endpoint).longest_query

    def _beginning(self, source: Source, span: Span) -> Span:
        """Return the beginning of a span, which may reach over years: as much as is cut at once."""
        return Span(span.start, min(span.end, span.start + _TOGETHER * (self._longest(source) + DAY)))

    def _missing(self, state: ExportState, app: str, source: Source) -> tuple[Span, ...]:
        """Return what of a source has come by now, and is neither there nor to be asked for already."""
        asked = source.expand(self._selection.span)
        start, end = asked.start, min(asked.end, self._newest(source))
        self._drop_outdated(state, app, source)
        return self._not_covered(state, app, source, Span(start, end)) if start < end else ()

    def _not_covered(self, state: ExportState, app: str, source: Source, span: Span) -> tuple[Span, ...]:
        """Return what of a span is neither there nor to be asked for already."""
        noted = (Span(one.slice.span.start, one.slice.owned_until) for one in self._enqueued(state, app, source))
        known = (*state.spans(app, str(source), SpanStatus.READ), *state.spans(app, str(source), SpanStatus.EXPIRED))
        return without(span, *known, *noted)

    def _drop_outdated(self, state: ExportState, app: str, source: Source) -> None:
        """Forget what was to be asked for as the plan, or another clock, allowed it then: it is missing now."""
        limits = self._session.plan.of_endpoint(source.endpoint)
        newest = limits.newest(self._session.now())
        for one in self._enqueued(state, app, source):
            if one.slice.span.duration > limits.longest_query or one.slice.span.end > newest:
                state.delete_slice(one)

    def _enqueue_missing(self, state: ExportState, app: str, source: Source, missing: Span) -> None:
        """Note what is missing; what is too old by the clock as one, which is cut only where the service has it."""
        oldest = self._oldest(source)
        begin = missing.start if oldest <= missing.start else min(source.earliest(oldest), missing.end)
        if missing.start < begin:
            state.add_slices(app, str(source), [Slice(Span(missing.start, begin), begin)])
        if begin < missing.end:
            state.add_slices(app, str(source), self._cut(source, Span(begin, missing.end)))

    def enqueue_open_calls(self, state: ExportState, app: str, source: CallSource) -> None:
        """Note the spans in which calls began that went on when they were seen last."""
        spans: list[Span] = []
        for _, first in marks.open_calls(state, app, source):
            if spans and first < spans[-1].end + NEARBY_SECONDS:
                spans[-1] = Span(spans[-1].start, first + 1)
            else:
                spans.append(Span(first, first + 1))
        waiting = {one.slice for one in state.slices() if one.again and (one.app, one.source) == (app, str(source))}
        new = [one for span in spans for one in self._cut(source, span) if one not in waiting]
        state.add_slices(app, str(source), new, again=True)

    # Fetching

    async def fetch(self, endpoints: EndpointSet, source: Source, one: PendingSlice) -> None:
        """Ask for all of a slice that is still missing; what has become too old meanwhile is noted as that."""
        left = [one]
        while left:
            left += await self._step(endpoints, source, left.pop())

    async def _step(self, endpoints: EndpointSet, source: Source, one: PendingSlice) -> list[PendingSlice]:
        """Make one request, and return what is left of a slice, the newest last."""
        try:
            return await self._ask_for(endpoints, source, one)
        except RetentionExpired:
            begin = source.earliest(self._retention.record_expired(source.endpoint, one.slice.span.start))
            rest = await self._disk.change(partial(marks.drop_expired, source=source, one=one, begin=begin))
            return [rest] if rest else []

    async def _ask_for(self, endpoints: EndpointSet, source: Source, one: PendingSlice) -> list[PendingSlice]:
        slices = self._cut(source, self._beginning(source, one.slice.span))
        if len(slices) != 1:
            return await self._divide(endpoints, source, one, slices)
        if isinstance(source, CallSource):
            return await self._page(endpoints, source, one)
        await self._series(endpoints, source, one)
        return []

    async def _divide(
        self, endpoints: EndpointSet, source: Source, one: PendingSlice, slices: Sequence[Slice]
    ) -> list[PendingSlice]:
        """Put the first parts of a slice that is too long in its place, and the rest, if the service has its beginning.

        Of what it has not, however long, `_step` hears as `RetentionExpired`.
        """
        span, keep = one.slice.span, one.slice.owned_until
        if slices:
            await self._fetcher(source.probe(endpoints, one.app, span.start).ask, self._timely(endpoints, source, one))
        *parts, last = slices or (None,)
        rest = Slice(Span(last.span.start, span.end), keep) if last else None
        return await self._disk.change(lambda state: state.split_slice(one, filter(None, (*parts, rest)), 0)[::-1])

    async def probe_clock(self, endpoints: EndpointSet, source: Source, one: PendingSlice) -> None:
        """Ask for a slice that is due by a clock that may be wrong; where it was, its answer tells the time."""
        left = [one]
        try:
            while left:
                left += await self._ask_for(endpoints, source, left.pop())
        except RetentionExpired:
            self._retention.record_expired(source.endpoint, one.slice.span.start)
            await self._disk.change(lambda state: state.delete_slice(one))
        except PlanRefused as error:
            if error.kind != "latency":
                raise
            await self._disk.change(lambda state: state.delete_slice(one))

    def _timely(self, endpoints: EndpointSet, source: Source, one: PendingSlice) -> Callable[[], Awaitable[float]]:
        """Return what makes sure, before every attempt, that a slice can still be asked for, and already."""
        limits, span = self._session.plan.of_endpoint(source.endpoint), one.slice.span

        async def check() -> float:
            await self._retention.check(source.endpoint, span.start, partial(source.probe, endpoints, one.app))
            return max(0.0, span.end - limits.newest(self._session.now())) if self._session.confirmed else 0.0

        return check

    def _passed(self, before: int) -> int:
        """Return what was surely past at `before`, now that an answer has told more of the time."""
        return min(before, self._session.passed())

    async def _page(self, endpoints: EndpointSet, source: CallSource, one: PendingSlice) -> list[PendingSlice]:
        part = Part(one.slice.span, handed=one.handed)
        kind = truncation.calls(source.cname)
        reading = one.reading or self._learned.reading(kind, part, count=one.count)
        now = self._session.passed()
        self._fetcher.narrowed += bool(one.handed)
        calls = await self._read(endpoints, source, one, reading)
        now = self._passed(now)
        asked = now if one.page == 1 else one.asked  # what appeared after the first page was asked for is on none
        verdict = self._learned.verdict(part, reading)
        if verdict is Verdict.CUT and part.span.duration == 1 and source.cname is None and reading.channels:
            return await self._fetch_by_channel(endpoints, source, one, asked)

        def keep(state: ExportState) -> list[PendingSlice]:
            new = self._store_calls(state, one.app, calls)
            if verdict is Verdict.MORE:
                after = attrs.evolve(one, page=one.page + 1, count=reading.count, asked=asked, reading=reading)
                state.set_slice_page(after)
                return [after]
            fruitful = one.page > 1 or new > 0
            parts = self._learned.instead(part, reading, fruitful=fruitful) if verdict is Verdict.CUT else ()
            if verdict is Verdict.CUT and parts == ():
                log.warning("export: total_size of the calls of %s is wrong, it is not believed any more", part.span)
            if parts:
                return self._enqueue_narrower(state, source, one, parts, asked)
            self._finish_slice(
                state, source, one, asked, SpanStatus.READ if parts is not None else SpanStatus.TRUNCATED
            )
            return []

        return await self._disk.change(keep)

    async def _read(
        self, endpoints: EndpointSet, source: CallSource, one: PendingSlice, reading: Reading[Call]
    ) -> tuple[Call, ...]:
        """Ask for the next page of a slice, and take it in."""
        span = one.slice.span
        try:
            page = await self._fetcher(
                lambda: endpoints.calls.page(*span, cname=source.cname, page_no=one.page),
                self._timely(endpoints, source, one),
                category=f"{source} {one.app}",
            )
        except ResponseError as error:
            if not truncation.is_depth(error, one.page):
                raise
            reading.refuse(error)
            return ()
        reading.take(page)
        return page.items

    def _enqueue_narrower(
        self, state: ExportState, source: CallSource, one: PendingSlice, parts: Sequence[Part], asked: int
    ) -> list[PendingSlice]:
        """Note what is to be asked for instead of a slice whose list was cut off, and what of it was read."""
        log.warning("export: the service cut off the list of %s of %s", source, one.slice.span)
        reached = parts[0].span.end
        if reached < one.slice.owned_until and not one.again:
            newer = Slice(Span(reached, one.slice.owned_until), one.slice.owned_until)
            state.mark_span(one.app, one.source, marks.part_before(newer, source.final_before(asked)), SpanStatus.READ)
        slices = [Slice(part.span, part.span.end) for part in reversed(parts)]
        return state.split_slice(one, slices, parts[0].handed)

    def _finish_slice(self, state: ExportState, source: CallSource, one: PendingSlice, asked: int, kind: int) -> None:
        """Note what has become of a slice."""
        if not one.again:
            state.mark_span(one.app, one.source, marks.part_before(one.slice, source.final_before(asked)), kind)
        if kind == SpanStatus.TRUNCATED:
            log.warning("export: calls of %s are missing: the service cuts its list off", one.slice.span)
        state.delete_slice(one)

    async def _fetch_by_channel(
        self, endpoints: EndpointSet, source: CallSource, one: PendingSlice, asked: int
    ) -> list[PendingSlice]:
        """Ask for a second whose list is cut off, channel by channel."""
        missing: list[IncompleteList] = []

        async def fetch(part: Part, number: int) -> CallPage:
            self._fetcher.narrowed += 1
            return await self._fetcher(
                lambda: endpoints.calls.page(*part.span, cname=part.cname, page_no=number),
                self._timely(endpoints, source, one),
            )

        rows = paging.rows(
            [one.slice.span], fetch, truncation.CALLS, read_ahead=False, missing=missing.append, learned=self._learned
        )
        async with aclosing(rows) as found:
            calls = [call async for call in found]

        def keep(state: ExportState) -> list[PendingSlice]:
            self._store_calls(state, one.app, calls)
            self._finish_slice(state, source, one, asked, SpanStatus.TRUNCATED if missing else SpanStatus.READ)
            return []

        return await self._disk.change(keep)

    def _store_calls(self, state: ExportState, app: str, calls: Sequence[Call]) -> int:
        """Remember the calls that are new, or have ended since, and return how many none had seen before.

        Their rows wait for the files of their days.
        """
        days: dict[int, list[Call]] = {}
        new = 0
        for call in calls:
            known = state.find_call(app, call.call_id)
            new += known is None
            if known is not None and known[1] != CallStatus.OPEN:
                continue
            number, day = self._store_call(state, app, call)
            if known is not None:
                state.take_provisional(f"call {number}")
            if not self._wants(call) or "calls" not in self._selection.datasets:
                continue
            if is_over(call):
                days.setdefault(day, []).append(call)
            else:
                state.stage(
                    app, day, serialized(column_batch.calls(app, [call])), source=f"call {number}", provisional=True
                )
        for day, found in days.items():
            batch = column_batch.calls(app, found)
            state.stage(app, day, serialized(batch))
            marks.count_invalid_times(state, app, batch)
        return new

    def _store_call(self, state: ExportState, app: str, call: Call) -> tuple[int, int]:
        """Remember a call and what is to become of it, and return its number and its day."""
        wanted = self._wants(call) and self._selection.details
        over = is_over(call)
        status = (CallStatus.PENDING if wanted else CallStatus.DONE) if over else CallStatus.OPEN
        begun = (call.created_ts or 0) if call.started_at else 0
        known = call.span if over else None
        span = known or Span(begun, begun + 1)
        number = state.upsert_call(app, call, span, status, marks.score(call))
        if status == CallStatus.PENDING and known is None:
            state.skip_call(number, "without a start or an end")
        return number, span.start // DAY

    def _wants(self, call: Call) -> bool:
        return wants(self._selection, call)

    async def _series(self, endpoints: EndpointSet, source: SeriesSource, one: PendingSlice) -> None:
        now = self._session.passed()
        rows = await self._fetcher(
            lambda: source.fetch(endpoints, one.app, one.slice),
            self._timely(endpoints, source, one),
            category=f"{source} {one.app}",
        )
        cut = source.final_before(self._passed(now))
        name = f"{one.app} {one.source}"
        asked = Span(one.slice.span.start, one.slice.owned_until)

        def keep(state: ExportState) -> None:
            for app, day, before in state.take_provisional(name):  # what was asked for again has come anew
                others = before.filter("ts", lambda ts: ts not in asked)
                state.stage(app, day, serialized(others), source=name, provisional=True)
            for day in sorted({ts // DAY for ts in rows.column("ts")}):
                today = rows.filter("ts", Span(day * DAY, day * DAY + DAY).__contains__)
                state.stage(one.app, day, serialized(today.filter("ts", lambda ts: ts < cut)))
                later = today.filter("ts", lambda ts: ts >= cut).with_constant("provisional", value=True)
                state.stage(one.app, day, serialized(later), source=name, provisional=True)
            state.mark_span(one.app, one.source, asked, SpanStatus.UNSETTLED)
            state.mark_span(one.app, one.source, marks.part_before(one.slice, cut), SpanStatus.READ)
            state.delete_slice(one)

        await self._disk.change(keep)


def by_name(sources: Sequence[Source]) -> Mapping[str, Source]:
    """Return sources by the names under which the state knows them."""
    return {str(source): source for source in sources}
