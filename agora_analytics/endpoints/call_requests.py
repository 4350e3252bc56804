"""The requests behind `client.calls`: pages of calls and of sessions, and metrics in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from agora_analytics._core import merge, paging, truncation, validation
from agora_analytics._core.decoding.codec import Decode, decoder
from agora_analytics._core.dispatcher import SpanProvider, in_turns
from agora_analytics._core.wire import Param, comma_separated
from agora_analytics.endpoints.call_spans import CallSpans, CallSpanTracker
from agora_analytics.endpoints.retention import SpanTracker
from agora_analytics.models import CallPage, MetricsAnswer, Rows, Session, SessionMetrics, SessionPage, Uid
from agora_analytics.plans import CALL_LISTS, CALL_METRICS, CALL_SESSIONS, Endpoint
from agora_analytics.spans import Span

T = TypeVar("T")
RowT = TypeVar("RowT")

_call_page = decoder(CallPage)
_metrics = decoder(MetricsAnswer)


class CallRequests(CallSpans):
    """Makes the requests of Call Inspector."""

    _latest = CALL_LISTS
    _session_page = decoder(SessionPage)

    def _call_fetcher(
        self,
        tracker: CallSpanTracker,
        endpoint: Endpoint,
        decode: Decode[Rows[RowT]],
        call_id: str,
        params: Mapping[str, Param],
    ) -> Callable[[Span], Coroutine[Any, Any, Rows[RowT]]]:
        """Return what fetches what is left of a span of a call."""
        return lambda span: self._fetch_current(
            endpoint, decode, lambda: {**_call_params(call_id, tracker.clip(span)), **params}
        )

    def _request_page(
        self, span: SpanProvider, number: int, cname: str | None, size: int
    ) -> Coroutine[Any, Any, CallPage]:
        paging = _paging_params(number, size)
        return self._fetch_current(CALL_LISTS, _call_page, lambda: {**_span_params(span()), "cname": cname, **paging})

    def _fetch_page(
        self, tracker: SpanTracker, span: Span, number: int, cname: str | None, size: int
    ) -> Coroutine[Any, Any, CallPage]:
        def fetch() -> Coroutine[Any, Any, CallPage]:
            return self._request_page(lambda: tracker.clip(span), number, cname, size)

        return tracker.fetch(fetch, span, CallPage(calls=(), total_size=0, has_more=False))

    def _fetch_list_page(
        self, tracker: SpanTracker, part: truncation.ListQuery, number: int, channel: str | None, size: int
    ) -> Coroutine[Any, Any, CallPage]:
        tracker.narrowed += bool(part.rows_before)
        return self._fetch_page(tracker, part.span, number, part.cname or channel, part.page_size(size))

    def _request_sessions_page(
        self,
        call_id: str,
        span: SpanProvider,
        number: int,
        size: int,
        users: tuple[Uid, ...],
        *,
        exclude_server_user: bool,
    ) -> Coroutine[Any, Any, SessionPage]:
        params: dict[str, Param] = {
            **_paging_params(number, size),
            "uids": comma_separated(users),
            "exclude_server_user": exclude_server_user,
        }
        return self._fetch_current(
            CALL_SESSIONS, self._session_page, lambda: {**_call_params(call_id, span()), **params}
        )

    async def _sessions(
        self,
        call_id: str,
        users: tuple[Uid, ...],
        tracker: CallSpanTracker,
        *,
        exclude_server_user: bool,
    ) -> AsyncGenerator[Session]:
        seen: set[str] = set()
        for batch in _batches(users, validation.UIDS) or [()]:
            fetch = partial(self._fetch_sessions_page, call_id, batch, tracker, exclude_server_user=exclude_server_user)
            spans = tracker.slices(self._max_span(CALL_SESSIONS))
            pages = paging.rows(spans, fetch, truncation.SESSIONS, read_ahead=self._read_ahead)
            async with aclosing(pages) as found:
                async for session in found:
                    if session.sid not in seen:
                        yield session
                    if len(users) > validation.UIDS:  # pages of one batch repeat nothing
                        seen.add(session.sid)

    def _fetch_sessions_page(
        self,
        call_id: str,
        users: tuple[Uid, ...],
        tracker: SpanTracker,
        part: truncation.ListQuery,
        number: int,
        *,
        exclude_server_user: bool,
    ) -> Coroutine[Any, Any, SessionPage]:
        def fetch() -> Coroutine[Any, Any, SessionPage]:
            span = partial(tracker.clip, part.span)
            return self._request_sessions_page(
                call_id, span, number, validation.PAGE_SIZE, users, exclude_server_user=exclude_server_user
            )

        tracker.narrowed += bool(part.rows_before)
        return tracker.fetch(fetch, part.span, SessionPage(sessions=(), total_size=0, has_more=False))

    async def _metrics(
        self,
        call_id: str,
        wanted: tuple[str, ...] | None,
        tracker: CallSpanTracker,
        *,
        exclude_server_user: bool,
    ) -> AsyncGenerator[SessionMetrics]:
        if wanted is None:
            listed = self._sessions(call_id, (), tracker, exclude_server_user=exclude_server_user)
            wanted = tuple([session.sid async for session in listed])
        for batch in _batches(wanted, validation.SIDS):
            parts: dict[str, list[SessionMetrics]] = {sid: [] for sid in batch}
            for span in tracker.slices() if any(map(validation.is_without_commas, batch)) else ():
                answer = await self._fetch_metrics(call_id, span, batch, tracker)
                for part in answer.metrics or ():
                    parts.setdefault(part.sid, []).append(part)
                del answer
            while parts:
                sid = next(iter(parts))
                yield await in_turns(merge.merge_tracks(sid, parts.pop(sid)))
                await asyncio.sleep(0)  # to free the samples of 20 sessions takes 30 ms: one in a turn

    def _fetch_metrics(
        self, call_id: str, span: Span, sids: tuple[str, ...], tracker: SpanTracker
    ) -> Coroutine[Any, Any, MetricsAnswer]:
        asked = comma_separated(sid for sid in sids if validation.is_without_commas(sid))

        def fetch() -> Coroutine[Any, Any, MetricsAnswer]:
            return self._fetch_current(
                CALL_METRICS, _metrics, lambda: {**_call_params(call_id, tracker.clip(span)), "sids": asked}
            )

        return tracker.fetch(fetch, span, MetricsAnswer(metrics=()))


def _span_params(span: Span) -> dict[str, Param]:
    return {"start_ts": span.start, "end_ts": span.end}


def _call_params(call_id: str, span: Span) -> dict[str, Param]:
    return {"call_id": call_id, **_span_params(span)}


def _paging_params(number: int, size: int) -> dict[str, Param]:
    return {
        "page_no": validation.int_in_range("page_no", number, 1),
        "page_size": validation.int_in_range("page_size", size, 1, validation.PAGE_SIZE),
    }


def _batches(values: tuple[T, ...], size: int) -> list[tuple[T, ...]]:
    return [values[at : at + size] for at in range(0, len(values), size)]
