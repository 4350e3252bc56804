"""What the three groups of endpoints share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import attrs

from agora_analytics._core import wire
from agora_analytics._core.decoding.codec import Decode
from agora_analytics._core.dispatcher import Dispatcher, RequestOptions
from agora_analytics.endpoints.retention import SpanTracker, moved
from agora_analytics.models import Answer
from agora_analytics.plans import Endpoint, is_cut
from agora_analytics.protocols import CheckpointStore, Request
from agora_analytics.quota.quota import fingerprint
from agora_analytics.spans import Instant, Span, by_host, ends_by_host, is_by_host

log = logging.getLogger("agora_analytics")

AnswerT = TypeVar("AnswerT", bound=Answer)


@attrs.frozen(kw_only=True)
class Scope:
    """What all requests of a client have in common: whose they are, how they are made, how pages are read.

    `check_age` tells whether a span that is too old or too new by a clock that is confirmed is refused without asking.
    """

    app_id: str | None = None
    read_ahead: bool = True
    options: RequestOptions = attrs.field(factory=RequestOptions)
    checkpoints: CheckpointStore | None = None
    check_age: bool = True


class EndpointGroup:
    """Endpoints of one App ID over one session."""

    _latest: ClassVar[Endpoint]

    def __init__(self, dispatcher: Dispatcher, scope: Scope) -> None:
        self._dispatcher = dispatcher
        self._scope = scope
        self._app_id = scope.app_id
        # Frames that an error leaves by hold no App ID.
        self._app_key = "" if scope.app_id is None else fingerprint(scope.app_id)
        self._read_ahead = scope.read_ahead
        self._options = scope.options
        self._check_age = scope.check_age

    def recent(self, duration: timedelta | int) -> Span:
        """Return the newest span of this duration (a `timedelta` or seconds) that can be asked now: `search(*recent)`.

        It ends before the plan's delay and begins no earlier than what the plan keeps: where that cuts it short,
        a warning is logged. Before the first answer it is by
        the host's clock, and moved to the service's by what it is given to. Raises `ValueError` where the plan does not
        offer the group.
        """
        span = self._dispatcher.plan.recent(self._latest, duration, self._dispatcher.now())
        if is_cut(duration, span):
            log.warning("recent(%s) is cut to the newest %d s, %s: there is no more", duration, span.duration, span)
        if self._dispatcher.host_ahead() is not None:
            return span
        return by_host(span)

    def _span(self, endpoint: Endpoint, start: Instant, end: Instant, *, whole: bool = True) -> Span:
        """Check a span against the plan; `whole` means that one request must carry it.

        Its age is judged by a clock that is confirmed, or else by the service.
        """
        self._app()
        now = self._dispatcher.now() if self._check_age and self._dispatcher.confirmed else None
        span = Span.of(start, end)
        if is_by_host(start, end):
            span = moved(span, self._dispatcher.host_ahead())
        elif self._check_age and not ends_by_host(start, end):
            self._check_length(endpoint, span)
        return self._dispatcher.plan.check(endpoint, span, now, whole=whole)

    def _check_length(self, endpoint: Endpoint, span: Span) -> None:
        """Raise `ValueError` for what is longer than all that the plan keeps: too long whatever the time is."""
        available = self._dispatcher.plan.of_endpoint(endpoint).available
        if span.duration > available:
            raise ValueError(
                f"end - start = {span.duration} s: start is older than the plan keeps (plan"
                f" {self._dispatcher.plan.name!r}, {endpoint}), or end lies in the future: at most {available} s"
            )

    def _tracker(self, endpoint: Endpoint, start: Instant, end: Instant, most: int | None = None) -> SpanTracker:
        """Return what follows spans while they are asked for, by `most` attempts: their start moves on."""
        by_host, ends = is_by_host(start, end), ends_by_host(start, end)
        return SpanTracker(
            self._dispatcher, endpoint, by_host=by_host, clip_start=self._check_age, most=most, ends=ends
        )

    def _exact_tracker(self, endpoint: Endpoint, start: Instant, end: Instant) -> SpanTracker:
        """Return what follows spans of one request, which are asked for as they were meant, or not at all."""
        by_host, ends = is_by_host(start, end), ends_by_host(start, end)
        return SpanTracker(self._dispatcher, endpoint, by_host=by_host, clip_start=False, ends=ends)

    def _max_span(self, endpoint: Endpoint) -> int:
        return self._dispatcher.plan.of_endpoint(endpoint).longest_query

    # Not itself a coroutine: each one between a method and the socket is walked through whenever something arrives.
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
        """Fetch with parameters that are made anew for each attempt."""
        app_id = self._app()

        def build() -> Request:
            return wire.build_request(endpoint, app_id, params())

        return self._dispatcher.fetch(endpoint, build, decode, self._options, app=self._app_key)

    def _app(self) -> str:
        if self._app_id is None:
            raise ValueError(
                "app_id=None: give one to AnalyticsClient, set AGORA_APP_ID, or use client.with_app(app_id)"
            )
        return self._app_id
