"""What can be asked about a call now: the service has details later than lists, and keeps both for some days only.

Before the service has told the time, a call is asked about as if all of it could be: the host's clock says nothing of
what is too young. A refusal tells the time then; or, where answers have no date, that the host's clock must do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeVar

from agora_analytics._core import validation
from agora_analytics._core.dispatcher import Dispatcher, NothingToFetchError
from agora_analytics.endpoints.base import EndpointGroup, SpanTracker
from agora_analytics.errors import DecodeError, PlanRefused, TooEarly
from agora_analytics.models import Answer, Call, Session
from agora_analytics.plans import CALL_SESSIONS, Endpoint, Limits
from agora_analytics.spans import Instant, Span, is_by_host, moment, sliced

AnswerT = TypeVar("AnswerT", bound=Answer | None)

log = logging.getLogger("agora_analytics")

_MARGIN: Final = 5
"""Seconds by which a span stays away from what expires: a request takes time."""

_NEAR: Final = 5
"""Seconds by which the host's clock may be behind without cutting a call short that goes on."""

_RECHECK: Final = 5.0
"""Seconds after which who waits looks again: at the service's clock, and whether the client was closed."""

_MAX_DOUBTFUL_WAIT: Final = 60.0
"""Seconds that are waited on the word of one answer."""

_MAX_REFUSALS: Final = 3
"""Refusals as too young of which one is believed, while the clock is in doubt: some have no date."""

_MAX_REFUSALS_WAITING: Final = 10
"""The same for a caller that waits, at ever longer pauses."""


class CallSpanTracker(SpanTracker):
    """Spans of one call, or of the part of it that is given: cut to what can be asked about now, or waited for."""

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
        """Whether it is asked for as it was given, whatever the time is."""
        self._begun = dispatcher.quota.now()
        self._whole = given or (call.span if call else None)
        self._start = self._whole.start if self._whole else _created(call)
        self._end = self._whole.end if self._whole else None
        """None while that of a call that goes on is now."""

    def check(self) -> None:
        """Raise `TooEarly` where nothing can be asked about the call yet, and `PlanRefused` where nothing is kept."""
        if self._call is None or not self._known:
            return
        now = self._dispatcher.now()
        if self._start >= self._limits.newest(now) and not self._waits:
            at = self._limits.askable_at(self._start + 1)
            raise _too_early(self._call, now - self._start, at, self._limits.delay)
        if self._end is not None and self._end <= self._limits.oldest(now) + _MARGIN and self._dispatcher.confirmed:
            raise _gone(self._call, self._limits.available)

    def slices(self, longest: int | None = None, mark: int = 1) -> Iterator[Span]:
        """Yield what one request each may be about, oldest first; cut at multiples of `mark`.

        A call that goes on ends now, by what is known of the time when the last of them is due. What is not kept any
        more and what cannot be asked for yet is missing and costs nothing: a wrong time may ask for thousands of years.
        """
        at, longest = self._start, longest or self._limits.longest_query
        while at < (end := self._until(at)):
            at = at if at == self._start else at // mark * mark
            while at < end:
                part = next(sliced(Span(self._kept_from(at, end, longest, mark), end), longest, mark))
                if part.start > self._start and self._is_too_young(part):
                    self.add_missing(Span(part.start, end))
                    return
                yield part
                at = part.end

    def _kept_from(self, at: int, end: int, longest: int, mark: int) -> int:
        """Return where to go on, past what is not kept any more; the last part is left to be told of."""
        oldest = self._earliest()
        first = min(oldest or at, end - 1) // mark * mark
        if first - at < longest:
            return at
        self.add_missing(Span(at, first))
        return first

    async def fetch_whole(self, fetch: Callable[[Span], Awaitable[AnswerT]]) -> AnswerT:
        """Return the answer to one request about all of it.

        Raises `PlanRefused` where the call is too long for one request.
        """
        if self._exact and self._whole is not None:
            return self.record(await fetch(self._whole))
        asked = self._whole_span()
        answer = await self._fetch_or_raise(fetch, asked)
        if self._end is not None:
            return answer
        # A call that goes on was asked about until now by the host's clock, which may turn out to have been behind.
        later = self._whole_span()
        return answer if later.end - asked.end <= _NEAR else await self._fetch_or_raise(fetch, later)

    def clip(self, span: Span) -> Span:
        """Return what can be asked of a span now; raises `NothingToAskError` where that is nothing."""
        if self._exact:
            return span
        span = super().clip(span)
        newest = self._limits.newest(self._dispatcher.now())
        if span.end <= newest or not self._known or (self._call is None and not self._waits):
            return span
        if self._waits and self._doubtful:
            return span  # it was waited for long enough: the answer tells the time
        if self._waits:
            raise NothingToFetchError
        if self._whole is not None:
            self.add_missing(Span(max(newest, span.start), span.end))
        if newest <= span.start:
            raise NothingToFetchError
        log.info("%s of %s can be asked for now", Span(span.start, newest), span)
        return Span(span.start, newest)

    async def fetch(self, fetch: Callable[[], Awaitable[AnswerT]], span: Span, default: AnswerT) -> AnswerT:
        """Return what `fetch` gets of `clip(span)`, or `gone`; asked again where a refusal has told the time."""
        refusals, pause = 0, 0.0
        most = _MAX_REFUSALS_WAITING if self._waits else _MAX_REFUSALS
        while True:
            self.check()
            known = self._known
            if self._waits and known:
                await self._wait(span)
            doubtful = self._doubtful
            try:
                found = await super().fetch(fetch, span, default)
            except PlanRefused as error:
                refusals += 1
                if error.kind != "latency" or (self._call is None and not self._waits):
                    raise
                if known and not (doubtful and refusals < most):
                    raise
                self._refused = True
                if self._waits and known:  # such a clock may tell again and again that there is nothing to wait for
                    await asyncio.sleep(pause)
                    pause = min(2 * pause + _RECHECK, _MAX_DOUBTFUL_WAIT)
                continue
            if found is not default:
                return found
            if not self._waits or self._is_gone(span):  # or it turned out to be too young, and is waited for now
                self.check()
                return default

    @property
    def _known(self) -> bool:
        """Whether the service's time is certain, or a refusal has told that it is as early as it seems."""
        return self._refused or self._dispatcher.confirmed

    def _until(self, at: int) -> int:
        """Return where it ends, by what is known of the time, if all until `at` was asked about."""
        if self._end is None:
            then = self._dispatcher.quota.utc() - (self._dispatcher.quota.now() - self._begun)
            newest = max(self._limits.newest(int(then)), self._start + 1)
            if at == self._start or newest - at > _NEAR:
                return newest
            self._end = at
        return self._end

    def _whole_span(self) -> Span:
        span = Span(self._start, self._until(self._start))
        if self._whole is None and not self._known:
            return Span(span.start, min(span.end, span.start + self._limits.longest_query))
        if self._call is not None and span.duration > self._limits.longest_query:
            raise _too_long(self._call, span, self._limits.longest_query)
        return span

    async def _fetch_or_raise(self, fetch: Callable[[Span], Awaitable[AnswerT]], span: Span) -> AnswerT:
        found: AnswerT | None = await self.fetch(lambda: fetch(span), span, None)
        if found is None:
            raise _gone(self._call, self._limits.available)
        return found

    def _is_too_young(self, span: Span) -> bool:
        """Whether nothing of a span of a call can be asked for yet, and it is not waited for."""
        waited_for = self._waits or self._call is None or not self._known
        return not waited_for and span.start >= self._limits.newest(self._dispatcher.now())

    def _is_gone(self, span: Span) -> bool:
        """Whether nothing of a span is kept any more."""
        oldest = self._earliest()
        return oldest is not None and self.moved(span).end <= oldest

    async def _wait(self, span: Span) -> None:
        """Wait until a span can be asked about, or the client is closed."""
        quota = self._dispatcher.quota
        begun = quota.now()
        while (rest := self._limits.askable_at(self.moved(span).end) - self._dispatcher.now()) > 0 and not quota.closed:
            if self._doubtful and quota.now() - begun > _MAX_DOUBTFUL_WAIT:
                return  # and ask, which tells the time
            await asyncio.sleep(min(rest, _RECHECK))

    @property
    def _doubtful(self) -> bool:
        """Whether a single answer, which may have been dated wrongly, is all that has told the time."""
        return not self._dispatcher.confirmed and self._dispatcher.host_ahead() is not None


class CallSpans(EndpointGroup):
    """Spans of calls, cut to what can be asked about them."""

    def askable_at(self, call: Call) -> int:
        """Return when the details of a whole call can be asked for (UTC seconds): its end, and the plan's delay.

        Of a call that goes on, when the first of them can be. Raises `ValueError` where the plan has no details, and
        for a call without `created_ts`.
        """
        validation.instance("call", call, Call)
        span = call.span or Span(_created(call), _created(call) + 1)
        return self._dispatcher.plan.of_endpoint(CALL_SESSIONS).askable_at(span.end)

    def is_askable(self, call: Call) -> bool:
        """Whether the details of a whole call can be asked for now, by the service's clock; see `askable_at`."""
        return self._dispatcher.now() >= self.askable_at(call)

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
        """Return what to ask about a call; `whole` means that one request must carry it."""
        id_of(call)
        self._app()
        given, clip_start, by_host = None, self._check_age, is_by_host(start, end)
        if start is not None and end is not None:
            # What is waited for may lie in the future now.
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
    """Return the id of a call that is given by it, or whole.

    Raises `DecodeError` for an id that the service sent and that cannot be asked for, `ValueError` for a caller's own.
    """
    if isinstance(call, Call) and not validation.is_sendable(call.call_id):
        raise DecodeError(
            f"the call has the id {validation.short_repr(call.call_id)}, which cannot be asked for: nothing was asked",
            hint="Leave the call out; tell Agora support what its list holds.",
        )
    return validation.non_empty_str("call", call.call_id if isinstance(call, Call) else call)


def sids_of(sids: Iterable[str | Session]) -> tuple[str, ...]:
    """Return ids of sessions, none twice; those that the service sent may be such as cannot be asked for."""
    listed = validation.as_list("sids", sids, "session ids or sessions")
    came = {place: one.sid for place, one in enumerate(listed) if isinstance(one, Session)}
    for place, one in enumerate(listed):
        if place not in came:
            (came[place],) = validation.without_commas("sids", (validation.non_empty_str(f"sids[{place}]", one),))
    return tuple(dict.fromkeys(came[place] for place in range(len(listed))))


def _too_early(call: Call, age: int, at: int, delay: int) -> TooEarly:
    return TooEarly(
        f"nothing can be asked about call {call.call_id!r} before {moment(at)}: it began {age} s ago, and details come"
        f" {delay} s later",
        hint="Ask again then, or give wait=True to sessions() or metrics().",
        askable_at=at,
    )


def _too_long(call: Call, span: Span, longest: int) -> PlanRefused:
    error = PlanRefused(
        f"call {call.call_id!r} lasted {span.duration} s, and the plan allows one request about {longest} s at most:"
        " nothing was asked",
        hint="Give start and end, and ask about one part after the other: averages of parts cannot be merged.",
    )
    error.kind, error.limit = "length", longest
    return error


def _gone(call: Call | None, available: int) -> PlanRefused:
    which = f"call {call.call_id!r}" if call else "the call"
    error = PlanRefused(
        f"{which} is over for longer than the plan keeps ({available} s): nothing was asked",
        hint="Ask about calls while they are kept, or export them.",
    )
    error.kind, error.limit = "range", available
    return error


def _created(call: Call | None) -> int:
    """Return when a call began; 0 is the service's way to say that it does not know."""
    assert call is not None  # noqa: S101 - or a span was given
    if not call.created_ts:
        raise ValueError(f"call {call.call_id!r} has no created_ts: give start and end")
    return call.created_ts
