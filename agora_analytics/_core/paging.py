"""Pages one after the other, the next already on its way, each row once, and narrower lists where one is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import TypeVar

from agora_analytics._core import validation
from agora_analytics._core.page_queue import PageQueue
from agora_analytics._core.truncation import ListQuery, Page, RowKind, TruncationState
from agora_analytics.errors import IncompleteList, ResponseError
from agora_analytics.spans import Span

ItemT = TypeVar("ItemT")

Fetch = Callable[[ListQuery, int], Awaitable[Page[ItemT]]]
"""Gets the page of this number (from 1) of a list."""

Missing = Callable[[IncompleteList], None]


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
