"""Pages of spans: each row once, as few requests as possible, the next page prefetched, and no task left behind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import attrs
import pytest

from agora_analytics import IncompleteList, TransportError
from agora_analytics._core.paging import rows
from agora_analytics._core.truncation import ListQuery, RowKind, TruncationState
from agora_analytics.spans import Span


@attrs.frozen
class Row:
    """A call as paging sees it: its name and its end."""

    name: str
    ended: int | None = None


@attrs.frozen
class Page:
    items: tuple[Row, ...]
    has_more: bool | None = None
    total_size: int | None = None
    skipped: tuple[()] = ()


ROWS = RowKind[Row](what="rows", key=lambda row: row.name, ended=lambda row: row.ended)


class Service:
    """Serves pages by the start of their span; records the requests, and counts the cancelled ones."""

    def __init__(self, pages: dict[int, list[Page | Exception]], *, seconds: float = 1.0) -> None:
        self.requests: list[tuple[int, int]] = []
        self.cancelled = 0
        self._pages = pages
        self._seconds = seconds

    async def fetch(self, part: ListQuery, number: int) -> Page:
        self.requests.append((part.span.start, number))
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)  # closing a connection takes time
            self.cancelled += 1
            raise
        page = self._pages[part.span.start][number - 1]
        if isinstance(page, Exception):
            raise page
        return page


def page(*names: str, more: bool | None = None, total: int | None = None) -> Page:
    return Page(tuple(map(Row, names)), more, total)


def read_rows(service: Service, *, ahead: bool = False, spans: int = 1, fetch=None):
    """Read this many spans of 100 seconds."""
    spans_to_read = [Span(start, start + 100) for start in range(0, 100 * spans, 100)]
    return rows(spans_to_read, fetch or service.fetch, ROWS, read_ahead=ahead)


async def names(service: Service, **options) -> list[str]:
    async with aclosing(read_rows(service, **options)) as iterator:
        return [row.name async for row in iterator]


async def process_slowly(iterator) -> None:
    """Take a second for each row, in which a prefetch is sent."""
    async for _ in iterator:
        await asyncio.sleep(1)


with_and_without_read_ahead = pytest.mark.parametrize("ahead", [False, True])


# The end of a list.

ENDS = {
    "has_more is false": ([page("a", more=True), page("b", more=False)], 2),
    "has_more is false, whatever the total": ([page("a", more=True, total=1), page("b", more=False, total=1)], 2),
    "the total is reached": ([page("a", "b", total=3), page("c", total=3)], 2),
    "the total is exceeded": ([page("a", "b", total=3), page("c", "d", total=3)], 2),
    "the first page has all rows": ([page("a", total=1)], 1),
    "a page is empty": ([page("a"), page("b"), page()], 3),
    "a page is empty, although has_more is true": ([page("a", more=True, total=1), page(more=True, total=1)], 2),
    "the only page is empty": ([page(total=0)], 1),
}


@with_and_without_read_ahead
@pytest.mark.parametrize(("pages", "requests"), ENDS.values(), ids=ENDS)
async def test_pages_are_read_until_the_list_ends(pages, requests, ahead):
    service = Service({0: pages})
    expected = [row.name for one in pages for row in one.items]
    assert await names(service, ahead=ahead) == expected
    assert service.requests == [(0, number) for number in range(1, requests + 1)]


@with_and_without_read_ahead
async def test_every_span_starts_at_its_first_page_with_its_own_total(ahead):
    service = Service(
        {
            0: [page("a", "b", total=3), page("c", total=3)],
            100: [page("d", "e", total=3), page("f", total=3)],
            200: [page("g", total=1)],
        }
    )
    assert await names(service, spans=3, ahead=ahead) == list("abcdefg")
    assert service.requests == [(0, 1), (0, 2), (100, 1), (100, 2), (200, 1)]


@with_and_without_read_ahead
async def test_without_spans_nothing_is_requested(ahead):
    service = Service({})
    assert await names(service, spans=0, ahead=ahead) == []
    assert service.requests == []


@with_and_without_read_ahead
async def test_a_list_that_never_ends_raises_after_a_few_requests(ahead):
    service = Service({start: [page("a", "b", more=True)] * 9 for start in range(100)})
    iterator = read_rows(service, ahead=ahead)
    assert [(await anext(iterator)).name for _ in range(2)] == ["a", "b"]
    with pytest.raises(IncompleteList, match="2 of more rows came"):
        await anext(iterator)
    assert len(service.requests) < 60


@with_and_without_read_ahead
async def test_nothing_is_prefetched_before_an_incomplete_list_raises(ahead):
    pages = [page("a", "b", total=9), page("c", "d", total=9), page(total=9)]
    service = Service({0: pages, 10: pages, 20: pages})
    options = {"read_ahead": ahead, "size": 2, "learned": TruncationState()}
    # From this list the service's longest length is learned, so that the next one ends with a page of new rows.
    assert [row.name async for row in rows([Span(0, 1)], service.fetch, ROWS, missing=[].append, **options)]
    with pytest.raises(IncompleteList):
        await process_slowly(rows([Span(10, 11), Span(20, 21)], service.fetch, ROWS, **options))
    assert service.requests[3:] == [(10, 1), (10, 2)]


@with_and_without_read_ahead
async def test_the_same_single_page_in_two_spans_is_not_a_repeated_page(ahead):
    service = Service({0: [page("a", total=1)], 100: [page("a", total=1)]})
    assert await names(service, spans=2, ahead=ahead) == ["a"]


# Each row once.


@with_and_without_read_ahead
async def test_rows_that_moved_to_the_next_page_are_delivered_once(ahead):
    service = Service({0: [page("c", "b", more=True), page("b", "a", more=False)]})
    assert await names(service, ahead=ahead) == ["c", "b", "a"]


@pytest.mark.parametrize("ended", [100, 110, 250, None], ids=["at its start", "in it", "after it", "not yet"])
@with_and_without_read_ahead
async def test_a_row_that_lasts_into_the_next_span_is_delivered_once(ended, ahead):
    only_page = Page((Row("a", ended),), has_more=False)
    service = Service({0: [only_page], 100: [only_page]})
    assert await names(service, spans=2, ahead=ahead) == ["a"]


@with_and_without_read_ahead
async def test_a_row_that_lasts_for_many_spans_is_delivered_once_although_some_lack_it(ahead):
    only_page = Page((Row("a", 320),), has_more=False)
    service = Service({0: [only_page], 100: [page(more=False)], 200: [only_page], 300: [only_page]})
    assert await names(service, spans=4, ahead=ahead) == ["a"]


async def test_rows_that_ended_before_a_span_are_forgotten():
    early, late = Page((Row("a", 99),), has_more=False), Page((Row("a", 210),), has_more=False)
    service = Service({0: [early], 100: [page(more=False)], 200: [late]})
    assert await names(service, spans=3) == ["a", "a"]


async def test_within_a_span_every_row_is_remembered():
    one, other = Row("a", 5), Row("b", 5)
    later = [Page((one,), has_more=True), Page((other,), has_more=True), Page((one,), has_more=False)]
    service = Service({0: [page("x", more=False)], 100: later})
    assert await names(service, spans=2) == ["x", "a", "b"]


# Read-ahead.


async def test_read_ahead_fetches_the_next_page_while_the_current_one_is_consumed():
    service = Service({0: [page("a", more=True), page("b", more=True), page("c", more=False)]})
    started = asyncio.get_running_loop().time()
    async for _ in read_rows(service, ahead=True):
        await asyncio.sleep(1)  # as long as a page takes
    assert asyncio.get_running_loop().time() - started == pytest.approx(4)


async def test_read_ahead_is_one_page_and_crosses_into_the_next_span():
    service = Service({0: [page("a", "b", more=False)], 100: [page("c", more=False)], 200: [page("d", more=False)]})
    async with aclosing(read_rows(service, ahead=True, spans=3)) as iterator:
        await anext(iterator)
        await asyncio.sleep(30)
        assert service.requests == [(0, 1), (100, 1)]


async def test_without_read_ahead_a_page_is_requested_only_when_needed():
    service = Service({0: [page("a", "b", more=True), page("c", more=False)]})
    async with aclosing(read_rows(service)) as iterator:
        for _ in range(2):
            await anext(iterator)
            await asyncio.sleep(30)
            assert service.requests == [(0, 1)]
        await anext(iterator)
    assert service.requests == [(0, 1), (0, 2)]


async def test_closing_waits_until_the_prefetch_is_cancelled():
    service = Service({0: [page("a", more=True), page("b", more=False)]})
    iterator = read_rows(service, ahead=True)
    await anext(iterator)
    await asyncio.sleep(0.5)
    await iterator.aclose()
    assert service.cancelled == 1
    assert len(asyncio.all_tasks()) == 1


async def test_cancelling_the_reader_leaves_no_task_behind():
    service = Service({0: [page("a", more=True), page("b", more=False)]})
    reader = asyncio.create_task(names(service, ahead=True))
    await asyncio.sleep(1.5)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert service.cancelled == 1
    assert len(asyncio.all_tasks()) == 1


@with_and_without_read_ahead
async def test_an_error_of_a_page_is_raised_after_the_rows_before_it(ahead):
    service = Service({0: [page("a", "b", more=True), TransportError("down")]})
    seen: list[str] = []

    async def read() -> None:
        async for row in read_rows(service, ahead=ahead):
            seen.append(row.name)
            await asyncio.sleep(9)

    with pytest.raises(TransportError, match="down"):
        await read()
    assert seen == ["a", "b"]


async def test_an_error_in_building_the_next_request_is_raised_after_the_rows_before_it():
    def fetch(part: ListQuery, number: int):
        if part.span.start:
            raise ValueError("too old by now")
        return Service({0: [page("a", "b", more=False)]}).fetch(part, number)

    iterator = read_rows(Service({}), ahead=True, spans=2, fetch=fetch)
    assert [(await anext(iterator)).name for _ in range(2)] == ["a", "b"]
    with pytest.raises(ValueError, match="too old by now"):
        await anext(iterator)


async def test_an_error_of_the_prefetch_is_not_logged_after_the_reader_closes(caplog):
    service = Service({0: [page("a", more=True), TransportError("down")]})
    iterator = read_rows(service, ahead=True)
    await anext(iterator)
    await asyncio.sleep(5)
    await iterator.aclose()
    assert caplog.records == []
