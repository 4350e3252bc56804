"""The sources of streams: each request is for the span that is queryable when it is sent."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

import attrs

from agora_analytics._core import merge, validation
from agora_analytics._core.dispatcher import Dispatcher, OnSkipped, RequestOptions, SpanProvider
from agora_analytics._core.retry import Retry
from agora_analytics.endpoints.base import EndpointGroup, Scope
from agora_analytics.endpoints.call_requests import CallRequests, call_page, call_params, list_params, sessions_params
from agora_analytics.endpoints.realtime_requests import RealtimeRequests, RequestTemplate
from agora_analytics.models import CallPage, Point, SessionPage
from agora_analytics.plans import CALL_LISTS, CALL_SESSIONS, Endpoint
from agora_analytics.quota.priority import Priority
from agora_analytics.streams.watch.series import Query, Series, queries

_MAX_WAIT: Final = 60.0
"""Seconds that a stream's request waits for quota; longer waits happen in the stream, and show in its health."""

_OPTIONS: Final = RequestOptions(
    priority=Priority.STREAM, retry=Retry(attempts=2), max_wait=_MAX_WAIT, max_rate_limited=0
)
"""One retry is enough, since the next poll backfills; a stream waits for quota itself."""


class _ApiSource(EndpointGroup):
    """Base of both sources."""

    def __init__(self, dispatcher: Dispatcher, scope: Scope) -> None:
        super().__init__(dispatcher, attrs.evolve(scope, options=_OPTIONS, read_ahead=False))

    @property
    def app_id(self) -> str:
        """The App ID of the project."""
        return self._app()

    def on_skipped(self, callback: OnSkipped) -> None:
        """Call back with rows that do not fit, from now on."""
        self._options = attrs.evolve(self._options, on_skipped=callback)


class ApiWindowSource(_ApiSource, RealtimeRequests):
    """Reads real-time windows with the fewest queries that cover all series."""

    def __init__(self, dispatcher: Dispatcher, scope: Scope, series: Sequence[Series]) -> None:
        super().__init__(dispatcher, scope)
        self.queries = queries(series)
        self._templates = tuple(map(self._template, self.queries))

    def endpoint(self, number: int) -> Endpoint:
        """Return the endpoint of a query."""
        return self._templates[number].endpoint

    async def windows(self, number: int, span: SpanProvider) -> tuple[Point, ...]:
        """Return the points of a query, in order of time."""
        template = self._templates[number]
        answer = await self._fetch_current(template.endpoint, template.decode, lambda: template.over(span()))
        # Sorted: the service promises no order.
        return merge.merge_points([answer.items])

    def _template(self, query: Query) -> RequestTemplate:
        by = (query.dimension, query.dimension_values)
        if query.usage:
            return self._usage(query.metric, query.product, query.cname, *by)
        return self._quality(query.metric, query.product, query.cname, *by, uids=query.uids)


class ApiCallSource(_ApiSource, CallRequests):
    """Reads call lists, and the sessions of a call."""

    def call_page(self, span: SpanProvider, number: int, cname: str | None = None) -> Coroutine[Any, Any, CallPage]:
        """Return a page of calls."""
        size = validation.PAGE_SIZE
        return self._fetch_current(CALL_LISTS, call_page, lambda: list_params(span(), cname, number, size))

    def session_page(self, call_id: str, span: SpanProvider, number: int) -> Coroutine[Any, Any, SessionPage]:
        """Return a page of the sessions of a call."""
        params = sessions_params(number, validation.PAGE_SIZE, (), exclude_server_user=True)
        return self._fetch_current(CALL_SESSIONS, self._session_page, lambda: call_params(call_id, span()) | params)
