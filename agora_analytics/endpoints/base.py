"""Shared by the three groups of endpoints: checks spans, and requests the part of each that the service still keeps.

The service forgets its oldest data while a consumer works, and its clock is unknown before the first answer. A
`SpanTracker` follows the spans of one call of a method: when a request is sent, it clips the span to what the service
still keeps, and records the rest as missing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final, TypeVar

import attrs

from agora_analytics._core import wire
from agora_analytics._core.decoding.codec import Decode
from agora_analytics._core.dispatcher import Dispatcher, RequestOptions
from agora_analytics._core.redaction import fingerprint
from agora_analytics._core.wire import NothingToFetchError
from agora_analytics.errors import PlanRefused
from agora_analytics.models import Answer, BadRow, Found
from agora_analytics.plans import Endpoint, Limits, is_cut
from agora_analytics.protocols import CheckpointStore, Request
from agora_analytics.spans import Instant, Span, by_host, ends_by_host, is_by_host, merged

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Answer)
MaybeAnswerT = TypeVar("MaybeAnswerT", bound=Answer | None)

_MARGINS: Final = (2, 10, 60)
"""Seconds between a span's start and what expires, by the number of refusals so far: a request takes time."""

_MAX_SKIPPED: Final = 1_000
"""Skipped rows that a result remembers."""

_MAX_PINNED: Final = 64
"""Lists whose spans are pinned: several are read at a time."""

_NEAR: Final = 5
"""Seconds by which an answer may miss the span that was meant, where only the host's clock was known."""

log = logging.getLogger("agora_analytics")


def to_service_clock(span: Span, ahead: float | None) -> Span:
    """Shift a span from the host's clock, which is `ahead` seconds ahead, to the service's."""
    # Rounded to the past: a second later may not be queryable yet.
    by = -math.ceil(ahead or 0.0)
    return Span(max(span.start + by, 0), max(span.end + by, 1))


class MaxRequestsReachedError(NothingToFetchError):
    """`max_requests` allows no further request."""


class SpanTracker:
    """Follows the spans of one call: clips each to what can be fetched when its request is sent.

    With `clip_start`, a start that the service no longer keeps moves forward. Spans that are `by_host` are shifted by
    the error of the host's clock, once that is known; where only the end is by the host's clock (`ends`), they are cut
    to the newest.

    Attributes:
        missing: what could not be fetched.
        requests: requests so far; a retried request counts once.
        narrowed: the requests among them that fetched the rest of a list that the service had truncated.
        skipped: rows that do not fit the reference, the first thousand.
        exhausted: whether `most` attempts were too few.

    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        limits: Limits,
        *,
        by_host: bool,
        clip_start: bool,
        most: int | None = None,
        ends: bool = False,
    ) -> None:
        self._dispatcher = dispatcher
        self._limits = limits
        # Once the service's clock is known, `_checked` has shifted the span already.
        unsynced = (by_host or ends) and dispatcher.time.steady_host_ahead() is None
        self._by_host = by_host and unsynced
        self._ends = ends and unsynced
        self._clips_start = clip_start
        self._most = most
        self._latest_end: int | None = None
        self._pinned: dict[Span, Span] = {}
        self._attempts = 0
        self._ahead: float | None = None
        self._refusals = 0
        self._warned = False
        self.missing: tuple[Span, ...] = ()
        self.requests = 0
        self.narrowed = 0
        self.exhausted = False
        self.skipped: tuple[BadRow, ...] = ()

    def clip(self, span: Span) -> Span:
        """Return what of a span can be fetched now, for one attempt; raises `NothingToFetchError` for nothing."""
        self._check_budget()
        clipped = self._clip(self.moved(span))
        # Counted last: a span of which nothing is left costs no attempt.
        self._attempts += 1
        return clipped

    def _clip(self, span: Span) -> Span:
        # A later slice of a span whose end proved to lie in the future.
        if self._latest_end is not None and span.start >= self._latest_end:
            raise NothingToFetchError
        earliest = self._earliest()
        if earliest is None or span.start >= earliest:
            return span
        lost = Span(span.start, min(earliest, span.end))
        if not self._warned:
            self._warned = True
            log.warning("%s expired at the service before it was read: reading the rest", lost)
        self.add_missing(lost)
        if earliest >= span.end:
            raise NothingToFetchError
        return Span(earliest, span.end)

    def _check_budget(self) -> None:
        if self._most is not None and self._attempts >= self._most:
            self.exhausted = True
            raise MaxRequestsReachedError

    async def fetch(
        self, send: Callable[[], Awaitable[MaybeAnswerT]], span: Span, default: MaybeAnswerT
    ) -> MaybeAnswerT:
        """Return what `send` gets for `clip(span)`, or `default` if nothing of the span can be fetched.

        Sends again if the service refused the span as too old, or if it turns out that the host's clock was wrong and
        the answer is about another time.
        """
        while True:
            # By what is known before the request: the answer may correct the clock: then this was another span.
            requested = self.moved(span)
            self._check_budget()  # before it waits for quota
            before, self.requests = self._attempts, self.requests + 1
            try:
                answer = await send()
            except NothingToFetchError as nothing:
                self.requests -= self._attempts == before  # unless a first attempt was made
                if isinstance(nothing, MaxRequestsReachedError):
                    raise
                return default
            except PlanRefused as error:
                # The refusal corrected the clock: what was refused was not the span that was meant.
                if self.moved(span) != requested and error.kind in {"latency", "range"}:
                    continue
                if error.kind != "range" or not self._widen_margin(span):
                    raise
            else:
                if abs(self.moved(span).start - requested.start) <= _NEAR:
                    self._pin(span, requested)
                    return self.record(answer)
                log.info("the host's clock is %.0f s ahead: sending the request again", self._ahead or 0.0)

    def _pin(self, span: Span, requested: Span) -> None:
        """Keep a span where it was fetched: further pages must be of the same list, or rows slip between them."""
        if self._by_host or self._ends:
            self._pinned[span] = requested
            if len(self._pinned) > _MAX_PINNED:
                del self._pinned[next(iter(self._pinned))]

    def moved(self, span: Span) -> Span:
        """Return a span by the service's clock as far as that is known; once fetched, it stays."""
        if not (self._by_host or self._ends):
            return span
        if span in self._pinned:
            return self._pinned[span]
        if self._by_host and self._ahead is None:
            # Once for the whole call: slices that adjoin must still adjoin after they were moved.
            self._ahead = self._dispatcher.time.steady_host_ahead()
        if self._ends and self._latest_end is None and self._dispatcher.time.steady_host_ahead() is not None:
            self._latest_end = self._limits.newest(self._dispatcher.time.utc_second())
        if self._latest_end is not None and span.start < self._latest_end < span.end:
            return Span(span.start, self._latest_end)
        return span if self._ahead is None else to_service_clock(span, self._ahead)

    def _earliest(self) -> int | None:
        """Return the first second to fetch; None for any: a clock in doubt gives nothing up."""
        if not self._clips_start or not (self._dispatcher.time.confirmed or self._refusals):
            return None
        return self._limits.oldest(self._dispatcher.time.utc_second()) + _MARGINS[self._refusals]

    def _widen_margin(self, span: Span) -> bool:
        """Keep further away from what expires; return whether that leaves less than was refused, but not nothing.

        A span that has expired whole is an error: its caller made a mistake.
        """
        before = self._earliest()
        if not self._clips_start or self._refusals + 1 == len(_MARGINS):
            return False
        self._refusals += 1
        # By the clock as the refusal corrected it, and with the wider margin.
        now = self._earliest() or 0
        requested = self.moved(span)
        return requested.start < now < requested.end and (before is None or now > before)

    def record(self, answer: MaybeAnswerT) -> MaybeAnswerT:
        """Remember the skipped rows of an answer, and return it."""
        if answer is not None and answer.skipped:
            self.skipped = (*self.skipped, *answer.skipped)[:_MAX_SKIPPED]
        return answer

    def found(self, items: Iterable[T]) -> Found[T]:
        """Return items with what is missing and skipped."""
        return Found(items, missing=self.missing, skipped=self.skipped)

    def add_missing(self, *spans: Span) -> None:
        """Record spans that cannot be fetched."""
        self.missing = merged((*self.missing, *spans))


@attrs.frozen(kw_only=True)
class Scope:
    """What all requests of a client have in common: App ID, request options, and how pages are read.

    `check_age` makes spans that are too old or too young by a confirmed clock a `ValueError` before anything is sent.
    """

    app_id: str | None = None
    read_ahead: bool = True
    options: RequestOptions = attrs.field(factory=RequestOptions)
    checkpoints: CheckpointStore | None = None
    check_age: bool = True


class EndpointGroup:
    """Endpoints of one App ID over one dispatcher."""

    _latest: ClassVar[Endpoint]

    def __init__(self, dispatcher: Dispatcher, scope: Scope) -> None:
        self._dispatcher = dispatcher
        self._scope = scope
        self._app_id = scope.app_id
        # Passed on in place of the App ID: error reporters show the arguments of every frame.
        self._app_key = "" if scope.app_id is None else fingerprint(scope.app_id)
        self._read_ahead = scope.read_ahead
        self._options = scope.options
        self._check_age = scope.check_age

    def recent(self, duration: timedelta | int) -> Span:
        """Return the newest span of this duration (a `timedelta` or seconds) that can be fetched: `search(*recent)`.

        It ends before the plan's delay and starts no earlier than the plan's retention; a warning is logged if that
        cuts it short. Before the first answer it is by the host's clock, and the methods that take it shift it to the
        service's. Raises `ValueError` if the plan does not include the group.
        """
        span = self._dispatcher.plan.recent(self._latest, duration, self._dispatcher.time.utc_second())
        if is_cut(duration, span):
            log.warning("recent(%s) is cut to the newest %d s, %s: there is no more", duration, span.duration, span)
        if self._dispatcher.time.steady_host_ahead() is not None:
            return span
        return by_host(span)

    def _open(
        self,
        endpoint: Endpoint,
        start: Instant,
        end: Instant,
        *,
        whole: bool = True,
        clip_start: bool = False,
        most: int | None = None,
    ) -> tuple[Span, SpanTracker, int]:
        """Check a span against the plan, and return it with its tracker and the most seconds of one request.

        `whole` means that one request must carry it. `clip_start` fetches what is left of a span that expires
        meanwhile, in at most `most` attempts; otherwise it is fetched as given, or not at all.
        """
        by_host, ends = is_by_host(start, end), ends_by_host(start, end)
        span, limits = self._checked(endpoint, start, end, whole=whole)
        longest = limits.longest_query
        clip_start = clip_start and self._check_age
        tracker = SpanTracker(self._dispatcher, limits, by_host=by_host, clip_start=clip_start, most=most, ends=ends)
        return span, tracker, longest

    def _checked(self, endpoint: Endpoint, start: Instant, end: Instant, *, whole: bool) -> tuple[Span, Limits]:
        """Return a span that fits the plan, and the limits; only by a confirmed clock is its age checked here."""
        self._app()
        plan = self._dispatcher.plan
        now = self._dispatcher.time.utc_second() if self._check_age and self._dispatcher.time.confirmed else None
        by_host, ends = is_by_host(start, end), ends_by_host(start, end)
        span = Span.of(start, end)
        limits = plan.of_endpoint(endpoint)
        if by_host:
            span = to_service_clock(span, self._dispatcher.time.steady_host_ahead())
        # Longer than all that the plan keeps: wrong whatever the time is, so no clock is needed to say so.
        elif self._check_age and not ends and span.duration > limits.retention:
            raise ValueError(
                f"end - start = {span.duration} s: start is older than the plan keeps (plan"
                f" {plan.name!r}, {endpoint}), or end lies in the future: at most {limits.retention} s"
            )
        return plan.check(endpoint, span, now, whole=whole), limits

    # Not a coroutine itself: each one between a method and the socket is resumed whenever something arrives.
    def _fetch(
        self,
        endpoint: Endpoint,
        decode: Decode[AnswerT],
        params: Mapping[str, wire.Param],
        body: Mapping[str, Any] | None = None,
    ) -> Coroutine[Any, Any, AnswerT]:
        app_id = self._app()
        request = wire.build_request(endpoint, app_id, params, body)
        return self._dispatcher.fetch(endpoint, lambda: request, decode, self._options, app=self._app_key)

    def _fetch_current(
        self, endpoint: Endpoint, decode: Decode[AnswerT], params: Callable[[], Mapping[str, wire.Param]]
    ) -> Coroutine[Any, Any, AnswerT]:
        """Fetch with parameters that are built for each attempt."""
        app_id = self._app()

        def build() -> Request:
            return wire.build_request(endpoint, app_id, params())

        return self._dispatcher.fetch(endpoint, build, decode, self._options, app=self._app_key)

    def _fetch_span(
        self,
        endpoint: Endpoint,
        decode: Decode[AnswerT],
        span: Span,
        params: Callable[[Span], Mapping[str, wire.Param]],
        *,
        tracker: SpanTracker,
        default: AnswerT,
    ) -> Coroutine[Any, Any, AnswerT]:
        """Fetch what is left of a span at each attempt; `default` where nothing is."""

        def send() -> Coroutine[Any, Any, AnswerT]:
            return self._fetch_current(endpoint, decode, lambda: params(tracker.clip(span)))

        return tracker.fetch(send, span, default)

    def _app(self) -> str:
        if self._app_id is None:
            raise ValueError(
                "app_id=None: give one to AnalyticsClient, set AGORA_APP_ID, or use client.with_app(app_id)"
            )
        return self._app_id
