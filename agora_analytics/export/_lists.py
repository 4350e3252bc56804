"""What is asked for span by span: the lists of calls, and series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import attrs

from agora_analytics import _paging
from agora_analytics._session import Session
from agora_analytics.export import _batches
from agora_analytics.export._asking import EDGE, Asking, TooOldError
from agora_analytics.export._disk import Disk
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


class Lists:
    """Plans which spans are to be asked for, and asks."""

    def __init__(self, session: Session, selection: Selection, disk: Disk, asking: Asking) -> None:
        self._session = session
        self._selection = selection
        self._disk = disk
        self._ask = asking

    # Which spans

    def prepare(self, state: State, app: str, source: Source) -> None:
        """Note what of a source is still to be asked for, and what nobody can ask for any more."""
        limits = self._session.plan.of_endpoint(source.endpoint)
        now = self._session.now()
        oldest = limits.oldest(now) + EDGE
        self._settle(state, app, source, oldest)
        asked = source.whole(self._selection.span)
        start, end = asked.start, min(asked.end, limits.newest(now))
        read = state.spans(app, str(source), READ)
        if isinstance(source, RealtimeSource):
            # An export of windows begins with what there is; only what comes after that can be missed.
            begun = (*read, *state.spans(app, str(source), UNSETTLED))
            start = max(start, min((span.start for span in begun), default=oldest))
        pending = self._pending(state, app, source)
        if start < end:
            known = (
                *read,
                *state.spans(app, str(source), EXPIRED),
                *(Span(one.span.start, one.keep) for one in pending),
            )
            for missing in without(Span(start, end), *known):
                self._note(state, app, source, missing, oldest)
        if isinstance(source, CallSource):
            self._look_again(state, app, source, oldest)

    def _pending(self, state: State, app: str, source: Source) -> list[Slice]:
        """Return what is to be asked for already; what the plan no longer lets one request span is cut anew."""
        longest = self._session.plan.of_endpoint(source.endpoint).longest_query
        found = []
        for one in state.slices():
            if (one.app, one.source) == (app, str(source)) and not one.again:
                if one.slice.span.duration > longest:
                    state.end_slice(one)
                else:
                    found.append(one.slice)
        return found

    def _note(self, state: State, app: str, source: Source, missing: Span, oldest: int) -> None:
        begin = missing.start if oldest <= missing.start else source.first(oldest)
        if missing.start < begin:
            state.mark(app, str(source), Span(missing.start, min(begin, missing.end)), EXPIRED)
        if begin < missing.end:
            longest = self._session.plan.of_endpoint(source.endpoint).longest_query
            state.add_slices(app, str(source), source.cut(Span(begin, missing.end), longest))

    def _settle(self, state: State, app: str, source: Source, oldest: int) -> None:
        """What was provisional and cannot be asked for again stays as it is."""
        for span in state.spans(app, str(source), UNSETTLED):
            if span.start < oldest:
                state.mark(app, str(source), Span(span.start, min(span.end, oldest)), READ)
        name = f"{app} {source}"
        for _, day, rows in state.take_provisional(name):
            state.stage(app, day, packed(rows.where("ts", lambda ts: ts < oldest).having("provisional", value=False)))
            state.stage(app, day, packed(rows.where("ts", lambda ts: ts >= oldest)), source=name, provisional=True)

    def _look_again(self, state: State, app: str, source: CallSource, oldest: int) -> None:
        """Note the spans in which calls began that went on when they were seen last."""
        spans: list[Span] = []
        for number, mine, cname, first in state.open_calls():
            if mine != app or (source.cname is not None and cname != source.cname):
                continue
            if first < oldest:
                state.leave_out(number, "never seen to end")
                for _, day, rows in state.take_provisional(f"call {number}"):
                    state.stage(app, day, packed(rows))
            elif spans and first < spans[-1].end + _NEAR:
                spans[-1] = Span(spans[-1].start, first + 1)
            else:
                spans.append(Span(first, first + 1))
        longest = self._session.plan.of_endpoint(source.endpoint).longest_query
        waiting = {one.slice for one in state.slices() if one.again and (one.app, one.source) == (app, str(source))}
        new = [one for span in spans for one in source.cut(span, longest) if one not in waiting]
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
            if isinstance(source, CallSource):
                return await self._page(groups, source, one)
            await self._series(groups, source, one)
        except TooOldError:
            oldest = self._session.plan.of_endpoint(source.endpoint).oldest(self._session.now()) + EDGE
            begin = source.first(max(oldest, one.slice.span.start + EDGE))
            return await self._disk.change(partial(_clip, one=one, oldest=begin))
        return None

    def _timely(self, source: Source, span: Span) -> Callable[[], float]:
        """Return what makes sure, before every attempt, that a span can still be asked for, and already."""
        limits = self._session.plan.of_endpoint(source.endpoint)

        def check() -> float:
            now = self._session.now()
            if span.start < limits.oldest(now) + EDGE:
                raise TooOldError
            return max(0.0, span.end - limits.newest(now))

        return check

    async def _page(self, groups: Groups, source: CallSource, one: PendingSlice) -> PendingSlice | None:
        span = one.slice.span
        now = self._session.now()
        page = await self._ask(
            lambda: groups.calls.page(*span, cname=source.cname, page_no=one.page), self._timely(source, span)
        )
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
        return "its end is in the future" if call.span.end > self._session.now() + DAY else None

    def _wants(self, call: Call) -> bool:
        least = self._selection.worse_than
        if self._selection.finished and not _over(call):
            return False
        return least is None or _worst(call) > least

    async def _series(self, groups: Groups, source: SeriesSource, one: PendingSlice) -> None:
        now = self._session.now()
        timely = self._timely(source, one.slice.span)
        rows = await self._ask(lambda: source.ask(groups, one.app, one.slice), timely)
        cut = source.settled(now)
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


def _clip(state: State, one: PendingSlice, oldest: int) -> PendingSlice | None:
    """Note what of a slice cannot be asked for any more, and return what is left of it."""
    span, keep = one.slice.span, one.slice.keep
    if not one.again:
        state.mark(one.app, one.source, Span(span.start, min(oldest, keep)), EXPIRED)
    if keep <= oldest:
        state.end_slice(one)
        return None
    return attrs.evolve(one, slice=Slice(Span(oldest, span.end), keep))


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
