"""The requests behind `client.calls`: pages of calls and of sessions, and metrics in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from agora_analytics._core import merge, paging, truncation, validation
from agora_analytics._core.decoding.codec import Decode, decoder
from agora_analytics._core.dispatcher import SpanAtSend, in_turns
from agora_analytics._core.wire import Param, joined
from agora_analytics.endpoints.call_spans import CallKept, CallSpans
from agora_analytics.endpoints.retention import Kept
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

    def _about_call(
        self,
        kept: CallKept,
        endpoint: Endpoint,
        decode: Decode[Rows[RowT]],
        call_id: str,
        params: Mapping[str, Param],
    ) -> Callable[[Span], Coroutine[Any, Any, Rows[RowT]]]:
        """Return what fetches what is left of a span of a call."""
        return lambda span: self._fetch_timely(endpoint, decode, lambda: {**_about(call_id, kept.left(span)), **params})

    def _page(self, span: SpanAtSend, number: int, cname: str | None, size: int) -> Coroutine[Any, Any, CallPage]:
        paging = _paging_params(number, size)
        return self._fetch_timely(CALL_LISTS, _call_page, lambda: {**_from_to(span()), "cname": cname, **paging})

    def _kept_page(
        self, kept: Kept, span: Span, number: int, cname: str | None, size: int
    ) -> Coroutine[Any, Any, CallPage]:
        def fetch() -> Coroutine[Any, Any, CallPage]:
            return self._page(lambda: kept.left(span), number, cname, size)

        return kept.ask(fetch, span, CallPage(calls=(), total_size=0, has_more=False))

    def _kept_part(
        self, kept: Kept, part: truncation.Part, number: int, channel: str | None, size: int
    ) -> Coroutine[Any, Any, CallPage]:
        kept.narrowed += bool(part.handed)
        return self._kept_page(kept, part.span, number, part.cname or channel, part.page_size(size))

    def _sessions_page(
        self,
        call_id: str,
        span: SpanAtSend,
        number: int,
        size: int,
        users: tuple[Uid, ...],
        *,
        exclude_server_user: bool,
    ) -> Coroutine[Any, Any, SessionPage]:
        params: dict[str, Param] = {
            **_paging_params(number, size),
            "uids": joined(users),
            "exclude_server_user": exclude_server_user,
        }
        return self._fetch_timely(CALL_SESSIONS, self._session_page, lambda: {**_about(call_id, span()), **params})

    async def _sessions(
        self,
        call_id: str,
        users: tuple[Uid, ...],
        kept: CallKept,
        *,
        exclude_server_user: bool,
    ) -> AsyncGenerator[Session]:
        seen: set[str] = set()
        for batch in _batches(users, validation.UIDS) or [()]:
            fetch = partial(self._sessions_of, call_id, batch, kept, exclude_server_user=exclude_server_user)
            spans = kept.slices(self._longest(CALL_SESSIONS))
            pages = paging.rows(spans, fetch, truncation.SESSIONS, read_ahead=self._read_ahead)
            async with aclosing(pages) as found:
                async for session in found:
                    if session.sid not in seen:
                        yield session
                    if len(users) > validation.UIDS:  # pages of one batch repeat nothing
                        seen.add(session.sid)

    def _sessions_of(
        self,
        call_id: str,
        users: tuple[Uid, ...],
        kept: Kept,
        part: truncation.Part,
        number: int,
        *,
        exclude_server_user: bool,
    ) -> Coroutine[Any, Any, SessionPage]:
        def fetch() -> Coroutine[Any, Any, SessionPage]:
            span = partial(kept.left, part.span)
            return self._sessions_page(
                call_id, span, number, validation.PAGE_SIZE, users, exclude_server_user=exclude_server_user
            )

        kept.narrowed += bool(part.handed)
        return kept.ask(fetch, part.span, SessionPage(sessions=(), total_size=0, has_more=False))

    async def _metrics(
        self,
        call_id: str,
        wanted: tuple[str, ...] | None,
        kept: CallKept,
        *,
        exclude_server_user: bool,
    ) -> AsyncGenerator[SessionMetrics]:
        if wanted is None:
            listed = self._sessions(call_id, (), kept, exclude_server_user=exclude_server_user)
            wanted = tuple([session.sid async for session in listed])
        for batch in _batches(wanted, validation.SIDS):
            parts: dict[str, list[SessionMetrics]] = {sid: [] for sid in batch}
            for span in kept.slices() if any(map(validation.is_spelled, batch)) else ():
                answer = await self._metrics_of(call_id, span, batch, kept)
                for part in answer.metrics or ():
                    parts.setdefault(part.sid, []).append(part)
                del answer
            while parts:
                sid = next(iter(parts))
                yield await in_turns(merge.tracks(sid, parts.pop(sid)))
                await asyncio.sleep(0)  # to free the samples of 20 sessions takes 30 ms: one in a turn

    def _metrics_of(
        self, call_id: str, span: Span, sids: tuple[str, ...], kept: Kept
    ) -> Coroutine[Any, Any, MetricsAnswer]:
        asked = joined(sid for sid in sids if validation.is_spelled(sid))

        def fetch() -> Coroutine[Any, Any, MetricsAnswer]:
            return self._fetch_timely(
                CALL_METRICS, _metrics, lambda: {**_about(call_id, kept.left(span)), "sids": asked}
            )

        return kept.ask(fetch, span, MetricsAnswer(metrics=()))


def _from_to(span: Span) -> dict[str, Param]:
    return {"start_ts": span.start, "end_ts": span.end}


def _about(call_id: str, span: Span) -> dict[str, Param]:
    return {"call_id": call_id, **_from_to(span)}


def _paging_params(number: int, size: int) -> dict[str, Param]:
    return {
        "page_no": validation.number("page_no", number, 1),
        "page_size": validation.number("page_size", size, 1, validation.PAGE_SIZE),
    }


def _batches(values: tuple[T, ...], size: int) -> list[tuple[T, ...]]:
    return [values[at : at + size] for at in range(0, len(values), size)]
