"""The requests behind `client.calls`: pages of calls and of sessions, and metrics in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeVar

from agora_analytics._core import merge, paging, truncation, validation
from agora_analytics._core.decoding.codec import Decode, decoder
from agora_analytics._core.dispatcher import in_turns
from agora_analytics._core.wire import Param, comma_separated
from agora_analytics.endpoints.base import SpanTracker
from agora_analytics.endpoints.call_spans import CallSpans, CallSpanTracker
from agora_analytics.models import Answer, CallPage, MetricsAnswer, Session, SessionMetrics, SessionPage, Uid
from agora_analytics.plans import CALL_LISTS, CALL_METRICS, CALL_SESSIONS, Endpoint
from agora_analytics.spans import Span

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Answer)

call_page = decoder(CallPage)
_metrics = decoder(MetricsAnswer)
_NO_CALLS: Final = CallPage(calls=(), total_size=0, has_more=False)
_NO_SESSIONS: Final = SessionPage(sessions=(), total_size=0, has_more=False)


class CallRequests(CallSpans):
    """Builds and sends the requests of Call Inspector."""

    _latest = CALL_LISTS
    _session_page = decoder(SessionPage)

    def _call_fetcher(
        self,
        tracker: CallSpanTracker,
        endpoint: Endpoint,
        decode: Decode[AnswerT],
        call_id: str,
        params: dict[str, Param],
    ) -> Callable[[Span], Coroutine[Any, Any, AnswerT]]:
        """Return a function that fetches what is left of a span of a call."""
        return lambda span: self._fetch_current(
            endpoint, decode, lambda: call_params(call_id, tracker.clip(span)) | params
        )

    def _fetch_page(
        self, tracker: SpanTracker, cname: str | None, size: int, part: truncation.ListQuery, number: int
    ) -> Coroutine[Any, Any, CallPage]:
        """Fetch a page of calls, in full pages where a list that was cut off is read on."""
        tracker.narrowed += bool(part.rows_before)
        # A second with too many calls is read channel by channel.
        channel, rows = part.cname or cname, part.page_size(size)
        return self._fetch_span(
            CALL_LISTS,
            call_page,
            part.span,
            lambda span: list_params(span, channel, number, rows),
            tracker=tracker,
            default=_NO_CALLS,
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
        # No users means all: one batch, without the parameter.
        for batch in _batches(users, validation.UIDS) or [()]:
            fetch = partial(self._fetch_sessions_page, call_id, batch, tracker, exclude_server_user=exclude_server_user)
            spans = tracker.slices()
            pages = paging.rows(spans, fetch, truncation.SESSIONS, read_ahead=self._read_ahead)
            async with aclosing(pages) as found:
                async for session in found:
                    if session.sid not in seen:
                        yield session
                    if len(users) > validation.UIDS:  # pages of one batch have no duplicates
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
        tracker.narrowed += bool(part.rows_before)
        params = sessions_params(number, validation.PAGE_SIZE, users, exclude_server_user=exclude_server_user)
        return self._fetch_span(
            CALL_SESSIONS,
            self._session_page,
            part.span,
            lambda span: call_params(call_id, span) | params,
            tracker=tracker,
            default=_NO_SESSIONS,
        )

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
            # Ids from an answer that cannot be sent back have no metrics, and cost no request.
            for span in tracker.slices() if any(map(validation.is_without_commas, batch)) else ():
                answer = await self._fetch_metrics(call_id, span, batch, tracker)
                for part in answer.metrics or ():
                    # By `sid`: the service promises neither the order of sessions nor that each has data.
                    parts.setdefault(part.sid, []).append(part)
                # Or it would keep all samples of the batch until the last session was delivered.
                del answer
            while parts:
                sid = next(iter(parts))
                yield await in_turns(merge.merge_tracks(sid, parts.pop(sid)))
                await asyncio.sleep(0)  # freeing the samples of 20 sessions takes 30 ms: one each turn

    def _fetch_metrics(
        self, call_id: str, span: Span, sids: tuple[str, ...], tracker: SpanTracker
    ) -> Coroutine[Any, Any, MetricsAnswer]:
        params: dict[str, Param] = {"sids": comma_separated(sid for sid in sids if validation.is_without_commas(sid))}
        return self._fetch_span(
            CALL_METRICS,
            _metrics,
            span,
            lambda span: call_params(call_id, span) | params,
            tracker=tracker,
            default=MetricsAnswer(metrics=()),
        )


def call_params(call_id: str, span: Span) -> dict[str, Param]:
    """Return the parameters of a request about a call."""
    return {"call_id": call_id, "start_ts": span.start, "end_ts": span.end}


def list_params(span: Span, cname: str | None, number: int, size: int) -> dict[str, Param]:
    """Return the parameters of a page of calls."""
    return {"start_ts": span.start, "end_ts": span.end, "cname": cname, "page_no": number, "page_size": size}


def sessions_params(number: int, size: int, users: tuple[Uid, ...], *, exclude_server_user: bool) -> dict[str, Param]:
    """Return the parameters of a page of sessions, beside the call's."""
    return {
        "page_no": number,
        "page_size": size,
        "uids": comma_separated(users),
        "exclude_server_user": exclude_server_user,
    }


def _batches(values: tuple[T, ...], size: int) -> list[tuple[T, ...]]:
    return [values[at : at + size] for at in range(0, len(values), size)]
