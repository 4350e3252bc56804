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
from agora_analytics._core.truncation import ListProgress, ListQuery, Page, PageOutcome, RowKind, TruncationState
from agora_analytics.errors import IncompleteList, ResponseError
from agora_analytics.spans import Span

ItemT = TypeVar("ItemT")

Fetch = Callable[[ListQuery, int], Awaitable[Page[ItemT]]]
"""Gets the page of this number (from 1) of a list."""

Missing = Callable[[IncompleteList], None]

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
    """Yield each row of each span, or part of one, once; they are in order of time.

    Rows move between pages while new ones appear, and one that lasts beyond its span may be found in the next one too.
    Remembered are the keys of the current span and of rows that ended in or after it (None: not yet), no more.

    A list that is cut off is asked for again in narrower parts, in full pages; other pages have `size` rows. What
    cannot be had even so is told to `missing`, or raised as `IncompleteList` once the rest of its span has come.
    `learned` is what other lists of this service have shown.
    """
    agenda = PageQueue(spans, kind, size, learned)
    async with aclosing(_pages(agenda, fetch, read_ahead=read_ahead, missing=missing)) as pages:
        async for new in pages:
            for row in new:
                yield row


async def _pages(
    agenda: PageQueue[ItemT], fetch: Fetch[ItemT], *, read_ahead: bool, missing: Missing | None
) -> AsyncGenerator[list[ItemT]]:
    """Yield the new rows of each page; with `read_ahead`, one more than was asked for is fetched meanwhile."""
    ahead: asyncio.Task[Page[ItemT]] | None = None
    try:
        while (due := agenda.due) is not None:
            task, ahead = ahead, None
            new = await _turn(agenda, task or fetch(*due))
            lost = agenda.lost()
            if read_ahead and agenda.due is not None and not (lost and missing is None):
                ahead = asyncio.ensure_future(_later(fetch, *agenda.due))
            yield new
            for error in lost:
                if missing is None:
                    raise error
                missing(error)
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


async def _turn(agenda: PageQueue[ItemT], page: Awaitable[Page[ItemT]]) -> list[ItemT]:
    """Wait for a page, and return its new rows."""
    try:
        return agenda.take(await page)
    except ResponseError as error:
        if not agenda.refused(error):
            raise
        return []


async def _later(fetch: Fetch[ItemT], part: ListQuery, number: int) -> Page[ItemT]:
    """Fetch so that whatever goes wrong, be it the asking itself, is told when the page is due."""
    return await fetch(part, number)


@attrs.define(eq=False, repr=False)
class _Second(Generic[ItemT]):
    """A second that is asked for channel by channel: its list as a whole, and how many channels are to come."""

    part: ListQuery
    reading: ListProgress[ItemT]
    left: int


@attrs.define(eq=False, repr=False)
class _Price:
    """What the lists of a span cost: how many there were, of how many requests and rows."""

    lists: int = 0
    requests: int = 0
    rows: int = 0


class PageQueue(Generic[ItemT]):
    """Which page is due, of a part of one of the spans; spans are in order of time.

    Attributes:
        due: the part and the number of the page, None after the last.

    """

    due: tuple[ListQuery, int] | None
    _part: ListQuery
    _number: int
    _whole: Span
    _reading: ListProgress[ItemT]
    _fruitful: bool

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

    def take(self, page: Page[ItemT]) -> list[ItemT]:
        """Take in the page that was due, and return the rows that are new."""
        self._reading.take(page)
        new: list[ItemT] = []
        for row in page.items:
            name = self._kind.key(row)
            if name not in self._seen:
                self._seen[name] = self._kind.ended(row)
                new.append(row)
        self._fruitful = self._fruitful or bool(new)
        self._price.rows += len(new)
        self._turn()
        return new

    def refused(self, error: ResponseError) -> bool:
        """Take in that the page that was due is refused, and return whether that is for its number alone."""
        if not truncation.is_depth(error, self._number):
            return False
        self._reading.refuse(error)
        self._turn()
        return True

    def lost(self) -> list[IncompleteList]:
        """Return what cannot be had of the spans that have ended; each is told once."""
        lost, self._ended = self._ended, []
        return lost

    def _turn(self) -> None:
        """Go on to the next page, or to the next list."""
        self._price.requests += 1
        verdict = self._learned.verdict(self._part, self._reading)
        if verdict is PageOutcome.MORE:
            self._number += 1
            self.due = self._part, self._number
            return
        if self._part.cname is not None and self._second is not None:
            self._end_channel(self._second)
        elif verdict is PageOutcome.TRUNCATED:
            self._narrow(self._part, self._reading)
        self._next_part()

    def _narrow(self, part: ListQuery, reading: ListProgress[ItemT]) -> None:
        """Put narrower lists in the place of one that was cut off, if there are any."""
        parts = self._learned.narrower(part, reading, fruitful=self._fruitful)
        if parts == ():
            log.warning("%s of %s: total_size is wrong, it is not believed any more", self._kind.what, part.span)
        elif parts is None:
            self._lost.append(truncation.incomplete(part, reading))
        elif parts and parts[0].cname is not None:
            self._second = _Second(part, reading, len(parts))
        self._stack += reversed(parts or ())

    def _end_channel(self, second: _Second[ItemT]) -> None:
        """Take in the list of a channel; after the last, or when all rows are there, the second is done."""
        whole = second.reading
        whole.keys |= self._reading.keys
        second.left -= 1
        found = whole.least is not None and whole.distinct >= whole.least
        if found:
            del self._stack[len(self._stack) - second.left :]
        elif not second.left:
            self._lost.append(truncation.incomplete(second.part, whole))
        if found or not second.left:
            self._second = None

    def _next_part(self) -> None:
        if self._stack:
            self._begin(self._stack.pop())
            return
        if self._price.lists > 1:
            self._tell_price()
        self._ended += self._lost
        self._lost = []
        self._next_span()

    def _next_span(self) -> None:
        found = next(self._spans, None)
        self._price = _Price()
        if found is None:
            self.due = None
            return
        part = ListQuery(found) if isinstance(found, Span) else found
        self._whole = part.span
        self._seen = {name: end for name, end in self._seen.items() if end is None or end >= part.span.start}
        self._begin(part)

    def _begin(self, part: ListQuery) -> None:
        self._part, self._number, self._fruitful = part, 1, False
        self._reading = self._learned.reading(self._kind, part, self._size)
        self._price.lists += 1
        self.due = part, 1

    def _tell_price(self) -> None:
        price = self._price
        log.warning(
            "%s of %s: the service cut a list off, so %d lists were asked for: %d rows in %d requests",
            self._kind.what,
            self._whole,
            price.lists,
            price.rows,
            price.requests,
            extra={"agora_lists": price.lists, "agora_rows": price.rows, "agora_requests": price.requests},
        )
