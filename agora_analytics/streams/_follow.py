"""The loop of following calls: read what is new, look again at what goes on, tell the facts, rest.

New calls are found by reading on, a little of what was read before with it, for some appear late. A call that goes on
is found there only if the service selects by overlap, which nobody knows; so those that began earlier are looked up,
each on its own or all in one go, whichever takes fewer requests.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final

import attrs

from agora_analytics.endpoints import Calls
from agora_analytics.errors import AgoraError
from agora_analytics.models import Call, Session
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS
from agora_analytics.quota import Quota, Reserve
from agora_analytics.spans import Span
from agora_analytics.streams._checkpoints import Checkpoint
from agora_analytics.streams._place import Place
from agora_analytics.streams._stream import Stream, log
from agora_analytics.streams._tail import CallEvent, CallFinished, Tail
from agora_analytics.streams._windows import Gap

_SLICE: Final = 3_600
"""Seconds read at a time: what is read is held until it is told."""

_PAGE: Final = 100
_MARGIN: Final = 60
_DAY: Final = 86_400


@attrs.frozen(kw_only=True)
class Settings:
    """How calls are followed; see `Calls.follow`."""

    start: int | None
    stop: int | None
    allowance: int
    every: int
    drill: bool


class Follow(Stream[CallEvent]):
    """What happens to calls, each fact once: iterate over it; `aclose()` or `stop()` end it."""

    def __init__(self, calls: Calls, quota: Quota, settings: Settings, place: Place) -> None:
        super().__init__(quota, place)
        self._calls = calls
        self._settings = settings
        self._tail = Tail(0)
        self._begun = 0
        self._current: CallEvent | None = None
        self._cost = 1.0
        self._density = 0.0
        self._read: int | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """Where it will be once the event being worked on is done: for a sink that keeps that with what it writes."""
        return self._tail.after(self._current).checkpoint(self._place.stream, self._begun)

    async def _run(self) -> AsyncGenerator[CallEvent]:
        await self._begin()
        async with self._quota.reserve(CALL_LISTS) as kept:
            while not self._over():
                async with aclosing(self._round()) as events:
                    async for event in events:
                        self._current = event
                        yield event
                        self._tail.note(event)
                        self._current = None
                        if self._stopped.is_set():
                            await self._save()
                            return
                if self._read is not None:
                    self._tail.advance(self._read, self._read - self._settings.allowance)
                    self._health = attrs.evolve(self._health, last_window=self._read)
                    await self._save()
                await self._rest(kept)

    async def _begin(self) -> None:
        done = await self._place.resume()
        if done:
            self._tail, self._begun = Tail.of(self._place.checkpoint), done[0].start
            return
        start = self._settings.start
        self._begun = self._askable().end if start is None else start
        self._tail = Tail(self._begun)

    async def _round(self) -> AsyncGenerator[CallEvent]:
        """Yield what is lost, then read on and yield what happened, oldest call first."""
        self._read = None
        lost = min(self._askable().start, self._settings.stop or self._askable().start)
        if lost > self._tail.read_to:
            yield Gap(span=Span(self._tail.read_to, lost))
        for call in sorted(await self._poll(self._due()), key=lambda one: (one.created_ts or 0, one.call_id)):
            for fact in self._tail.facts(call):
                if not (self._settings.drill and isinstance(fact, CallFinished)):
                    yield fact
                elif (sessions := await self._drill(call)) is not None:
                    yield CallFinished(call=call, sessions=sessions)

    async def _poll(self, span: Span | None) -> list[Call]:
        """Read on, and look at the calls that go on; where that fails it is done again."""
        try:
            calls = [] if span is None else await self._search(span)
            self._density = self._density if span is None else len(calls) / span.duration
            calls += await self._again(self._tail.read_to if span is None else span.start, calls)
        except AgoraError as error:
            self._judge([error])
            return []
        except ValueError as error:
            # It waited for so long that the plan keeps the beginning no more: what is lost is told next.
            log.warning("calls were asked for too late: %s", error)
            return []
        self._judge([])
        self._read = self._tail.read_to if span is None else span.end
        self._give_up({call.call_id for call in calls})
        log.info(
            "read %d calls of %s; %d go on",
            len(calls),
            span or "nothing new",
            len(self._tail.going),
            extra={"agora_calls": len(calls), "agora_going": len(self._tail.going), "agora_read_to": self._read},
        )
        return calls

    def _give_up(self, seen: set[str]) -> None:
        """Forget calls that nobody can look at any more: they go on for longer than the plan keeps calls."""
        for call in self._tail.older(self._askable().start):
            if call.call_id not in seen:
                log.warning("call %s began too long ago to see its end", call.call_id)
                self._tail.forget(call, int(self._quota.utc()))

    def _due(self) -> Span | None:
        """Return what is to be read next, from a little before where was read to; None where that is nothing."""
        askable, read_to = self._askable(), self._tail.read_to
        start = max(read_to - self._settings.allowance, self._begun, askable.start)
        end = min(askable.end, read_to + _SLICE, self._settings.stop or askable.end)
        return Span(start, end) if start < end else None

    async def _search(self, span: Span, cname: str | None = None) -> list[Call]:
        found = [call async for call in self._calls.search(*span, cname=cname)]
        self._cost += 1 + len(found) // _PAGE
        return found

    async def _again(self, start: int, seen: Iterable[Call]) -> list[Call]:
        """Return the calls from before `start` that went on when they were last seen, and were not seen now."""
        now = {call.call_id for call in seen}
        oldest = self._askable().start
        older = [call for call in self._tail.older(start) if call.call_id not in now]
        older = [call for call in older if (call.created_ts or 0) >= oldest]
        if not older:
            return []
        first = older[0].created_ts or oldest
        pages = 1 + (start - first) * self._density / _PAGE
        wanted = {call.call_id for call in older}
        if pages <= len(older) or any(call.cname is None for call in older):
            found = await self._search(Span(first, start))
        else:
            found = []
            for call in older:
                found += await self._search(Span(call.created_ts or 0, (call.created_ts or 0) + 1), call.cname)
        return [call for call in {call.call_id: call for call in found}.values() if call.call_id in wanted]

    async def _drill(self, call: Call) -> tuple[Session, ...] | None:
        """Return the sessions of a call; None where they cannot be had yet, and it is looked at again."""
        newest = self._quota.plan.of_endpoint(CALL_SESSIONS).askable(int(self._quota.utc())).end
        if call.span is None or call.span.end > newest:
            return None
        try:
            return tuple([session async for session in self._calls.sessions(call)])
        except AgoraError as error:
            self._judge([error])
            return None

    async def _save(self) -> None:
        await self._place.keep(self._tail.checkpoint(self._place.stream, self._begun))

    async def _rest(self, kept: Reserve) -> None:
        """Rest as the day's requests allow; not at all while there is more to read."""
        cost, self._cost = max(self._cost, 1.0), 0.0
        budget = await kept.keep(round(_DAY / self._settings.every), round(_DAY / self._settings.every))
        self._health = attrs.evolve(self._health, requests_left=budget.requests)
        pace = budget.seconds * cost / budget.requests if budget.requests else budget.seconds + 1
        newest = min(self._askable().end, self._settings.stop or self._askable().end)
        behind = newest - self._tail.read_to > self._settings.every and not self._health.failures
        await self._pause(max(pace, 0.0 if behind else self._settings.every, 0.01))

    def _over(self) -> bool:
        stop = self._settings.stop
        return self._stopped.is_set() or (stop is not None and self._tail.read_to >= stop and not self._tail.going)

    def _askable(self) -> Span:
        span = self._quota.plan.of_endpoint(CALL_LISTS).askable(int(self._quota.utc()))
        return Span(min(span.start + _MARGIN, span.end - 1), span.end)
