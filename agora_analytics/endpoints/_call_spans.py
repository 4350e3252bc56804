"""What can be asked about a call now: the service has details later than lists, and keeps both for some days only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeVar

from agora_analytics import _checks
from agora_analytics.endpoints._group import EndpointGroup
from agora_analytics.endpoints._kept import Kept
from agora_analytics.errors import PlanRefused, TooEarly
from agora_analytics.models import Call
from agora_analytics.plans import CALL_SESSIONS, Endpoint
from agora_analytics.spans import Instant, Span, moment, seconds, without

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

_MARGIN: Final = 5
"""Seconds by which a span stays away from what expires: a request takes time."""

_LOOK: Final = 60.0
"""Seconds after which who waits looks at the service's clock again."""

log = logging.getLogger("agora_analytics")


class CallSpans(EndpointGroup):
    """Spans of calls, cut to what can be asked about them."""

    def askable_at(self, call: Call) -> int:
        """Return when the details of a whole call can be asked for (UTC seconds): its end, and the plan's delay.

        Of a call that goes on, when the first of them can be. Raises `ValueError` where the plan has no details, and
        for a call without `created_ts`.
        """
        _checks.instance("call", call, Call)
        span = call.span or Span(_created(call), _created(call) + 1)
        return span.end + self._session.plan.of_endpoint(CALL_SESSIONS).delay + 1

    def is_askable(self, call: Call) -> bool:
        """Whether the details of a whole call can be asked for now, by the service's clock; see `askable_at`."""
        return self._session.now() >= self.askable_at(call)

    def _call_span(
        self,
        endpoint: Endpoint,
        call: Call | str,
        start: Instant | None,
        end: Instant | None,
        *,
        whole: bool = True,
        kept: Kept | None = None,
    ) -> Span:
        """Return what to ask about a call: the span given, or as much of all of it as can be asked now."""
        check_call(call, start, end)
        if start is not None and end is not None:
            return self._span(endpoint, start, end, whole=whole)
        assert isinstance(call, Call)  # noqa: S101 - it was checked
        return self._span(endpoint, *self._cut(endpoint, call, kept), whole=whole)

    def _call_slices(
        self,
        endpoint: Endpoint,
        call: Call | str,
        start: Instant | None,
        end: Instant | None,
        *,
        mark: int = 1,
        kept: Kept | None = None,
    ) -> tuple[Span, ...]:
        span = self._call_span(endpoint, call, start, end, whole=False, kept=kept)
        return span.slices(self._longest(endpoint), mark)

    def _cut(self, endpoint: Endpoint, call: Call, kept: Kept | None) -> Span:
        limits = self._session.plan.of_endpoint(endpoint)
        askable = limits.askable(self._session.now())
        created = _created(call)
        span = call.span or Span(created, max(askable.end, created + 1))
        if not self._is_dated():
            return span
        if span.start >= askable.end:
            at = span.start + limits.delay + 2
            raise TooEarly(
                f"nothing can be asked about call {call.call_id!r} before {moment(at)}: it began"
                f" {self._session.now() - span.start} s ago, and details come {limits.delay} s later",
                advice="Ask again then, or give wait=True to sessions() or metrics().",
                askable_at=at,
            )
        oldest = askable.start + _MARGIN
        if span.end <= oldest and self._session.confirmed:
            raise _gone(call, limits.available)
        found = Span(oldest if span.start < oldest < span.end else span.start, min(span.end, askable.end))
        if found != span:
            if kept is not None:
                kept.lose(*without(span, found))
            log.info("call %s: %s of %s can be asked for now", call.call_id, found, span)
        return found

    def _is_dated(self) -> bool:
        """Whether an answer has told the service's time, by which it is known what can be asked about a call."""
        return self._session.host_ahead() is not None

    async def _asked(self, ask: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        """Return an answer about a call; asks once more where the time was learned by a refusal only."""
        dated = self._is_dated()
        try:
            return await ask()
        except PlanRefused:
            if dated or not self._is_dated():
                raise
        return await ask()

    def _about_call(
        self,
        call: Call | str,
        start: Instant | None,
        end: Instant | None,
        make: Callable[[], AsyncGenerator[ItemT]],
        *,
        wait: bool,
    ) -> AsyncGenerator[ItemT]:
        """Return what is made about a call, of what can be asked now or, with `wait`, once all of it can be."""
        check_call(call, start, end)
        if not wait and (end is not None or self._is_dated()):
            return make()
        return self._found(make, (lambda: self._until(call, end)) if wait else None)

    async def _found(
        self, make: Callable[[], AsyncGenerator[ItemT]], until: Callable[[], int] | None
    ) -> AsyncGenerator[ItemT]:
        """Yield what is made about a call, of what can be asked or, with `until`, once that moment has come.

        Before the service's time is known all is asked for, and a refusal tells the time.
        """
        dated, told = self._is_dated(), False
        if dated and until is not None:
            await self._wait(until())
        try:
            async with aclosing(make()) as items:
                async for item in items:
                    told = True
                    yield item
        except PlanRefused:
            if dated or told or not self._is_dated():
                raise
        else:
            return
        async with aclosing(self._found(make, until)) as items:
            async for item in items:
                yield item

    async def _wait(self, until: int) -> None:
        while (rest := until - self._session.now()) > 0:  # noqa: ASYNC110 - time is what is waited for
            await asyncio.sleep(min(rest, _LOOK))

    def _until(self, call: Call | str, end: Instant | None) -> int:
        """Return when all that is asked about a call can be asked for."""
        if end is not None:
            return seconds(end, "end") + self._session.plan.of_endpoint(CALL_SESSIONS).delay + 1
        return self.askable_at(call) if isinstance(call, Call) else 0


def id_of(call: Call | str) -> str:
    """Return the id of a call that is given by it, or whole."""
    return _checks.text("call", call.call_id if isinstance(call, Call) else call)


def check_call(call: Call | str, start: Instant | None, end: Instant | None) -> None:
    """Raise for a call, or a part of it, that cannot be asked about in this way."""
    id_of(call)
    if start is not None and end is not None:
        Span.of(start, end)
        return
    if start is not None or end is not None or not isinstance(call, Call):
        raise TypeError("start and end go together, and are needed where the call is given by its id")
    _created(call)


def _gone(call: Call, available: int) -> PlanRefused:
    error = PlanRefused(
        f"call {call.call_id!r} is over for longer than the plan keeps ({available} s): nothing was asked",
        advice="Ask about calls while they are kept, or export them.",
    )
    error.kind, error.limit = "range", available
    return error


def _created(call: Call) -> int:
    if call.created_ts is None:
        raise ValueError(f"call {call.call_id!r} has no created_ts: give start and end")
    return call.created_ts
