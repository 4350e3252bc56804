"""Pages of spans: each row once, as few requests as can be, the next page on its way, and nothing left behind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import attrs
import pytest

from agora_analytics import IncompleteList, TransportError
from agora_analytics._core.paging import rows
from agora_analytics._core.truncation import ListQuery, RowKind
from agora_analytics.spans import Span


@attrs.frozen
class Row:
    """A call, as far as paging looks at it: its name and when it ended."""

    name: str
    ended: int | None = None


@attrs.frozen
class Answer:
    items: tuple[Row, ...]
    has_more: bool | None = None
    total_size: int | None = None
    skipped: tuple[()] = ()


ROWS = RowKind[Row](what="rows", key=lambda row: row.name, ended=lambda row: row.ended)


class Service:
    """Pages by the start of their span; remembers what was asked for, and who left before he had his answer."""

    def __init__(self, pages: dict[int, list[Answer | Exception]], *, seconds: float = 1.0) -> None:
        self.asked: list[tuple[int, int]] = []
        self.cleaned = 0
        self._pages = pages
        self._seconds = seconds

    async def fetch(self, part: ListQuery, number: int) -> Answer:
        self.asked.append((part.span.start, number))
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)  # a connection takes its time to close
            self.cleaned += 1
            raise
        page = self._pages[part.span.start][number - 1]
        if isinstance(page, Exception):
            raise page
        return page


def page(*names: str, more: bool | None = None, total: int | None = None) -> Answer:
    return Answer(tuple(map(Row, names)), more, total)


def reading(service: Service, *, ahead: bool = False, spans: int = 1, fetch=None):
    """Read so many spans of 100 seconds."""
    asked_for = [Span(start, start + 100) for start in range(0, 100 * spans, 100)]
    return rows(asked_for, fetch or service.fetch, ROWS, read_ahead=ahead)


async def names(service: Service, **options) -> list[str]:
    async with aclosing(reading(service, **options)) as found:
        return [row.name async for row in found]


both = pytest.mark.parametrize("ahead", [False, True])


# How many pages there are.

ENDS = {
    "the service says so": ([page("a", more=True), page("b", more=False)], 2),
    "the service says so, whatever its total": ([page("a", more=True, total=1), page("b", more=False, total=1)], 2),
    "all of the total have come": ([page("a", "b", total=3), page("c", total=3)], 2),
    "more than the total have come": ([page("a", "b", total=3), page("c", "d", total=3)], 2),
    "the first page has all": ([page("a", total=1)], 1),
    "a page is empty": ([page("a"), page("b"), page()], 3),
    "a page is empty, whatever is said": ([page("a", more=True, total=1), page(more=True, total=1)], 2),
    "the only page is empty": ([page(total=0)], 1),
}


@both
@pytest.mark.parametrize(("pages", "requests"), ENDS.values(), ids=ENDS)
async def test_pages_are_read_until(pages, requests, ahead):
    service = Service({0: pages})
    expected = [row.name for one in pages for row in one.items]
    assert await names(service, ahead=ahead) == expected
    assert service.asked == [(0, number) for number in range(1, requests + 1)]


@both
async def test_every_span_begins_at_its_first_page_and_counts_anew(ahead):
    service = Service(
        {
            0: [page("a", "b", total=3), page("c", total=3)],
            100: [page("d", "e", total=3), page("f", total=3)],
            200: [page("g", total=1)],
        }
    )
    assert await names(service, spans=3, ahead=ahead) == list("abcdefg")
    assert service.asked == [(0, 1), (0, 2), (100, 1), (100, 2), (200, 1)]


@both
async def test_without_spans_nothing_is_asked(ahead):
    service = Service({})
    assert await names(service, spans=0, ahead=ahead) == []
    assert service.asked == []


@both
async def test_a_list_that_never_ends_is_told_after_a_few_requests(ahead):
    service = Service({start: [page("a", "b", more=True)] * 9 for start in range(100)})
    found = reading(service, ahead=ahead)
    assert [(await anext(found)).name for _ in range(2)] == ["a", "b"]
    with pytest.raises(IncompleteList, match="2 of more rows came"):
        await anext(found)
    assert len(service.asked) < 60


@both
async def test_two_spans_with_the_same_only_page_are_no_repetition(ahead):
    service = Service({0: [page("a", total=1)], 100: [page("a", total=1)]})
    assert await names(service, spans=2, ahead=ahead) == ["a"]


# Each row once.


@both
async def test_rows_that_moved_to_the_next_page_come_once(ahead):
    service = Service({0: [page("c", "b", more=True), page("b", "a", more=False)]})
    assert await names(service, ahead=ahead) == ["c", "b", "a"]


@pytest.mark.parametrize("ended", [100, 110, 250, None], ids=["at its start", "in it", "after it", "not yet"])
@both
async def test_a_row_that_lasts_into_the_next_span_comes_once(ended, ahead):
    found = Answer((Row("a", ended),), has_more=False)
    service = Service({0: [found], 100: [found]})
    assert await names(service, spans=2, ahead=ahead) == ["a"]


@both
async def test_a_row_that_lasts_for_many_spans_comes_once_though_some_lack_it(ahead):
    found = Answer((Row("a", 320),), has_more=False)
    service = Service({0: [found], 100: [page(more=False)], 200: [found], 300: [found]})
    assert await names(service, spans=4, ahead=ahead) == ["a"]


async def test_what_ended_before_a_span_began_is_not_remembered():
    early, late = Answer((Row("a", 99),), has_more=False), Answer((Row("a", 210),), has_more=False)
    service = Service({0: [early], 100: [page(more=False)], 200: [late]})
    assert await names(service, spans=3) == ["a", "a"]


async def test_within_a_span_everything_is_remembered():
    one, other = Row("a", 5), Row("b", 5)
    later = [Answer((one,), has_more=True), Answer((other,), has_more=True), Answer((one,), has_more=False)]
    service = Service({0: [page("x", more=False)], 100: later})
    assert await names(service, spans=2) == ["x", "a", "b"]


# The next page is on its way.


async def test_with_read_ahead_the_next_page_comes_while_this_one_is_worked_on():
    service = Service({0: [page("a", more=True), page("b", more=True), page("c", more=False)]})
    begun = asyncio.get_running_loop().time()
    async for _ in reading(service, ahead=True):
        await asyncio.sleep(1)  # as long as a page takes
    assert asyncio.get_running_loop().time() - begun == pytest.approx(4)


async def test_read_ahead_is_one_page_and_goes_over_to_the_next_span():
    service = Service({0: [page("a", "b", more=False)], 100: [page("c", more=False)], 200: [page("d", more=False)]})
    async with aclosing(reading(service, ahead=True, spans=3)) as found:
        await anext(found)
        await asyncio.sleep(30)
        assert service.asked == [(0, 1), (100, 1)]


async def test_without_read_ahead_nothing_is_asked_before_it_is_wanted():
    service = Service({0: [page("a", "b", more=True), page("c", more=False)]})
    async with aclosing(reading(service)) as found:
        for _ in range(2):
            await anext(found)
            await asyncio.sleep(30)
            assert service.asked == [(0, 1)]
        await anext(found)
    assert service.asked == [(0, 1), (0, 2)]


async def test_closing_waits_until_the_page_read_ahead_is_cancelled():
    service = Service({0: [page("a", more=True), page("b", more=False)]})
    found = reading(service, ahead=True)
    await anext(found)
    await asyncio.sleep(0.5)
    await found.aclose()
    assert service.cleaned == 1
    assert len(asyncio.all_tasks()) == 1


async def test_cancelling_the_reader_leaves_no_task_behind():
    service = Service({0: [page("a", more=True), page("b", more=False)]})
    reader = asyncio.create_task(names(service, ahead=True))
    await asyncio.sleep(1.5)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert service.cleaned == 1
    assert len(asyncio.all_tasks()) == 1


@both
async def test_an_error_of_a_page_is_raised_after_the_rows_before_it(ahead):
    service = Service({0: [page("a", "b", more=True), TransportError("down")]})
    seen: list[str] = []

    async def read() -> None:
        async for row in reading(service, ahead=ahead):
            seen.append(row.name)
            await asyncio.sleep(9)

    with pytest.raises(TransportError, match="down"):
        await read()
    assert seen == ["a", "b"]


async def test_an_error_in_making_the_next_request_is_raised_after_the_rows_before_it():
    def fetch(part: ListQuery, number: int):
        if part.span.start:
            raise ValueError("too old by now")
        return Service({0: [page("a", "b", more=False)]}).fetch(part, number)

    found = reading(Service({}), ahead=True, spans=2, fetch=fetch)
    assert [(await anext(found)).name for _ in range(2)] == ["a", "b"]
    with pytest.raises(ValueError, match="too old by now"):
        await anext(found)


async def test_an_error_of_the_page_read_ahead_is_not_logged_once_the_reader_has_left(caplog):
    service = Service({0: [page("a", more=True), TransportError("down")]})
    found = reading(service, ahead=True)
    await anext(found)
    await asyncio.sleep(5)
    await found.aclose()
    assert caplog.records == []
