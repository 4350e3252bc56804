"""What is asked for span by span: the lists of calls, and series."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import attrs

from agora_analytics._core import paging, truncation
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics._core.truncation import ListProgress, ListQuery, PageOutcome, TruncationState
from agora_analytics.errors import IncompleteList, PlanRefused, ResponseError
from agora_analytics.export.fetch.fetcher import EDGE, Asking, TooOldError, log
from agora_analytics.export.fetch.retention import Expiry
from agora_analytics.export.fetch.sources import CallSource, Groups, SeriesSource, Slice, Source
from agora_analytics.export.selection import Selection, wants
from agora_analytics.export.state import marks
from agora_analytics.export.state.progress import (
    CUT,
    DONE,
    EXPIRED,
    NEAR,
    OPEN,
    PENDING,
    READ,
    UNSETTLED,
    PendingSlice,
    State,
)
from agora_analytics.export.state.staging import packed
from agora_analytics.export.state.state_thread import Disk
from agora_analytics.export.write import column_batch
from agora_analytics.models import Call, CallPage
from agora_analytics.spans import DAY, Span, without

_TOGETHER: Final = 64
"""Requests that a span is cut into at once."""

_SOON: Final = 60
"""Seconds of a run's beginning for which no request of their own is made."""


class Lists:
    """Plans which spans are to be asked for, and asks."""

    def __init__(self, session: Dispatcher, selection: Selection, disk: Disk, asking: Asking, expiry: Expiry) -> None:
        self._session = session
        self._selection = selection
        self._disk = disk
        self._ask = self._asking = asking
        self._learned = TruncationState()
        self._expiry = expiry
        self._begun: dict[Source, int] = {}

    # Which spans

    def prepare(self, state: State, app: str, source: Source) -> None:
        """Note what of a source is still to be asked for, were it too old by the clock: the service says what is."""
        for missing in self._missing(state, app, source):
            self._note(state, app, source, missing)

    def first(self, state: State, app: str, source: Source) -> PendingSlice | None:
        """Return a slice that is due by a clock that may be wrong, and note it; None where there is none."""
        self._begun.setdefault(source, self._newest(source))
        if not self._short(state, app, source):
            # By that clock all of it may lie in the future, or be too old.
            asked = source.whole(self._selection.span)
            missing = self._missing(state, app, source) or self._absent(state, app, source, asked)
            if missing:
                start = source.first(max(missing[0].start, self._oldest(source)))
                span = Span(start, missing[0].end) if start < missing[0].end else missing[0]
                state.add_slices(app, str(source), self._cut(source, self._near(source, span))[:1])
        return next(iter(self._short(state, app, source)), None)

    def _short(self, state: State, app: str, source: Source) -> list[PendingSlice]:
        """Return the slices that are noted, and that one request can carry."""
        longest = self._longest(source)
        return [one for one in self._noted(state, app, source) if one.slice.span.duration <= longest]

    def _noted(self, state: State, app: str, source: Source) -> list[PendingSlice]:
        return [one for one in state.slices() if (one.app, one.source) == (app, str(source)) and not one.again]

    def _oldest(self, source: Source) -> int:
        """Return the oldest second that can be asked for by the clock, and still can when it is asked for."""
        return self._session.plan.of_endpoint(source.endpoint).oldest(self._session.now()) + EDGE

    def _newest(self, source: Source) -> int:
        """Return the last end that can be asked for by the clock, or that could when the run began just before."""
        newest = self._session.plan.of_endpoint(source.endpoint).newest(self._session.now())
        begun = self._begun.get(source, newest)
        return begun if begun <= newest < begun + _SOON else newest

    def _cut(self, source: Source, span: Span) -> tuple[Slice, ...]:
        return source.cut(span, self._longest(source))

    def _longest(self, source: Source) -> int:
        return self._session.plan.of_endpoint(source.endpoint).longest_query

    def _near(self, source: Source, span: Span) -> Span:
        """Return the beginning of a span, which may reach over years: as much as is cut at once."""
        return Span(span.start, min(span.end, span.start + _TOGETHER * (self._longest(source) + DAY)))

    def _missing(self, state: State, app: str, source: Source) -> tuple[Span, ...]:
        """Return what of a source has come by now, and is neither there nor to be asked for already."""
        asked = source.whole(self._selection.span)
        start, end = asked.start, min(asked.end, self._newest(source))
        self._cut_anew(state, app, source)
        return self._absent(state, app, source, Span(start, end)) if start < end else ()

    def _absent(self, state: State, app: str, source: Source, span: Span) -> tuple[Span, ...]:
        """Return what of a span is neither there nor to be asked for already."""
        noted = (Span(one.slice.span.start, one.slice.keep) for one in self._noted(state, app, source))
        known = (*state.spans(app, str(source), READ), *state.spans(app, str(source), EXPIRED))
        return without(span, *known, *noted)

    def _cut_anew(self, state: State, app: str, source: Source) -> None:
        """Forget what was to be asked for as the plan, or another clock, allowed it then: it is missing now."""
        limits = self._session.plan.of_endpoint(source.endpoint)
        newest = limits.newest(self._session.now())
        for one in self._noted(state, app, source):
            if one.slice.span.duration > limits.longest_query or one.slice.span.end > newest:
                state.end_slice(one)

    def _note(self, state: State, app: str, source: Source, missing: Span) -> None:
        """Note what is missing; what is too old by the clock as one, which is cut only where the service has it."""
        oldest = self._oldest(source)
        begin = missing.start if oldest <= missing.start else min(source.first(oldest), missing.end)
        if missing.start < begin:
            state.add_slices(app, str(source), [Slice(Span(missing.start, begin), begin)])
        if begin < missing.end:
            state.add_slices(app, str(source), self._cut(source, Span(begin, missing.end)))

    def look_again(self, state: State, app: str, source: CallSource) -> None:
        """Note the spans in which calls began that went on when they were seen last."""
        spans: list[Span] = []
        for _, first in marks.open_calls(state, app, source):
            if spans and first < spans[-1].end + NEAR:
                spans[-1] = Span(spans[-1].start, first + 1)
            else:
                spans.append(Span(first, first + 1))
        waiting = {one.slice for one in state.slices() if one.again and (one.app, one.source) == (app, str(source))}
        new = [one for span in spans for one in self._cut(source, span) if one not in waiting]
        state.add_slices(app, str(source), new, again=True)

    # Asking

    async def fetch(self, groups: Groups, source: Source, one: PendingSlice) -> None:
        """Ask for all of a slice that is still missing; what has become too old meanwhile is noted as that."""
        left = [one]
        while left:
            left += await self._step(groups, source, left.pop())

    async def _step(self, groups: Groups, source: Source, one: PendingSlice) -> list[PendingSlice]:
        """Make one request, and return what is left of a slice, the newest last."""
        try:
            return await self._ask_for(groups, source, one)
        except TooOldError:
            begin = source.first(self._expiry.refused(source.endpoint, one.slice.span.start))
            rest = await self._disk.change(partial(marks.clip, source=source, one=one, begin=begin))
            return [rest] if rest else []

    async def _ask_for(self, groups: Groups, source: Source, one: PendingSlice) -> list[PendingSlice]:
        slices = self._cut(source, self._near(source, one.slice.span))
        if len(slices) != 1:
            return await self._divide(groups, source, one, slices)
        if isinstance(source, CallSource):
            return await self._page(groups, source, one)
        await self._series(groups, source, one)
        return []

    async def _divide(
        self, groups: Groups, source: Source, one: PendingSlice, slices: Sequence[Slice]
    ) -> list[PendingSlice]:
        """Put the first parts of a slice that is too long in its place, and the rest, if the service has its beginning.

        Of what it has not, however long, `_step` hears as `TooOldError`.
        """
        span, keep = one.slice.span, one.slice.keep
        if slices:
            await self._ask(source.about(groups, one.app, span.start).ask, self._timely(groups, source, one))
        *parts, last = slices or (None,)
        rest = Slice(Span(last.span.start, span.end), keep) if last else None
        return await self._disk.change(lambda state: state.narrow(one, filter(None, (*parts, rest)), 0)[::-1])

    async def try_first(self, groups: Groups, source: Source, one: PendingSlice) -> None:
        """Ask for a slice that is due by a clock that may be wrong; where it was, its answer tells the time."""
        left = [one]
        try:
            while left:
                left += await self._ask_for(groups, source, left.pop())
        except TooOldError:
            self._expiry.refused(source.endpoint, one.slice.span.start)
            await self._disk.change(lambda state: state.end_slice(one))
        except PlanRefused as error:
            if error.kind != "latency":
                raise
            await self._disk.change(lambda state: state.end_slice(one))

    def _timely(self, groups: Groups, source: Source, one: PendingSlice) -> Callable[[], Awaitable[float]]:
        """Return what makes sure, before every attempt, that a slice can still be asked for, and already."""
        limits, span = self._session.plan.of_endpoint(source.endpoint), one.slice.span

        async def check() -> float:
            await self._expiry.check(source.endpoint, span.start, partial(source.about, groups, one.app))
            return max(0.0, span.end - limits.newest(self._session.now())) if self._session.confirmed else 0.0

        return check

    def _passed(self, before: int) -> int:
        """Return what was surely past at `before`, now that an answer has told more of the time."""
        return min(before, self._session.passed())

    async def _page(self, groups: Groups, source: CallSource, one: PendingSlice) -> list[PendingSlice]:
        part = ListQuery(one.slice.span, rows_before=one.rows_before)
        kind = truncation.calls(source.cname)
        reading = one.reading or self._learned.reading(kind, part, count=one.count)
        now = self._session.passed()
        self._asking.narrowed += bool(one.rows_before)
        calls = await self._read(groups, source, one, reading)
        now = self._passed(now)
        asked = now if one.page == 1 else one.asked  # what appeared after the first page was asked for is on none
        verdict = self._learned.verdict(part, reading)
        if verdict is PageOutcome.TRUNCATED and part.span.duration == 1 and source.cname is None and reading.channels:
            return await self._second(groups, source, one, asked)

        def keep(state: State) -> list[PendingSlice]:
            new = self._keep_calls(state, one.app, calls)
            if verdict is PageOutcome.MORE:
                after = attrs.evolve(one, page=one.page + 1, count=reading.count, asked=asked, reading=reading)
                state.turn_page(after)
                return [after]
            fruitful = one.page > 1 or new > 0
            parts = self._learned.narrower(part, reading, fruitful=fruitful) if verdict is PageOutcome.TRUNCATED else ()
            if verdict is PageOutcome.TRUNCATED and parts == ():
                log.warning("export: total_size of the calls of %s is wrong, it is not believed any more", part.span)
            if parts:
                return self._narrow(state, source, one, parts, asked)
            self._end(state, source, one, asked, READ if parts is not None else CUT)
            return []

        return await self._disk.change(keep)

    async def _read(
        self, groups: Groups, source: CallSource, one: PendingSlice, reading: ListProgress[Call]
    ) -> tuple[Call, ...]:
        """Ask for the next page of a slice, and take it in."""
        span = one.slice.span
        try:
            page = await self._ask(
                lambda: groups.calls.page(*span, cname=source.cname, page_no=one.page),
                self._timely(groups, source, one),
                like=f"{source} {one.app}",
            )
        except ResponseError as error:
            if not truncation.is_depth(error, one.page):
                raise
            reading.refuse(error)
            return ()
        reading.take(page)
        return page.items

    def _narrow(
        self, state: State, source: CallSource, one: PendingSlice, parts: Sequence[ListQuery], asked: int
    ) -> list[PendingSlice]:
        """Note what is to be asked for instead of a slice whose list was cut off, and what of it was read."""
        log.warning("export: the service cut off the list of %s of %s", source, one.slice.span)
        reached = parts[0].span.end
        if reached < one.slice.keep and not one.again:
            newer = Slice(Span(reached, one.slice.keep), one.slice.keep)
            state.mark(one.app, one.source, marks.before(newer, source.settled(asked)), READ)
        slices = [Slice(part.span, part.span.end) for part in reversed(parts)]
        return state.narrow(one, slices, parts[0].rows_before)

    def _end(self, state: State, source: CallSource, one: PendingSlice, asked: int, kind: int) -> None:
        """Note what has become of a slice."""
        if not one.again:
            state.mark(one.app, one.source, marks.before(one.slice, source.settled(asked)), kind)
        if kind == CUT:
            log.warning("export: calls of %s are missing: the service cuts its list off", one.slice.span)
        state.end_slice(one)

    async def _second(self, groups: Groups, source: CallSource, one: PendingSlice, asked: int) -> list[PendingSlice]:
        """Ask for a second whose list is cut off, channel by channel."""
        missing: list[IncompleteList] = []

        async def fetch(part: ListQuery, number: int) -> CallPage:
            self._asking.narrowed += 1
            return await self._ask(
                lambda: groups.calls.page(*part.span, cname=part.cname, page_no=number),
                self._timely(groups, source, one),
            )

        rows = paging.rows(
            [one.slice.span], fetch, truncation.CALLS, read_ahead=False, missing=missing.append, learned=self._learned
        )
        async with aclosing(rows) as found:
            calls = [call async for call in found]

        def keep(state: State) -> list[PendingSlice]:
            self._keep_calls(state, one.app, calls)
            self._end(state, source, one, asked, CUT if missing else READ)
            return []

        return await self._disk.change(keep)

    def _keep_calls(self, state: State, app: str, calls: Sequence[Call]) -> int:
        """Remember the calls that are new, or have ended since, and return how many none had seen before.

        Their rows wait for the files of their days.
        """
        days: dict[int, list[Call]] = {}
        new = 0
        for call in calls:
            known = state.known(app, call.call_id)
            new += known is None
            if known is not None and known[1] != OPEN:
                continue
            number, day = self._keep_call(state, app, call)
            if known is not None:
                state.take_provisional(f"call {number}")
            if not self._wants(call) or "calls" not in self._selection.datasets:
                continue
            if call.is_over:
                days.setdefault(day, []).append(call)
            else:
                state.stage(
                    app, day, packed(column_batch.calls(app, [call])), source=f"call {number}", provisional=True
                )
        for day, found in days.items():
            batch = column_batch.calls(app, found)
            state.stage(app, day, packed(batch))
            marks.undated(state, app, batch)
        return new

    def _keep_call(self, state: State, app: str, call: Call) -> tuple[int, int]:
        """Remember a call and what is to become of it, and return its number and its day."""
        wanted = self._wants(call) and self._selection.details
        over = call.is_over
        status = (PENDING if wanted else DONE) if over else OPEN
        begun = (call.created_ts or 0) if call.started_at else 0
        known = call.span if over else None
        span = known or Span(begun, begun + 1)
        number = state.keep_call(app, call, span, status, marks.score(call))
        if status == PENDING and known is None:
            state.leave_out(number, "without a start or an end")
        return number, span.start // DAY

    def _wants(self, call: Call) -> bool:
        return wants(self._selection, call)

    async def _series(self, groups: Groups, source: SeriesSource, one: PendingSlice) -> None:
        now = self._session.passed()
        rows = await self._ask(
            lambda: source.ask(groups, one.app, one.slice),
            self._timely(groups, source, one),
            like=f"{source} {one.app}",
        )
        cut = source.settled(self._passed(now))
        name = f"{one.app} {one.source}"
        asked = Span(one.slice.span.start, one.slice.keep)

        def keep(state: State) -> None:
            for app, day, before in state.take_provisional(name):  # what was asked for again has come anew
                others = before.where("ts", lambda ts: ts not in asked)
                state.stage(app, day, packed(others), source=name, provisional=True)
            for day in sorted({ts // DAY for ts in rows.column("ts")}):
                today = rows.where("ts", Span(day * DAY, day * DAY + DAY).__contains__)
                state.stage(one.app, day, packed(today.where("ts", lambda ts: ts < cut)))
                later = today.where("ts", lambda ts: ts >= cut).having("provisional", value=True)
                state.stage(one.app, day, packed(later), source=name, provisional=True)
            state.mark(one.app, one.source, asked, UNSETTLED)
            state.mark(one.app, one.source, marks.before(one.slice, cut), READ)
            state.end_slice(one)

        await self._disk.change(keep)


def by_name(sources: Sequence[Source]) -> Mapping[str, Source]:
    """Return sources by the names under which the state knows them."""
    return {str(source): source for source in sources}
