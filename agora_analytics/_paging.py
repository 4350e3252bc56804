"""Pages one after the other, the next already on its way, each row once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Protocol, TypeVar

from agora_analytics.errors import DecodeError
from agora_analytics.spans import Span

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)


class Page(Protocol[ItemT_co]):
    """What paging needs to know of a page."""

    @property
    def items(self) -> tuple[ItemT_co, ...]:
        """Its rows."""

    @property
    def has_more(self) -> bool | None:
        """Whether more pages follow, where the service says so."""

    @property
    def total_size(self) -> int | None:
        """Rows of all pages, where the service says so."""


Fetch = Callable[[Span, int], Awaitable[Page[ItemT]]]
"""Gets the page of this number (from 1) of a span."""


async def rows(
    spans: Iterable[Span],
    fetch: Fetch[ItemT],
    *,
    key: Callable[[ItemT], str],
    ended: Callable[[ItemT], int | None],
    read_ahead: bool,
) -> AsyncGenerator[ItemT]:
    """Yield each row of each page of each span once, by its `key`; spans are in order of time.

    Rows move between pages while new ones appear, and one that lasts beyond its span may be found in the next one too.
    Remembered are the keys of the current span and of rows that `ended` in or after it (None: not yet), no more.
    """
    seen: dict[str, int | None] = {}
    current: Span | None = None
    async with aclosing(_pages(spans, fetch, read_ahead=read_ahead)) as pages:
        async for span, page in pages:
            if current is not None and span is not current:
                seen = {name: end for name, end in seen.items() if end is None or end >= span.start}
            current = span
            for row in page.items:
                name = key(row)
                if name not in seen:
                    seen[name] = ended(row)
                    yield row


async def _pages(
    spans: Iterable[Span], fetch: Fetch[ItemT], *, read_ahead: bool
) -> AsyncGenerator[tuple[Span, Page[ItemT]]]:
    """Yield the pages of each span; with `read_ahead`, one more than was asked for is fetched meanwhile."""
    rest = iter(spans)
    span, number, count = next(rest, None), 1, 0
    last: tuple[ItemT, ...] = ()
    ahead: asyncio.Task[Page[ItemT]] | None = None
    try:
        while span is not None:
            task, ahead = ahead, None
            page = await (task or fetch(span, number))
            here = span
            insist(number, page.items, last)
            last = page.items
            count += len(page.items)
            if more(page, count):
                number += 1
            else:
                span, number, count = next(rest, None), 1, 0
            if read_ahead and span is not None:
                ahead = asyncio.ensure_future(_later(fetch, span, number))
            yield here, page
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


async def _later(fetch: Fetch[ItemT], span: Span, number: int) -> Page[ItemT]:
    """Fetch so that whatever goes wrong, be it the asking itself, is told when the page is due."""
    return await fetch(span, number)


def insist(number: int, rows: tuple[ItemT, ...], before: tuple[ItemT, ...]) -> None:
    """Raise `DecodeError` for a page with the rows of the one before: the service would give it for ever."""
    if number > 1 and rows and rows == before:
        raise DecodeError(f"page {number} repeats the one before it: the service does not turn pages")


def more(page: Page[ItemT], count: int) -> bool:
    """Whether another page follows the first `count` rows.

    As the service says, else by its total, else until a page is empty.
    """
    if not page.items:
        return False
    if page.has_more is not None:
        return page.has_more
    return page.total_size is None or count < page.total_size
