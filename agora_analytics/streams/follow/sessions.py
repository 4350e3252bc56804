"""Fetches the sessions of finished calls, from a quota of their own: they delay no other event.

A `CallFinished` waits for its sessions until a few minutes after they become queryable. It is delivered without them if
no request is left, if the service refuses this call, or if requests keep failing. The sessions then follow as
`CallSessions`, if that is wanted and once they can be fetched.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Final

import attrs

from agora_analytics._core import paging, truncation, validation
from agora_analytics._core.retry import backoff, host_failed
from agora_analytics.errors import (
    AgoraError,
    LedgerError,
    PlanRefused,
    QuotaExhausted,
    RateLimited,
    ResponseError,
)
from agora_analytics.models import Call, Session, SessionPage
from agora_analytics.plans import CALL_SESSIONS
from agora_analytics.quota.limiters import Limiters, Reserve
from agora_analytics.spans import DAY, HOUR, Span
from agora_analytics.streams.events import CallFinished, CallSessions
from agora_analytics.streams.follow.call_tracker import CallTracker, PendingSessions
from agora_analytics.streams.health import log
from agora_analytics.streams.sources import CallPageSource

_INTERACTIVE_SHARE: Final = 0.1
"""Share of the day's requests for sessions that is left to interactive use."""

_MAX_HOLD: Final = 300.0
"""Seconds for which the end of a call waits for its sessions after they became queryable."""

_MAX_QUOTA_WAIT: Final = 5.0
"""Seconds to wait for quota before the fetcher returns to the call lists."""

_MIN_RETRY: Final = 60.0
_MAX_RETRY: Final = 6.0 * HOUR
"""Seconds until a call is retried: exponential backoff between these two."""

_MAX_OUTAGE_PAUSE: Final = 900.0
"""Seconds between two attempts in an outage, at most."""

_MAX_OWN_FAILURES: Final = 3
"""Failures for a call, while others were answered, after which it is given up."""

_MAX_REFUSALS: Final = 6
"""Attempts after which a refused call is given up even if no other call was answered meanwhile."""

_MAX_LATE: Final = 1_000
"""Finished calls whose sessions may still follow; above that, the oldest are given up."""

SessionEvent = CallFinished | CallSessions


class _OutOfQuotaError(Exception):
    """No request for sessions is left that is worth waiting for."""


class SessionFetcher:
    """Fetches the pending sessions of a tracker."""

    def __init__(self, source: CallPageSource, limiters: Limiters) -> None:
        self._source = source
        self._limiters = limiters
        self._time = limiters.time
        self._limits = limiters.plan.of_endpoint(CALL_SESSIONS)
        counter = limiters.plan.counter(CALL_SESSIONS)
        self._interactive_reserve = math.ceil(_INTERACTIVE_SHARE * limiters.plan.rates(counter)["day"])
        self.oldest_accepted = 0
        self._requests_left = 0
        self._successes = 0
        self._failures_in_a_row = 0
        self._paused_until = 0.0
        self._next_pause = _MIN_RETRY

    def queryable_at(self, call: Call) -> float:
        """Return when all sessions of a call are queryable (UTC seconds), 0 if they never are."""
        return 0.0 if call.span is None else float(self._limits.queryable_at(call.span.end))

    async def fetch_pending(self, tracker: CallTracker, reserve: Reserve, until: float) -> AsyncGenerator[SessionEvent]:
        """Yield the events of pending calls until a time (UTC seconds): first of calls whose end is not yet reported.

        Makes at least one request, if one is left.
        """
        self._requests_left = await self._available_requests(tracker, reserve)
        spent = self._requests_left <= 0
        # Those that hold back an event come first, then those that are due first.
        for pending in sorted(tracker.pending.values(), key=lambda pending: (pending.end_reported, pending.next_at)):
            utc = self._time.utc()
            event = self._abandoned(pending, utc, len(tracker.pending))
            if event is None and not spent and _is_due(pending, utc) and self._paused_until <= self._time.monotonic():
                try:
                    event = await self._fetch(tracker, pending)
                except _OutOfQuotaError:
                    spent = True
            if event is None and not pending.end_reported and (spent or utc > pending.queryable_at + _MAX_HOLD):
                event = CallFinished(call=pending.call, reason="quota" if spent else "outage")
            if event is not None:
                yield event
            spent = spent or self._requests_left <= 0
            # Without quota no request takes time: all ends are reported in one go.
            if self._time.utc() >= until and not spent:
                return

    async def _available_requests(self, tracker: CallTracker, reserve: Reserve) -> int:
        """Return the requests that are left of the day, less those for interactive use."""
        try:
            # None for other days: calls of tomorrow are not known yet.
            budget = await reserve.keep(tracker.unreported(), 0)
        except LedgerError:
            return len(tracker.pending) + 1  # the request itself fails then, and counts as an outage
        return budget.requests - self._interactive_reserve

    def _abandoned(self, pending: PendingSessions, now: float, count: int) -> SessionEvent | None:
        """Return the event of a call whose sessions will never come, None if they may."""
        span = pending.call.span
        if span is None:
            return _no_sessions(pending, "it has no start or no end")
        if not validation.is_sendable(pending.call.call_id):
            return _no_sessions(pending, "its id cannot be queried")
        # Not by the clock alone: lists are kept as long, and the service has shown how long that is.
        if span.start < min(self.oldest_accepted, self._limits.oldest(int(now))):
            return _no_sessions(pending, "expired")
        # A wrong end would keep the call pending for years; a day is left to ends and clocks that are a little ahead.
        if self._time.confirmed and span.end > now + DAY:
            return _no_sessions(pending, "its end lies in the future")
        if pending.end_reported and count > _MAX_LATE:
            return _no_sessions(pending, "quota")
        return None

    async def _fetch(self, tracker: CallTracker, pending: PendingSessions) -> SessionEvent | None:
        """Fetch the sessions of a call, and return its event; None if it is to be retried."""
        try:
            await self._check_quota()
            sessions = await self._fetch_sessions(pending.call)
        except (RateLimited, QuotaExhausted):
            raise _OutOfQuotaError from None
        except AgoraError as error:
            return self._record_failure(tracker, pending, error)
        self._successes += 1
        self._failures_in_a_row, self._next_pause = 0, _MIN_RETRY
        if pending.end_reported:
            return CallSessions(call=pending.call, sessions=sessions)
        return CallFinished(call=pending.call, sessions=sessions)

    async def _check_quota(self) -> None:
        """Raise unless a request can be sent soon."""
        if (await self._limiters.forecast(1, CALL_SESSIONS)).seconds > _MAX_QUOTA_WAIT:
            raise _OutOfQuotaError

    async def _fetch_sessions(self, call: Call) -> tuple[Session, ...]:
        def page(part: truncation.ListQuery, number: int) -> Coroutine[Any, Any, SessionPage]:
            # At the attempt, because the service counts failed ones too.
            self._requests_left -= 1
            return self._source.session_page(call.call_id, lambda: part.span, number)

        spans = _span(call).slices(self._limits.longest_query)
        rows = paging.rows(spans, page, truncation.SESSIONS, read_ahead=False)
        async with aclosing(rows) as sessions:
            return tuple([session async for session in sessions])

    def _record_failure(self, tracker: CallTracker, pending: PendingSessions, error: AgoraError) -> SessionEvent | None:
        """Record a failure; return the event of the call if the failure is its own fault."""
        # Otherwise the failure may be an outage, which is nobody's fault.
        others_answered = pending.successes_before is not None and self._successes > pending.successes_before
        own_failures = pending.own_failures + others_answered
        log.info("follow: the sessions of call %s cannot be fetched: %s", pending.call.call_id, error)
        self._failures_in_a_row += 1
        if self._is_own_fault(pending, own_failures, error) or own_failures >= _MAX_OWN_FAILURES:
            expired = isinstance(error, PlanRefused) and error.kind == "range"
            return _no_sessions(pending, "expired" if expired else f"{type(error).__name__}: {error.args[0]}")
        tracker.pending[pending.call.call_id] = attrs.evolve(
            pending,
            tries=pending.tries + 1,
            own_failures=own_failures,
            successes_before=self._successes,
            next_at=self._time.utc() + backoff(_MIN_RETRY, pending.tries, _MAX_RETRY),
        )
        if self._failures_in_a_row > 1:  # an outage, in which more requests would be wasted
            self._paused_until = self._time.monotonic() + self._next_pause
            self._next_pause = min(2 * self._next_pause, _MAX_OUTAGE_PAUSE)
        return None

    def _is_own_fault(self, pending: PendingSessions, own_failures: int, error: AgoraError) -> bool:
        """Whether a failure is due to the call: it is refused while others are answered, or again and again."""
        if isinstance(error, PlanRefused) and error.kind == "range":
            oldest = self._limits.oldest(int(self._time.utc()))
            return self._time.confirmed and _span(pending.call).start < oldest
        # A connection that broke or a host that failed says nothing about the call.
        failed = not isinstance(error, ResponseError) or host_failed(error)
        latency = isinstance(error, PlanRefused) and error.kind == "latency"
        return not (failed or latency) and (own_failures > 0 or pending.tries >= _MAX_REFUSALS)


def _span(call: Call) -> Span:
    assert call.span is not None  # noqa: S101 - a call without one is given up before any request
    return call.span


def _is_due(pending: PendingSessions, now: float) -> bool:
    """Whether a call is due, or so far off that the clock must have been set back since."""
    return pending.next_at <= now or pending.next_at > now + 2 * DAY


def _no_sessions(pending: PendingSessions, reason: str) -> SessionEvent:
    if pending.end_reported:
        return CallSessions(call=pending.call, sessions=None, reason=reason)
    return CallFinished(call=pending.call, reason=reason)
