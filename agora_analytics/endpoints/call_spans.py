"""What of a call is queryable now: details appear later than lists, and both expire after some days.

Before the service's clock is known, the whole of a call is requested, as the host's clock does not show what is too
young. If the service refuses that as too young, the date of the response sets the clock; a response without a date
shows only that the data is too young, and the host's clock is used from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeVar

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics._core.wire import NothingToFetchError
from agora_analytics.endpoints.base import EndpointGroup, SpanTracker
from agora_analytics.errors import DecodeError, PlanRefused, TooEarly
from agora_analytics.models import Answer, Call, Session
from agora_analytics.plans import CALL_SESSIONS, Endpoint, Limits
from agora_analytics.spans import Instant, Span, is_by_host, moment, sliced

AnswerT = TypeVar("AnswerT", bound=Answer | None)

log = logging.getLogger("agora_analytics")

_MARGIN: Final = 5
"""Seconds between a span's start and what expires: a request takes time."""

_NEAR: Final = 5
"""Seconds by which the host's clock may be behind without cutting an open call short."""

_RECHECK: Final = 5.0
"""Seconds between two checks of the service's clock, and of whether the client was closed, while waiting."""

_MAX_DOUBTFUL_WAIT: Final = 60.0
"""Seconds to wait while the time is known from one response only."""

_MAX_REFUSALS: Final = 3
"""`PlanRefused` (too young) before one is believed, while the clock is in doubt: some have no date."""

_MAX_REFUSALS_WAITING: Final = 10
"""The same with `wait=True`, at increasing delays."""


class CallSpanTracker(SpanTracker):
    """Follows the spans of one call, or of a given part of it: clips them to what is queryable, or waits for it."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        limits: Limits,
        call: Call | None,
        given: Span | None,
        *,
        by_host: bool,
        clip_start: bool,
        waits: bool,
    ) -> None:
        super().__init__(dispatcher, limits, by_host=by_host, clip_start=clip_start)
        self._call = call
        self._waits = waits
        self._refused = False
        self._exact = given is not None and not (by_host or clip_start or waits)
        """Whether the given span is fetched unchanged, whatever the time."""
        self._begun = dispatcher.time.monotonic()
        self._whole = given or (call.span if call else None)
        self._start = self._whole.start if self._whole else _created(call)
        self._end = self._whole.end if self._whole else None
        """None while the call is open: its end is now."""

    def check(self) -> None:
        """Raise `TooEarly` if nothing of the call is queryable yet, and `PlanRefused` if all has expired."""
        if self._call is None or not self._known:
            return
        now = self._dispatcher.time.utc_second()
        if self._start >= self._limits.newest(now) and not self._waits:
            at = self._limits.queryable_at(self._start + 1)
            raise _too_early(self._call, now - self._start, at, self._limits.delay)
        gone = self._end is not None and self._end <= self._limits.oldest(now) + _MARGIN
        # Only a confirmed clock is a reason to give up; otherwise the service decides.
        if gone and self._dispatcher.time.confirmed:
            raise _gone(self._call, self._limits.retention)

    def slices(self, longest: int | None = None, mark: int = 1) -> Iterator[Span]:
        """Yield spans for one request each, oldest first; cut at multiples of `mark`.

        An open call ends now, as known when its last slice is due. What has expired or is too young is added to
        `missing` and costs no request: with a wrong time it may be thousands of years.
        """
        at, longest = self._start, longest or self._limits.longest_query
        while at < (end := self._until(at)):
            # An open call goes on: the bucket in which the last slice ended has grown, and is fetched again whole.
            at = at if at == self._start else at // mark * mark
            while at < end:
                # One at a time, as the end and what has expired change while slices are fetched.
                part = next(sliced(Span(self._kept_from(at, end, longest, mark), end), longest, mark))
                if part.start > self._start and self._is_too_young(part):
                    self.add_missing(Span(part.start, end))
                    return
                yield part
                at = part.end

    def _kept_from(self, at: int, end: int, longest: int, mark: int) -> int:
        """Return where to continue after what has expired; the last slice stays, to report it."""
        oldest = self._earliest()
        first = min(oldest or at, end - 1) // mark * mark
        if first - at < longest:
            return at
        # In one step: a call that claims to have begun in 1970 would be half a million slices.
        self.add_missing(Span(at, first))
        return first

    async def fetch_whole(self, fetch: Callable[[Span], Awaitable[AnswerT]]) -> AnswerT:
        """Fetch all of it in one request; raises `PlanRefused` if the call is too long for one."""
        # The caller knows the span, so nothing is clipped, waited for or sent again.
        if self._exact and self._whole is not None:
            return self.record(await fetch(self._whole))
        requested = self._whole_span()
        answer = await self._fetch_or_raise(fetch, requested)
        if self._end is not None:
            return answer
        # The end was now by the host's clock, which may turn out to have been behind.
        later = self._whole_span()
        return answer if later.end - requested.end <= _NEAR else await self._fetch_or_raise(fetch, later)

    def clip(self, span: Span) -> Span:
        """Return what of a span is queryable now; raises `NothingToFetchError` for nothing."""
        if self._exact:
            return span
        span = super().clip(span)
        newest = self._limits.newest(self._dispatcher.time.utc_second())
        if span.end <= newest or not self._known or (self._call is None and not self._waits):
            return span
        if self._waits and self._doubtful:
            return span  # waited long enough: the response corrects the clock
        # Too young: `fetch` waits for it and asks again.
        if self._waits:
            raise NothingToFetchError
        if self._whole is not None:
            self.add_missing(Span(max(newest, span.start), span.end))
        if newest <= span.start:
            raise NothingToFetchError
        log.info("%s of %s is queryable now", Span(span.start, newest), span)
        return Span(span.start, newest)

    async def fetch(self, send: Callable[[], Awaitable[AnswerT]], span: Span, default: AnswerT) -> AnswerT:
        """Return what `send` gets for `clip(span)`, or `default`; sends again once an error has corrected the clock."""
        # What may be sent again, and how often, in one place: longer than 25 lines for that.
        refusals, pause = 0, 0.0
        most = _MAX_REFUSALS_WAITING if self._waits else _MAX_REFUSALS
        while True:
            self.check()
            known = self._known
            if self._waits and known:
                await self._wait(span)
            doubtful = self._doubtful
            try:
                found = await super().fetch(send, span, default)
            except PlanRefused as error:
                refusals += 1
                if error.kind != "latency" or (self._call is None and not self._waits):
                    raise
                # By a certain clock it was not too young: the service is later than the plan says, so a retry is no
                # use.
                if known and not (doubtful and refusals < most):
                    raise
                # Even without a date the refusal shows that it is that early: the host's clock is used from now on.
                self._refused = True
                if self._waits and known:  # a wrong clock may say again and again that no wait is needed
                    await asyncio.sleep(pause)
                    pause = min(2 * pause + _RECHECK, _MAX_DOUBTFUL_WAIT)
                continue
            if found is not default:
                return found
            if not self._waits or self._is_gone(span):  # otherwise it turned out to be too young: wait
                self.check()
                return default

    @property
    def _known(self) -> bool:
        """Whether the service's time is certain, or an error has confirmed that it is that early."""
        return self._refused or self._dispatcher.time.confirmed

    def _until(self, at: int) -> int:
        """Return the end, by the time known now, after all before `at` was fetched."""
        if self._end is None:
            # When the method was called, by what is known of the clock now: a call must not grow while it is read.
            then = self._dispatcher.time.utc() - (self._dispatcher.time.monotonic() - self._begun)
            newest = max(self._limits.newest(int(then)), self._start + 1)
            if at == self._start or newest - at > _NEAR:
                return newest
            self._end = at
        return self._end

    def _whole_span(self) -> Span:
        span = Span(self._start, self._until(self._start))
        # By a wrong clock an open call may seem longer than a request may carry: the answer corrects that.
        if self._whole is None and not self._known:
            return Span(span.start, min(span.end, span.start + self._limits.longest_query))
        if self._call is not None and span.duration > self._limits.longest_query:
            raise _too_long(self._call, span, self._limits.longest_query)
        return span

    async def _fetch_or_raise(self, fetch: Callable[[Span], Awaitable[AnswerT]], span: Span) -> AnswerT:
        found: AnswerT | None = await self.fetch(lambda: fetch(span), span, None)
        if found is None:
            raise _gone(self._call, self._limits.retention)
        return found

    def _is_too_young(self, span: Span) -> bool:
        """Whether nothing of a span is queryable yet, without waiting for it."""
        waited_for = self._waits or self._call is None or not self._known
        return not waited_for and span.start >= self._limits.newest(self._dispatcher.time.utc_second())

    def _is_gone(self, span: Span) -> bool:
        """Whether all of a span has expired."""
        oldest = self._earliest()
        return oldest is not None and self.moved(span).end <= oldest

    async def _wait(self, span: Span) -> None:
        """Wait until a span is queryable, or the client is closed."""
        time, limiters = self._dispatcher.time, self._dispatcher.limiters
        begun = time.monotonic()
        while (rest := self._limits.queryable_at(self.moved(span).end) - time.utc_second()) > 0 and not limiters.closed:
            if self._doubtful and time.monotonic() - begun > _MAX_DOUBTFUL_WAIT:
                return  # the next response corrects the clock
            await asyncio.sleep(min(rest, _RECHECK))

    @property
    def _doubtful(self) -> bool:
        """Whether the time is known only from a single response, whose date may be wrong."""
        return not self._dispatcher.time.confirmed and self._dispatcher.time.steady_host_ahead() is not None


class CallSpans(EndpointGroup):
    """Says when the details of calls are queryable."""

    def queryable_at(self, call: Call) -> int:
        """Return when all details of a call are queryable (UTC seconds): its end plus the plan's delay.

        For an open call, when the first of them are. Raises `ValueError` if the plan has no details, and for a call
        without `created_ts`.
        """
        validation.instance("call", call, Call)
        span = call.span or Span(_created(call), _created(call) + 1)
        return self._dispatcher.plan.of_endpoint(CALL_SESSIONS).queryable_at(span.end)

    def is_queryable(self, call: Call) -> bool:
        """Whether all details of a call are queryable now, by the service's clock; see `queryable_at`."""
        return self._dispatcher.time.utc_second() >= self.queryable_at(call)

    def _track_call(
        self,
        endpoint: Endpoint,
        call: Call | str,
        start: Instant | None,
        end: Instant | None,
        *,
        whole: bool = False,
        wait: bool = False,
    ) -> CallSpanTracker:
        """Return the tracker of a call's spans; `whole` means that one request must carry them."""
        id_of(call)
        self._app()
        given, clip_start, by_host = None, self._check_age, is_by_host(start, end)
        if start is not None and end is not None:
            # With `wait`, the span may lie in the future.
            given = Span.of(start, end) if wait else self._checked(endpoint, start, end, whole=whole)[0]
            clip_start = clip_start and not whole
        elif start is not None or end is not None or not isinstance(call, Call):
            raise TypeError("start and end go together, and are needed where the call is given by its id")
        whose = call if isinstance(call, Call) and given is None else None
        limits = self._dispatcher.plan.of_endpoint(endpoint)
        tracker = CallSpanTracker(
            self._dispatcher, limits, whose, given, by_host=by_host, clip_start=clip_start, waits=wait
        )
        tracker.check()
        return tracker


def id_of(call: Call | str) -> str:
    """Return the id of a call that is given as an id or a `Call`.

    Raises `DecodeError` for an id of the service's that cannot be sent back, `ValueError` for a caller's own.
    """
    if isinstance(call, Call) and not validation.is_sendable(call.call_id):
        raise DecodeError(
            f"the call has the id {validation.short_repr(call.call_id)}, which cannot be sent back: nothing was sent",
            hint="Leave the call out, and report its id to Agora support.",
        )
    return validation.non_empty_str("call", call.call_id if isinstance(call, Call) else call)


def sids_of(sids: Iterable[str | Session]) -> tuple[str, ...]:
    """Return distinct ids of sessions; ids of the service's are not validated."""
    listed = validation.as_list("sids", sids, "session ids or sessions")
    came = {place: one.sid for place, one in enumerate(listed) if isinstance(one, Session)}
    for place, one in enumerate(listed):
        if place not in came:
            (came[place],) = validation.without_commas("sids", (validation.non_empty_str(f"sids[{place}]", one),))
    return tuple(dict.fromkeys(came[place] for place in range(len(listed))))


def _too_early(call: Call, age: int, at: int, delay: int) -> TooEarly:
    return TooEarly(
        f"no details of call {call.call_id!r} are queryable before {moment(at)}: it began {age} s ago, and details come"
        f" {delay} s later",
        hint="Request them then, or pass wait=True to sessions() or metrics().",
        queryable_at=at,
    )


def _too_long(call: Call, span: Span, longest: int) -> PlanRefused:
    # No ValueError: the caller gave a call and no span, so no argument is wrong.
    error = PlanRefused(
        f"call {call.call_id!r} lasted {span.duration} s, and one request may span at most {longest} s on this plan:"
        " nothing was sent",
        hint="Pass start and end of one part after the other; their averages cannot be merged.",
    )
    error.kind, error.limit = "length", longest
    return error


def _gone(call: Call | None, retention: int) -> PlanRefused:
    which = f"call {call.call_id!r}" if call else "the call"
    error = PlanRefused(
        f"{which} ended longer ago than the plan keeps data ({retention} s): nothing was sent",
        hint="Request details while the plan keeps them, or export them.",
    )
    error.kind, error.limit = "range", retention
    return error


def _created(call: Call | None) -> int:
    """Return when a call began; raises `ValueError` if the service does not know (None or 0)."""
    assert call is not None  # noqa: S101 - or a span was given
    if not call.created_ts:
        raise ValueError(f"call {call.call_id!r} has no created_ts: give start and end")
    return call.created_ts
