"""Reads call lists for `follow`: every request is clipped, as it is sent, to the span that is queryable then."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol

from agora_analytics._core import paging, truncation, validation
from agora_analytics._core.wire import NothingToFetchError
from agora_analytics.errors import IncompleteList
from agora_analytics.models import Call, CallPage
from agora_analytics.plans import CALL_LISTS, Endpoint
from agora_analytics.spans import Span
from agora_analytics.streams.retention import RetentionBounds
from agora_analytics.streams.sources import CallPageSource


class RequestSender(Protocol):
    """Sends a request as soon as there is quota for it: `Poller.request`."""

    def __call__(
        self, endpoint: Endpoint, send: Callable[[], Coroutine[Any, Any, CallPage]]
    ) -> Coroutine[Any, Any, CallPage]:
        """Return the answer."""


class CallListReader:
    """Reads call lists, and counts the requests."""

    def __init__(
        self, source: CallPageSource, bounds: RetentionBounds, utc: Callable[[], float], request: RequestSender
    ) -> None:
        self.bounds = bounds
        self.utc = utc
        self.requests_made = 1.0
        self.lost_before = 0
        """Where the last reading began: what lay before that had expired by the time the request was sent."""

        self._source = source
        self._request = request

    def queryable(self) -> Span:
        """Return the span that is queryable now."""
        return self.bounds.queryable(self.utc())

    async def search(
        self, span: Span, cname: str | None = None, *, incomplete: list[IncompleteList] | None = None
    ) -> list[Call]:
        """Return the calls of a span, or of the part of it that is queryable when each request is sent.

        Appends to `incomplete` what a list lacks even where it is narrowed down. Raises `NothingToFetchError` where no
        part is queryable.
        """
        narrower = 0

        async def page(part: truncation.ListQuery, number: int) -> CallPage:
            nonlocal narrower
            answer = await self._page(part.span, number, part.cname or cname)
            narrower += number == 1 and part.rows_before > 0
            return answer

        spans = span.slices(self.bounds.limits.longest_query)
        lost: list[IncompleteList] = [] if incomplete is None else incomplete
        rows = paging.rows(spans, page, truncation.calls(cname), read_ahead=False, missing=lost.append)
        async with aclosing(rows) as calls:
            found = [call async for call in calls]
        # Estimated, because retries are no part of what the next reading will cost.
        self.requests_made += 1 + len(found) // validation.PAGE_SIZE + narrower
        return found

    async def _page(self, span: Span, number: int, cname: str | None) -> CallPage:
        sent, oldest = span, 0

        def at_send() -> Span:
            nonlocal sent, oldest
            # Read here, because the answer may move the clock.
            queryable = self.queryable()
            sent, oldest = _clip(span, queryable), queryable.start
            return sent

        answer = await self._request(CALL_LISTS, lambda: self._source.call_page(at_send, number, cname))
        if sent.start > span.start:
            self.lost_before = max(self.lost_before, sent.start)
        self.bounds.accepted(min(oldest, sent.start))
        return answer

    async def request_time(self) -> None:
        """Read the newest second, for the date of the answer."""
        newest = self.queryable().end
        await self._request(CALL_LISTS, lambda: self._source.call_page(lambda: Span(newest - 1, newest), 1))


def _clip(part: Span, queryable: Span) -> Span:
    # If a clock was set back, all of the part seems too young: one second of it is requested, for the answer's date.
    start, end = max(part.start, queryable.start), min(part.end, max(queryable.end, part.start + 1))
    if start >= end:
        raise NothingToFetchError
    return Span(start, end)
