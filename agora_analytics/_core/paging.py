"""Pages of lists: each row once, the next page prefetched, and narrower lists where the service cuts one off.

`rows` is the iterator; `PageQueue` decides which page of which list comes next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Generic, TypeVar

import attrs

from agora_analytics._core import truncation, validation
from agora_analytics._core.futures import cancel_and_wait
from agora_analytics._core.truncation import ListPage, ListProgress, ListQuery, PageOutcome, RowKind, TruncationState
from agora_analytics.errors import IncompleteList, ResponseError
from agora_analytics.spans import Span

ItemT = TypeVar("ItemT")

Fetch = Callable[[ListQuery, int], Awaitable[ListPage[ItemT]]]
"""Fetches the page with this number (from 1) of a list."""

Missing = Callable[[IncompleteList], None]
"""Is called for each list whose rows cannot all be fetched."""

log = logging.getLogger("agora_analytics")


async def rows(
    spans: Iterable[Span | ListQuery],
    fetch: Fetch[ItemT],
    kind: RowKind[ItemT],
    *,
    read_ahead: bool,
    size: int = validation.PAGE_SIZE,
    missing: Missing | None = None,
    learned: TruncationState | None = None,
) -> AsyncGenerator[ItemT]:
    """Yield each row of each span once; spans are in order of time.

    Rows are deduplicated by key: they move between pages while new ones appear, and a row that outlasts its span is
    listed in the next one too. Only the keys of the current span and of rows that ended in or after it are kept.

    Where the service cuts off a list, narrower lists are fetched, in full pages; other pages have `size` rows. Rows
    that cannot be fetched even so are reported to `missing`, or raised as `IncompleteList` after the rest of the span.
    `learned` is what other lists have shown of the service.
    """
    queue = PageQueue(spans, kind, size, learned)
    async with aclosing(_pages(queue, fetch, read_ahead=read_ahead, missing=missing)) as pages:
        async for new in pages:
            for row in new:
                yield row


async def _pages(
    queue: PageQueue[ItemT], fetch: Fetch[ItemT], *, read_ahead: bool, missing: Missing | None
) -> AsyncGenerator[list[ItemT]]:
    """Yield the new rows of each page; with `read_ahead`, prefetch the next page meanwhile."""
    ahead: asyncio.Task[ListPage[ItemT]] | None = None
    try:
        while (due := queue.due) is not None:
            # The page that is awaited gets a cancellation directly; `finally` is for one that nobody awaits.
            task, ahead = ahead, None
            new = await _receive(queue, task or fetch(*due))
            lost = queue.pop_incomplete()
            # Nothing is prefetched before an error that ends the iteration: it would cost a request.
            if read_ahead and queue.due is not None and not (lost and missing is None):
                ahead = asyncio.ensure_future(_later(fetch, *queue.due))
            yield new
            for error in lost:
                if missing is None:
                    raise error
                missing(error)
    finally:
        if ahead is not None:
            # Its permit is returned before the iteration ends, and its error is not logged as unretrieved.
            await cancel_and_wait(ahead)


async def _receive(queue: PageQueue[ItemT], page: Awaitable[ListPage[ItemT]]) -> list[ItemT]:
    """Wait for a page, and return its new rows."""
    try:
        return queue.take(await page)
    except ResponseError as error:
        if not queue.refused(error):
            raise
        return []


async def _later(fetch: Fetch[ItemT], part: ListQuery, number: int) -> ListPage[ItemT]:
    """Wrap a prefetch, so that its errors, those of the call included, are raised when the page is due."""
    return await fetch(part, number)


@attrs.define(eq=False, repr=False)
class _Second(Generic[ItemT]):
    """A second that is fetched channel by channel: its list as a whole, and how many channels remain."""

    part: ListQuery
    reading: ListProgress[ItemT]
    left: int


@attrs.define(eq=False, repr=False)
class _Cost:
    """The number of lists, requests and rows of a span."""

    lists: int = 0
    requests: int = 0
    rows: int = 0


class PageQueue(Generic[ItemT]):
    """Decides which page to fetch next; spans are in order of time.

    Attributes:
        due: the list and the number of its page, None after the last.

    """

    due: tuple[ListQuery, int] | None
    _part: ListQuery
    _number: int
    _whole: Span
    _reading: ListProgress[ItemT]
    _has_new_rows: bool

    def __init__(
        self,
        spans: Iterable[Span | ListQuery],
        kind: RowKind[ItemT],
        size: int = validation.PAGE_SIZE,
        learned: TruncationState | None = None,
    ) -> None:
        self._spans = iter(spans)
        self._kind = kind
        self._size = size
        self._stack: list[ListQuery] = []
        self._seen: dict[str, int | None] = {}
        self._lost: list[IncompleteList] = []
        self._ended: list[IncompleteList] = []
        self._second: _Second[ItemT] | None = None
        self._learned = learned or TruncationState()
        self._next_span()

    def take(self, page: ListPage[ItemT]) -> list[ItemT]:
        """Add the page that was due, and return the rows that are new."""
        self._reading.take(page)
        new: list[ItemT] = []
        for row in page.items:
            name = self._kind.key(row)
            if name not in self._seen:
                self._seen[name] = self._kind.ended(row)
                new.append(row)
        self._has_new_rows = self._has_new_rows or bool(new)
        self._cost.rows += len(new)
        self._advance()
        return new

    def refused(self, error: ResponseError) -> bool:
        """Record an error for the page that was due; return whether only its number is at fault."""
        if not truncation.is_depth(error, self._number):
            return False
        self._reading.refuse(error)
        self._advance()
        return True

    def pop_incomplete(self) -> list[IncompleteList]:
        """Return the incomplete lists of finished spans, each once."""
        lost, self._ended = self._ended, []
        return lost

    def _advance(self) -> None:
        """Advance to the next page, or to the next list."""
        self._cost.requests += 1
        verdict = self._learned.verdict(self._part, self._reading)
        if verdict is PageOutcome.MORE:
            self._number += 1
            self.due = self._part, self._number
            return
        # A channel's part of a second cannot be narrowed further, so its verdict does not matter.
        if self._part.cname is not None and self._second is not None:
            self._end_channel(self._second)
        elif verdict is PageOutcome.TRUNCATED:
            self._narrow(self._part, self._reading)
        self._next_part()

    def _narrow(self, part: ListQuery, reading: ListProgress[ItemT]) -> None:
        """Replace a list that was cut off by narrower ones, if there are any."""
        parts = self._learned.narrower(part, reading, has_new_rows=self._has_new_rows)
        if parts == ():
            log.warning("%s of %s: total_size is wrong, ignoring it from now on", self._kind.what, part.span)
        elif parts is None:
            self._lost.append(truncation.incomplete(part, reading))
        elif parts and parts[0].cname is not None:
            self._second = _Second(part, reading, len(parts))
        # The last of the stack is next, so the newest part comes first, as rows do.
        self._stack += reversed(parts or ())

    def _end_channel(self, second: _Second[ItemT]) -> None:
        """Add the list of a channel; the second is complete after the last, or once all rows are there."""
        whole = second.reading
        whole.keys |= self._reading.keys
        second.left -= 1
        found = whole.least is not None and whole.distinct >= whole.least
        if found:
            # All rows of the second are there: its other channels cost no request.
            del self._stack[len(self._stack) - second.left :]
        elif not second.left:
            self._lost.append(truncation.incomplete(second.part, whole))
        if found or not second.left:
            self._second = None

    def _next_part(self) -> None:
        if self._stack:
            self._begin(self._stack.pop())
            return
        if self._cost.lists > 1:
            self._log_cost()
        # Reported only now, after all rows of the span that could be fetched.
        self._ended += self._lost
        self._lost = []
        self._next_span()

    def _next_span(self) -> None:
        found = next(self._spans, None)
        self._cost = _Cost()
        if found is None:
            self.due = None
            return
        part = ListQuery(found) if isinstance(found, Span) else found
        self._whole = part.span
        # A row that ended before this span cannot be listed in it; one that is open can. This bounds the memory.
        self._seen = {name: end for name, end in self._seen.items() if end is None or end >= part.span.start}
        self._begin(part)

    def _begin(self, part: ListQuery) -> None:
        self._part, self._number, self._has_new_rows = part, 1, False
        self._reading = self._learned.reading(self._kind, part, self._size)
        self._cost.lists += 1
        self.due = part, 1

    def _log_cost(self) -> None:
        cost = self._cost
        log.warning(
            "%s of %s: the service cut off a list: read as %d lists, %d rows in %d requests",
            self._kind.what,
            self._whole,
            cost.lists,
            cost.rows,
            cost.requests,
            extra={"agora_lists": cost.lists, "agora_rows": cost.rows, "agora_requests": cost.requests},
        )
