"""What is asked for span by span: the lists of calls, and series."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

import attrs

from agora_analytics import _paging
from agora_analytics._session import Session
from agora_analytics.errors import PlanRefused
from agora_analytics.export import _batches
from agora_analytics.export._asking import EDGE, Asking, TooOldError
from agora_analytics.export._disk import Disk
from agora_analytics.export._expiry import Expiry
from agora_analytics.export._selection import Selection
from agora_analytics.export._sources import (
    DAY,
    CallSource,
    Groups,
    RealtimeSource,
    SeriesSource,
    Slice,
    Source,
)
from agora_analytics.export._staged import packed
from agora_analytics.export._state import DONE, EXPIRED, OPEN, PENDING, READ, UNSETTLED, PendingSlice, State
from agora_analytics.models import Call
from agora_analytics.spans import Span, without

_NEAR: Final = 3_600
"""Seconds within which calls that went on are looked up together."""

_SOON: Final = 60
"""Seconds of a run's beginning for which no request of their own is made."""


class Lists:
    """Plans which spans are to be asked for, and asks."""

    def __init__(self, session: Session, selection: Selection, disk: Disk, asking: Asking, expiry: Expiry) -> None:
        self._session = session
        self._selection = selection
        self._disk = disk
        self._ask = asking
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
        longest = self._session.plan.of_endpoint(source.endpoint).longest_query
        if not any(one.slice.span.duration <= longest for one in self._noted(state, app, source)):
            # By that clock all of it may lie in the future, or be too old.
            asked = source.whole(self._selection.span)
            missing = self._missing(state, app, source) or self._absent(state, app, source, asked)
            if missing:
                start = source.first(max(missing[0].start, self._oldest(source)))
                span = Span(start, missing[0].end) if start < missing[0].end else missing[0]
                state.add_slices(app, str(source), self._cut(source, span)[:1])
        return next(iter(self._noted(state, app, source)), None)

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
        return source.cut(span, self._session.plan.of_endpoint(source.endpoint).longest_query)

    def _missing(self, state: State, app: str, source: Source) -> tuple[Span, ...]:
        """Return what of a source has come by now, and is neither there nor to be asked for already."""
        asked = source.whole(self._selection.span)
        start, end = asked.start, min(asked.end, self._newest(source))
        read = state.spans(app, str(source), READ)
        if isinstance(source, RealtimeSource):
            # An export of windows begins with what there is; only what comes after that can be missed.
            begun = (*read, *state.spans(app, str(source), UNSETTLED))
            start = max(start, min((span.start for span in begun), default=self._oldest(source)))
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
        """Note what is missing, cut where it is too old by the clock."""
        oldest = self._oldest(source)
        begin = missing.start if oldest <= missing.start else min(source.first(oldest), missing.end)
        for first, last in ((missing.start, begin), (begin, missing.end)):
            if first < last:
                state.add_slices(app, str(source), self._cut(source, Span(first, last)))

    def look_again(self, state: State, app: str, source: CallSource) -> None:
        """Note the spans in which calls began that went on when they were seen last."""
        spans: list[Span] = []
        for _, first in _open(state, app, source):
            if spans and first < spans[-1].end + _NEAR:
                spans[-1] = Span(spans[-1].start, first + 1)
            else:
                spans.append(Span(first, first + 1))
        waiting = {one.slice for one in state.slices() if one.again and (one.app, one.source) == (app, str(source))}
        new = [one for span in spans for one in self._cut(source, span) if one not in waiting]
        state.add_slices(app, str(source), new, again=True)

    # Asking

    async def fetch(self, groups: Groups, source: Source, one: PendingSlice) -> None:
        """Ask for all of a slice that is still missing; what has become too old meanwhile is noted as that."""
        here: PendingSlice | None = one
        while here is not None:
            here = await self._step(groups, source, here)

    async def _step(self, groups: Groups, source: Source, one: PendingSlice) -> PendingSlice | None:
        """Make one request, and return what is left of a slice."""
        try:
            return await self._ask_for(groups, source, one)
        except TooOldError:
            begin = source.first(self._expiry.refused(source.endpoint, one.slice.span.start))
            return await self._disk.change(partial(_clip, source=source, one=one, begin=begin))

    async def _ask_for(self, groups: Groups, source: Source, one: PendingSlice) -> PendingSlice | None:
        if isinstance(source, CallSource):
            return await self._page(groups, source, one)
        await self._series(groups, source, one)
        return None

    async def try_first(self, groups: Groups, source: Source, one: PendingSlice) -> None:
        """Ask for a slice that is due by a clock that may be wrong; where it was, its answer tells the time."""
        here: PendingSlice | None = one
        try:
            while here is not None:
                here = await self._ask_for(groups, source, here)
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

    async def _page(self, groups: Groups, source: CallSource, one: PendingSlice) -> PendingSlice | None:
        span = one.slice.span
        now = self._session.passed()
        page = await self._ask(
            lambda: groups.calls.page(*span, cname=source.cname, page_no=one.page), self._timely(groups, source, one)
        )
        now = self._passed(now)
        _paging.insist(one.page, page.items, one.last_page)
        count = one.count + len(page.items)
        asked = now if one.page == 1 else one.asked  # what appeared after the first page was asked for is on none
        after = None
        if _paging.more(page, count):
            after = attrs.evolve(one, page=one.page + 1, count=count, asked=asked, last_page=page.items)

        def keep(state: State) -> PendingSlice | None:
            self._keep_calls(state, one.app, page.items)
            if after is not None:
                state.turn_page(after)
                return after
            if not one.again:
                state.mark(one.app, one.source, _before(one.slice, source.settled(asked)), READ)
            state.end_slice(one)
            return None

        return await self._disk.change(keep)

    def _keep_calls(self, state: State, app: str, calls: Sequence[Call]) -> None:
        """Remember the calls that are new, or have ended since; their rows wait for the files of their days."""
        days: dict[int, list[Call]] = {}
        for call in calls:
            known = state.known(app, call.call_id)
            if known is not None and known[1] != OPEN:
                continue
            number, day = self._keep_call(state, app, call)
            if known is not None:
                state.take_provisional(f"call {number}")
            if not self._wants(call) or "calls" not in self._selection.datasets:
                continue
            if _over(call):
                days.setdefault(day, []).append(call)
            else:
                state.stage(app, day, packed(_batches.calls(app, [call])), source=f"call {number}", provisional=True)
        for day, found in days.items():
            state.stage(app, day, packed(_batches.calls(app, found)))

    def _keep_call(self, state: State, app: str, call: Call) -> tuple[int, int]:
        """Remember a call and what is to become of it, and return its number and its day."""
        wanted = self._wants(call) and self._selection.details
        status = (PENDING if wanted else DONE) if _over(call) else OPEN
        begun = (call.created_ts or 0) if call.started_at else 0
        span = (call.span if _over(call) else None) or Span(begun, begun + 1)
        number = state.keep_call(app, call, span, status, _score(call))
        if status == PENDING and (strange := self._strange(call)):
            state.leave_out(number, strange)
        return number, span.start // DAY

    def _strange(self, call: Call) -> str | None:
        """Return why a call that is over cannot be asked about; None for nearly all."""
        if call.span is None:
            return "without a start or an end"
        if self._session.confirmed and call.span.end > self._session.now() + DAY:
            return "its end is in the future"
        return None

    def _wants(self, call: Call) -> bool:
        least = self._selection.worse_than
        if self._selection.finished and not _over(call):
            return False
        return least is None or _worst(call) > least

    async def _series(self, groups: Groups, source: SeriesSource, one: PendingSlice) -> None:
        now = self._session.passed()
        rows = await self._ask(lambda: source.ask(groups, one.app, one.slice), self._timely(groups, source, one))
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
            state.mark(one.app, one.source, _before(one.slice, cut), READ)
            state.end_slice(one)

        await self._disk.change(keep)


def by_name(sources: Sequence[Source]) -> Mapping[str, Source]:
    """Return sources by the names under which the state knows them."""
    return {str(source): source for source in sources}


def _clip(state: State, source: Source, one: PendingSlice, begin: int) -> PendingSlice | None:
    """Note what of a slice the service keeps no longer, and return what is left of it."""
    span, keep = one.slice.span, one.slice.keep
    gone = Span(span.start, min(begin, keep))
    if not one.again:
        _expire(state, one, gone)
    elif isinstance(source, CallSource):
        _never_ended(state, source, one.app, gone)
    if keep <= begin:
        state.end_slice(one)
        return None
    return attrs.evolve(one, slice=Slice(Span(begin, span.end), keep))


def _expire(state: State, one: PendingSlice, gone: Span) -> None:
    """Note that a span cannot be asked for any more; what was provisional stays as it is."""
    kept = [
        Span(max(span.start, gone.start), min(span.end, gone.end))
        for span in state.spans(one.app, one.source, UNSETTLED)
        if span.start < gone.end and gone.start < span.end
    ]
    state.mark(one.app, one.source, gone, EXPIRED)
    for span in kept:
        state.mark(one.app, one.source, span, READ)
    name = f"{one.app} {one.source}"
    for app, day, rows in state.take_provisional(name) if kept else ():
        final = rows.where("ts", gone.__contains__)
        state.stage(app, day, packed(final.having("provisional", value=False)))
        others = rows.where("ts", lambda ts: ts not in gone)
        state.stage(app, day, packed(others), source=name, provisional=True)


def _never_ended(state: State, source: CallSource, app: str, gone: Span) -> None:
    """Leave out the calls that went on when last seen and began in a span that cannot be asked for any more."""
    for number, first in _open(state, app, source):
        if first in gone:
            state.leave_out(number, "never seen to end")
            for _, day, rows in state.take_provisional(f"call {number}"):
                state.stage(app, day, packed(rows))


def _open(state: State, app: str, source: CallSource) -> list[tuple[int, int]]:
    """Return id and start of a source's calls that went on when they were seen last, oldest first."""
    return [
        (number, first)
        for number, mine, cname, first in state.open_calls()
        if mine == app and source.cname in {None, cname}
    ]


def _before(one: Slice, moment: int) -> Span | None:
    end = min(one.keep, moment)
    return Span(one.span.start, end) if one.span.start < end else None


def _over(call: Call) -> bool:
    """Whether a call has ended: where the service does not say, whether it tells an end."""
    return call.ended_at is not None if call.finished is None else call.finished


def _worst(call: Call) -> float:
    return max(call.call_audio_freeze_rate or 0.0, call.call_video_freeze_rate or 0.0)


def _score(call: Call) -> float:
    """How much a call is worth looking into: freeze rate times users times seconds."""
    length = max(0, (call.destroyed_ts or 0) - (call.created_ts or 0))
    return _worst(call) * (call.call_pcu or 0) * length
