"""The loop of following calls: read what is new, look again at what goes on, tell the facts, rest.

New calls are found by reading on, a little of what was read before with it, for some appear late.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from typing import Final

import attrs

from agora_analytics._core import paging, truncation
from agora_analytics._core.dispatcher import NothingToFetchError
from agora_analytics.errors import AgoraError, DecodeError, IncompleteList, RateLimited, ResponseError, ServerError
from agora_analytics.models import Call, CallPage
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS
from agora_analytics.quota.quota import Quota, Reserve
from agora_analytics.spans import DAY, Span
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.events import CallEvent, CallFinished, CallLost, Gap, Loss
from agora_analytics.streams.follow import open_calls
from agora_analytics.streams.follow.call_tracker import Open, Tail
from agora_analytics.streams.follow.sessions import Details
from agora_analytics.streams.health import log
from agora_analytics.streams.poller import Poller
from agora_analytics.streams.position import Place
from agora_analytics.streams.retention import Edges
from agora_analytics.streams.sources import CallSource

_SLICE: Final = 3_600
"""Seconds read at a time: what is read is held until it is told."""

_MARGIN: Final = 60
_LOOKS: Final = 3
"""Calls that are looked up singly in one round, for each request that reading on takes."""

_SLOWEST: Final = 900.0
"""Seconds between two looks at most, while they fail."""

_OWED: Final = 1_000
"""Finished calls whose end waits for their sessions, above which no more is read before these are told."""


@attrs.frozen(kw_only=True)
class Settings:
    """How calls are followed; see `Calls.follow`."""

    start: int | None
    back: int | None
    stop: int | None
    allowed_lateness: int
    every: int
    with_sessions: bool
    late_sessions: bool


class FollowPoller(Poller[CallEvent]):
    """Polls the lists of calls; see `Calls.follow`."""

    def __init__(self, source: CallSource, quota: Quota, settings: Settings, place: Place) -> None:
        super().__init__("follow", quota, place, Edges(quota.plan.of_endpoint(CALL_LISTS), _MARGIN))
        self._source = source
        source.on_skipped(self.monitor.skipped)
        self._settings = settings
        self._details = Details(source, quota) if settings.with_sessions else None
        self._tail: Tail | None = None
        self._begun = 0
        self._cost = 1.0
        self._density = 0.0
        self._slice = _SLICE
        self._read: int | None = None
        self._cut = 0
        self._missing: list[IncompleteList] = []
        self._resume()
        if self._tail is None and settings.start is not None:
            self._begun, self._tail = settings.start, Tail(settings.start, late=settings.late_sessions)

    @property
    def checkpoint(self) -> Checkpoint:
        """Where it will be once `current` is done."""
        if self._tail is None:
            return self.place.checkpoint
        return self._tail.after(self.current).checkpoint(self.place.stream, self._begun)

    @property
    def read_to(self) -> float | None:
        """The moment up to which calls were read."""
        return self.monitor.health.last_window

    def _resume(self) -> None:
        checkpoint = self.place.checkpoint
        if checkpoint.done:
            self._tail = Tail.of(checkpoint, late=self._settings.late_sessions)
            self._begun = checkpoint.done[0].start

    async def events(self) -> AsyncGenerator[CallEvent]:
        """Yield what happens to calls."""
        await self.place.resume()
        self._resume()
        async with self.reserved(CALL_LISTS) as lists, self.reserved(CALL_SESSIONS) as details:
            await self.learn()
            self.check_time()
            if self._tail is None:
                askable = self._edges.askable(self.times.began_at())
                self._begun = max(askable.start, askable.end - (self._settings.back or 0))
                self._tail = Tail(self._begun, late=self._settings.late_sessions)
            tail = self._tail
            try:
                async with aclosing(self._rounds(tail, lists, details)) as events:
                    async for event in events:
                        yield event
            finally:  # also where its consumer leaves: what that has worked on is done
                await self._save(tail)

    async def _rounds(self, tail: Tail, lists: Reserve, details: Reserve) -> AsyncGenerator[CallEvent]:
        while not self._over(tail):
            async with aclosing(self._round(tail, details)) as events:
                async for event in events:
                    yield event
                    tail.note(event)
                    self.current = None
                    if self.stopped:
                        return
            if self._read is not None:
                tail.advance(self._read, self._read - self._settings.allowed_lateness)
                self.monitor.saw(last_window=self._read)
            await self._save(tail)
            if not self._over(tail):
                await self._rest(tail, lists)

    async def _round(self, tail: Tail, kept: Reserve) -> AsyncGenerator[CallEvent]:
        """Read on and yield what is lost, what happened, oldest call first, and then the sessions that are owed."""
        begun = self._quota.utc()
        self._read, tail.now = None, int(begun)
        calls: list[Call] = []
        if self._details is None or sum(not one.told for one in tail.owed.values()) < _OWED:
            calls = await self.unless_stopped(self._poll(tail))
        for gap in self._gaps(tail.read_to, self._cut):
            yield gap
        for call in sorted(calls, key=lambda one: (one.created_ts or 0, one.call_id)):
            for fact in tail.facts(call, self._edges.proved):
                if self._details is not None and isinstance(fact, CallFinished):
                    tail.owe(call, self._details.askable_at(call))
                else:
                    yield fact
        for gap in self._cut_off(tail):  # after the calls of its span, since the place goes past it
            yield gap
        for lost in self._lost(tail):
            yield lost
        if self._details is not None:
            self._details.proved = self._edges.proved
            async for event in self.each(self._details.round(tail, kept, begun + self._settings.every)):
                yield event

    async def _poll(self, tail: Tail) -> list[Call]:
        """Read on, and look at the calls that go on; what fails is done again."""
        mark, span = self.mark(), self._due(tail)
        self._cut, self._missing = 0, []
        try:
            calls = await self._read_on(span)
        except NothingToFetchError:
            return []  # the next round begins where the plan does by then
        except AgoraError as error:
            # A list of which no row can be read is an error; a longer span has some that can, and the rest is left out.
            unfit = isinstance(error, DecodeError) and error.path
            self._slice = min(2 * self._slice, self._edges.limits.longest_query) if unfit else _SLICE
            self.judge([error], answered=False, certain=self.certain(mark))
            return []
        self._slice = _SLICE
        self._read = tail.read_to if span is None else max(span.end, self._cut)
        reads_on = span is not None and span.end > tail.read_to
        seen = await self._again(tail, span.start if span and reads_on else self._behind(tail), calls)
        calls += seen.calls
        self.judge(seen.errors, answered=True, certain=self.certain(mark))
        self._log(tail, span, calls)
        return calls

    async def _read_on(self, span: Span | None) -> list[Call]:
        """Return the calls of what is to be read next; where a clock that was set back leaves nothing, ask the time."""
        if span is not None:
            calls = await self._search(span, missing=self._missing)
            self._density = len(calls) / span.duration
            self._cut = max(self._cut, span.start)
            return calls
        newest = self._askable().end
        if self._edges.set_back(self._quota.utc()):
            await self.ask(CALL_LISTS, lambda: self._source.call_page(lambda: Span(newest - 1, newest), 1))
        return []

    def _log(self, tail: Tail, span: Span | None, calls: Sequence[Call]) -> None:
        log.info(
            "read %d calls of %s; %d go on",
            len(calls),
            span or "nothing new",
            len(tail.going),
            extra={"agora_calls": len(calls), "agora_going": len(tail.going), "agora_read_to": self._read},
        )

    def _due(self, tail: Tail) -> Span | None:
        """Return what is to be read next, from a little before where was read to; None where that is nothing."""
        askable = self._askable()
        start = max(tail.read_to - self._settings.allowed_lateness, self._begun, askable.start)
        end = min(askable.end, max(tail.read_to, askable.start) + self._slice, self._settings.stop or askable.end)
        return Span(start, end) if start < end else None

    def _behind(self, tail: Tail) -> int:
        """Return what calls that go on began before where nothing more is read: one may have moved behind the end."""
        last = max((one.began for one in tail.going.values()), default=0)
        return max(tail.read_to, min(last + 1, self._askable().end))

    async def _search(
        self, span: Span, cname: str | None = None, *, missing: list[IncompleteList] | None = None
    ) -> list[Call]:
        """Return the calls of a span, as much of it as can be asked for when each request is sent.

        What a list lacks, however narrow it is asked for, goes to `missing`.
        """
        narrower = 0

        async def page(part: truncation.ListQuery, number: int) -> CallPage:
            nonlocal narrower
            built, oldest = part.span, 0

            def timely() -> Span:
                nonlocal built, oldest
                # What the answer tells of the time is of no account to what was asked.
                built, oldest = self._timely(part.span), self._askable().start
                return built

            answer = await self.ask(CALL_LISTS, lambda: self._source.call_page(timely, number, part.cname or cname))
            narrower += number == 1 and part.rows_before > 0
            if built.start > part.span.start:
                self._cut = max(self._cut, built.start)
            self._edges.accepted(min(oldest, built.start))
            return answer

        spans = span.slices(self._edges.limits.longest_query)
        lost: list[IncompleteList] = [] if missing is None else missing
        rows = paging.rows(spans, page, truncation.calls(cname), read_ahead=False, missing=lost.append)
        async with aclosing(rows) as calls:
            found = [call async for call in calls]
        self._cost += 1 + len(found) // open_calls.PAGE + narrower
        return found

    def _cut_off(self, tail: Tail) -> list[Gap]:
        """Return gaps for what lists lacked of what was read for the first time."""
        found = [(error.span, error) for error in self._missing if error.span and error.span.end > tail.read_to]
        for _, error in found:
            log.warning("follow: calls are missing: %s", error)
        return [Gap(span=span, reason="service") for span, _ in sorted(found, key=lambda one: one[0].start)]

    def _timely(self, part: Span) -> Span:
        askable = self._askable()
        start, end = max(part.start, askable.start), min(part.end, max(askable.end, part.start + 1))
        if start >= end:
            raise NothingToFetchError
        return Span(start, end)

    async def _again(self, tail: Tail, start: int, seen: Sequence[Call]) -> _Seen:
        """Look at the calls from before `start` that went on when they were seen last, and were not seen now."""
        now, there = self._quota.utc(), {call.call_id for call in seen}
        for call_id in there & tail.going.keys():
            tail.going[call_id] = open_calls.found(tail.going[call_id], now=now, every=self._settings.every)
        older = await self._older(tail, start, there)
        askable = self._askable()
        looks = open_calls.plan(
            # By a clock that was set back some began in the future: there is nowhere to look for these.
            [one for one in older if askable.start <= one.began < askable.end],
            start,
            now=now,
            density=self._density,
            longest=self._edges.limits.longest_query,
            most=_LOOKS * (1 + len(seen) // open_calls.PAGE),
        )
        again = _Seen()
        if looks.span is not None:
            await self._look(tail, again, looks.together(older), looks.span)
        for one in looks.single:
            where = open_calls.where(one, max(self._askable().end, 2))
            await self._look(tail, again, [one], where, one.call.cname)
        return again

    async def _older(self, tail: Tail, start: int, there: AbstractSet[str]) -> list[Open]:
        """Return the calls that go on and began before `start`, but for those that are `there`."""
        oldest = self._askable().start
        older = [one for one in tail.older(start) if one.call.call_id not in there]
        if any(self._edges.proved <= one.began < oldest for one in older):
            # Too old, says the clock: that the service takes this for the oldest there is proves it.
            await self._look(tail, _Seen(), [], Span(oldest, oldest + 1))
        return older

    async def _look(
        self, tail: Tail, again: _Seen, wanted: Sequence[Open], span: Span, cname: str | None = None
    ) -> None:
        """Search a span for calls, and note which were found; what the service refuses to look up counts as missed."""
        missing: list[IncompleteList] = []
        try:
            calls = {call.call_id: call for call in await self._search(span, cname, missing=missing)}
        except NothingToFetchError:
            tail.going.update({one.call.call_id: open_calls.later(one, now=self._quota.utc()) for one in wanted})
            return
        except AgoraError as error:
            if not isinstance(error, ResponseError) or isinstance(error, ServerError | RateLimited):
                again.errors.append(error)
                return
            log.info("%s cannot be looked up: %s", span, error)
            calls = {}
        now = self._quota.utc()
        for one in wanted:
            call = calls.get(one.call.call_id)
            if call is None:
                tail.going[one.call.call_id] = (open_calls.later if missing else open_calls.missed)(one, now=now)
            else:
                again.calls.append(call)
                tail.going[call.call_id] = open_calls.found(one, now=now, every=self._settings.every)

    def _lost(self, tail: Tail) -> list[CallLost]:
        """Return the calls whose end nobody will see."""
        oldest = self._edges.proved
        expired = [CallLost(call=one.call, reason="expired") for one in tail.older(oldest)]
        gone = [
            CallLost(call=one.call, reason="gone")
            for one in tail.going.values()
            if one.misses >= open_calls.MISSES and one.began >= oldest
        ]
        return [*expired, *gone]

    def _gaps(self, start: int, end: int) -> list[Gap]:
        """Return gaps for what cannot be read any more: what was lost when the stream began, and what was since."""
        kept = self.first()
        kept = end if end <= kept + _MARGIN else max(start, kept)
        parts: list[tuple[int, int, Loss]] = [(start, kept, "before_start"), (kept, end, self._why(kept))]
        return [Gap(span=Span(begun, over), reason=why) for begun, over, why in parts if begun < over]

    def _why(self, start: int) -> Loss:
        if self._edges.reduced and start + self._edges.limits.available > self._quota.utc():
            return "service"
        return self.times.main(start + self._edges.delay, self._quota.utc())

    async def lesson(self, number: int) -> AgoraError | None:  # noqa: ARG002 - there is one kind of request
        """Read the first of what is due."""
        askable = self._askable()
        try:
            await self._search(Span(max(askable.end - self._settings.every, 0), askable.end))
        except NothingToFetchError:
            return None
        except AgoraError as error:
            return error
        return None

    def forget_lesson(self) -> None:
        """Forget what was answered."""
        self._edges.forget_accepted()
        self._cut = 0

    async def _save(self, tail: Tail) -> None:
        if self.place.named:
            await self.place.keep(tail.checkpoint(self.place.stream, self._begun))

    async def _rest(self, tail: Tail, kept: Reserve) -> None:
        """Rest as the day's requests allow; not at all while there is more to read."""
        cost, self._cost = max(self._cost, 1.0), 0.0
        every, failures = self._settings.every, self.monitor.health.failures
        budget = await self.budget(kept, round(DAY / every), round(DAY / every))
        self.monitor.saw(requests_left=budget.requests)
        requests = budget.leaving(budget.seconds * cost / _SLOWEST)
        pace = budget.seconds * cost / requests if requests else 0.0
        newest = min(self._askable().end, self._settings.stop or self._askable().end)
        behind = newest - tail.read_to > every and not failures
        slower = min(every * 2.0 ** min(failures, 10), _SLOWEST) if failures else 0.0
        await self.pause(max(pace, 0.0 if behind else every, slower, 0.01))

    def _over(self, tail: Tail) -> bool:
        stop = self._settings.stop
        owed = tail.owed if self._details is not None else {}
        ended = stop is not None and tail.read_to >= stop and not tail.going and not owed
        return self.stopped or ended

    def _askable(self) -> Span:
        return self._edges.askable(self._quota.utc())


@attrs.define
class _Seen:
    """What looking again at calls that go on has shown, and what went wrong with it."""

    calls: list[Call] = attrs.field(factory=list)
    errors: list[AgoraError] = attrs.field(factory=list)
