"""The sessions of finished calls, from a budget of their own: what they cost delays no start, change or end.

A `CallFinished` waits for its sessions until a few minutes after they can be asked for. It comes without them where
there is no quota for more, where the service refuses this one, or where asking fails for longer; then they follow, if
that is wanted, once they can be had.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Final

import attrs

from agora_analytics._core import paging, truncation, validation
from agora_analytics.errors import (
    AgoraError,
    LedgerError,
    PlanRefused,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    ServerError,
)
from agora_analytics.models import Call, Session, SessionPage
from agora_analytics.plans import CALL_SESSIONS
from agora_analytics.quota.quota import Quota, Reserve
from agora_analytics.spans import DAY, Span
from agora_analytics.streams.events import CallFinished, CallSessions
from agora_analytics.streams.follow.call_tracker import Owed, Tail
from agora_analytics.streams.health import log
from agora_analytics.streams.sources import CallSource

_PEOPLE: Final = 0.1
"""Part of the day's requests for details that is left to people."""

_HELD: Final = 300.0
"""Seconds for which a call's end waits for its sessions once they could be had."""

_SOON: Final = 5.0
"""Seconds that are worth waiting for quota, rather than to go on with the calls."""

_FIRST: Final = 60.0
_LAST: Final = 6 * 3_600.0
"""Seconds between two tries for one call: twice as many each time, up to so many."""

_LONGEST_REST: Final = 900.0
"""Seconds after which an outage of details is looked at again."""

_DOUBLINGS: Final = 10
_TRIES: Final = 3
"""Failures for a call, while others were answered, after which it is the call's own fault."""

_REFUSED: Final = 6
"""Tries after which a refusal is the call's own, though no other call was there to be answered."""

_MOST: Final = 1_000
"""Finished calls whose sessions may still follow; of more, the oldest are left out."""

Told = CallFinished | CallSessions


class _OutOfQuotaError(Exception):
    """There is no request for details to be had for longer than is worth waiting for."""


class Details:
    """Asks for the sessions that a tail owes."""

    def __init__(self, source: CallSource, quota: Quota) -> None:
        self._source = source
        self._quota = quota
        self._limits = quota.plan.of_endpoint(CALL_SESSIONS)
        counter = quota.plan.counter(CALL_SESSIONS)
        self._people = math.ceil(_PEOPLE * quota.plan.rates(counter)["day"])
        self.proved = 0
        self._left = 0
        self._worked = 0
        self._in_a_row = 0
        self._rests_until = 0.0
        self._rest = _FIRST

    def askable_at(self, call: Call) -> float:
        """Return when all sessions of a call can be asked for (UTC seconds), 0 where that is never."""
        return 0.0 if call.span is None else float(self._limits.askable_at(call.span.end))

    async def round(self, tail: Tail, kept: Reserve, until: float) -> AsyncGenerator[Told]:
        """Yield what is known of the calls that are owed, first those whose end is not told, until a moment.

        At least one request is made, where one can be.
        """
        self._left = await self._budget(tail, kept)
        spent = self._left <= 0
        for one in sorted(tail.owed.values(), key=lambda one: (one.told, one.next_at)):
            now = self._quota.utc()
            event = self._given_up(one, now, len(tail.owed))
            if event is None and not spent and _is_due(one, now) and self._rests_until <= self._quota.now():
                try:
                    event = await self._try(tail, one)
                except _OutOfQuotaError:
                    spent = True
            if event is None and not one.told and (spent or now > one.since + _HELD):
                event = CallFinished(call=one.call, reason="quota" if spent else "outage")
            if event is not None:
                yield event
            spent = spent or self._left <= 0
            if self._quota.utc() >= until and not spent:
                return

    async def _budget(self, tail: Tail, kept: Reserve) -> int:
        """Return how many requests are left of the day, but for those that people may need."""
        try:
            budget = await kept.keep(sum(not one.told for one in tail.owed.values()), 0)
        except LedgerError:
            return len(tail.owed) + 1  # asking shows it too, and counts as an outage
        return budget.requests - self._people

    def _given_up(self, one: Owed, now: float, count: int) -> Told | None:
        """Return the event of a call whose sessions will never come."""
        span = one.call.span
        if span is None:
            return _without(one, "it has no start or no end")
        if not validation.is_sendable(one.call.call_id):
            return _without(one, "its id cannot be asked for")
        # Not by the clock alone: the lists are kept as long, and the service has shown how long that is.
        if span.start < min(self.proved, self._limits.oldest(int(now))):
            return _without(one, "expired")
        if self._quota.confirmed and span.end > now + DAY:
            return _without(one, "its end lies in the future")
        if one.told and count > _MOST:
            return _without(one, "quota")
        return None

    async def _try(self, tail: Tail, one: Owed) -> Told | None:
        """Ask for the sessions of a call, and return what came of it, nothing if it is to be tried again."""
        try:
            await self._ready()
            sessions = await self._sessions(one.call)
        except (RateLimited, QuotaExhausted):
            raise _OutOfQuotaError from None
        except AgoraError as error:
            return self._failed(tail, one, error)
        self._worked += 1
        self._in_a_row, self._rest = 0, _FIRST
        if one.told:
            return CallSessions(call=one.call, sessions=sessions)
        return CallFinished(call=one.call, sessions=sessions)

    async def _ready(self) -> None:
        """Wait for a request that is to be had soon; the line for it is short."""
        if (await self._quota.forecast(1, CALL_SESSIONS)).seconds > _SOON:
            raise _OutOfQuotaError

    async def _sessions(self, call: Call) -> tuple[Session, ...]:
        def page(part: truncation.ListQuery, number: int) -> Coroutine[Any, Any, SessionPage]:
            self._left -= 1
            return self._source.session_page(call.call_id, lambda: part.span, number)

        spans = _span(call).slices(self._limits.longest_query)
        rows = paging.rows(spans, page, truncation.SESSIONS, read_ahead=False)
        async with aclosing(rows) as found:
            return tuple([session async for session in found])

    def _failed(self, tail: Tail, one: Owed, error: AgoraError) -> Told | None:
        """Note that asking for a call failed; return its event where that is the call's own fault."""
        counted = one.counted + (one.mark is not None and self._worked > one.mark)
        log.info("the sessions of call %s cannot be had: %s", one.call.call_id, error)
        if self._is_own(one, counted, error) or counted >= _TRIES:
            self._in_a_row += 1
            expired = isinstance(error, PlanRefused) and error.kind == "range"
            return _without(one, "expired" if expired else f"{type(error).__name__}: {error.args[0]}")
        now = self._quota.utc()
        tail.owed[one.call.call_id] = attrs.evolve(
            one,
            tries=one.tries + 1,
            counted=counted,
            mark=self._worked,
            next_at=now + min(_FIRST * 2 ** min(one.tries, _DOUBLINGS), _LAST),
        )
        self._in_a_row += 1
        if self._in_a_row > 1:  # an outage: the others are not worth their requests
            self._rests_until, self._rest = self._quota.now() + self._rest, min(2 * self._rest, _LONGEST_REST)
        return None

    def _is_own(self, one: Owed, counted: int, error: AgoraError) -> bool:
        """Whether a failure is the call's own fault: it is refused, and others are answered, or it always was."""
        if isinstance(error, PlanRefused) and error.kind == "range":
            return self._quota.confirmed and _span(one.call).start < self._limits.oldest(int(self._quota.utc()))
        failed = not isinstance(error, ResponseError) or (isinstance(error, ServerError) and error.status >= 500)  # noqa: PLR2004
        latency = isinstance(error, PlanRefused) and error.kind == "latency"
        return not (failed or latency) and (counted > 0 or one.tries >= _REFUSED)


def _span(call: Call) -> Span:
    assert call.span is not None  # noqa: S101 - or it was given up before anything was asked
    return call.span


def _is_due(one: Owed, now: float) -> bool:
    """Whether it is time to ask; also where that is further off than any try, but for a clock that was set back."""
    return one.next_at <= now or one.next_at > now + 2 * DAY


def _without(one: Owed, reason: str) -> Told:
    if one.told:
        return CallSessions(call=one.call, sessions=None, reason=reason)
    return CallFinished(call=one.call, reason=reason)
