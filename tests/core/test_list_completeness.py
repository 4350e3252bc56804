"""When a list is whole, when it ends, and what is asked for in its place: page by page, without a service."""

from __future__ import annotations

import attrs
import pytest

from agora_analytics import BadRequest, ServerError, Span, TransportError
from agora_analytics._core.truncation import ListQuery, PageOutcome, RowKind, TruncationState, is_depth
from agora_analytics.models import BadRow

COMPLETE = ListQuery(Span(0, 3_600))


@attrs.frozen
class Page:
    items: tuple[int, ...]
    has_more: bool | None = None
    total_size: int | None = None
    skipped: tuple[BadRow, ...] = ()


ORDERED = RowKind[int](what="rows", key=str, began=lambda second: second)
UNORDERED = RowKind[int](what="rows", key=str)


def read(*pages: Page, part: ListQuery = COMPLETE, kind: RowKind[int] = ORDERED, size: int = 2, learned=None):
    """Read pages of a list; return the verdict after each, and what is asked for in the place of the rest."""
    learned = learned or TruncationState()
    reading = learned.reading(kind, part, size)
    verdicts = []
    for page in pages:
        reading.take(page)
        verdicts.append(learned.verdict(part, reading))
    cut = verdicts[-1] is PageOutcome.TRUNCATED
    return verdicts, learned.narrower(part, reading, fruitful=True) if cut else ()


def test_rows_that_new_ones_pushed_to_the_next_page_are_not_owed_once_more():
    verdicts, _ = read(Page((9, 8), True, 4), Page((9, 8), True, 6), Page((7, 6), False, 6))
    assert verdicts == [PageOutcome.MORE, PageOutcome.MORE, PageOutcome.COMPLETE]


def test_a_last_page_that_repeats_the_one_before_it_does_not_make_a_list_whole():
    verdicts, narrower = read(Page((9, 8), True, 4), Page((9, 8), False, 4))
    assert verdicts == [PageOutcome.MORE, PageOutcome.TRUNCATED]
    assert [part.span for part in narrower] == [Span(0, 9)]


def test_rows_that_could_not_be_read_count_as_rows():
    verdicts, _ = read(Page((9, 8), None, 3, skipped=(BadRow("$.call_lists[2]", "why"),)))
    assert verdicts == [PageOutcome.COMPLETE]


def test_a_page_of_which_nothing_could_be_read_is_not_the_end():
    bad = (BadRow("$.call_lists[0]", "why"), BadRow("$.call_lists[1]", "why"))
    verdicts, _ = read(Page((), None, 4, skipped=bad), Page((9, 8), None, 4))
    assert verdicts == [PageOutcome.MORE, PageOutcome.COMPLETE]


@pytest.mark.parametrize("items", [(9, 8), ()])
def test_pages_that_do_not_turn_end_though_a_row_of_each_cannot_be_read(items):
    page = Page(items, skipped=(BadRow("$.call_lists[0]", "why"),))
    verdicts, _ = read(*[page] * 4, size=3)
    assert verdicts[-1] is PageOutcome.TRUNCATED


def test_a_row_that_cannot_be_read_counts_once_though_its_page_comes_again():
    page = Page((9, 8), True, 4, skipped=(BadRow("$.call_lists[0]", "why"),))
    assert read(*[page] * 4, size=3)[0] == [PageOutcome.MORE] * 3 + [PageOutcome.TRUNCATED]


def test_a_text_that_was_mended_is_no_row_more():
    mended = BadRow("$.call_lists[0].cname", "half a character", whole=False)
    verdicts, _ = read(Page((9, 8), None, 3, skipped=(mended,)), Page((7,), None, 3))
    assert verdicts == [PageOutcome.MORE, PageOutcome.COMPLETE]


@pytest.mark.parametrize("total", [-1, 0, 1])
def test_a_total_below_what_has_come_ends_no_list_that_has_more(total):
    verdicts, _ = read(Page((9, 8), True, total), Page((7,), False, total))
    assert verdicts == [PageOutcome.MORE, PageOutcome.COMPLETE]


def test_rows_in_no_order_are_asked_for_in_halves_and_a_single_second_by_nothing():
    _, narrower = read(Page((8, 9), True, 4), Page((), True, 4))
    assert [part.span for part in narrower] == [Span(1_800, 3_600), Span(0, 1_800)]
    assert read(Page((8, 9), True, 4), Page((), True, 4), part=ListQuery(Span(5, 6)))[1] is None


def test_the_last_second_is_asked_for_by_itself_where_all_rows_began_in_it():
    _, narrower = read(Page((3_599,), True, 4), Page((), True, 4))
    assert [part.span for part in narrower] == [Span(3_599, 3_600), Span(0, 3_599)]


def test_a_list_that_will_be_halved_anyway_is_left_after_its_first_page():
    learned = TruncationState(cap=2)
    half = ListQuery(Span(0, 1_800), rows_before=2)
    assert read(Page((8, 9), True, 400), part=half, kind=UNORDERED, learned=learned)[0] == [PageOutcome.TRUNCATED]
    assert read(Page((9, 8), True, 2), part=half, kind=UNORDERED, learned=TruncationState(cap=4))[0] == [
        PageOutcome.MORE
    ]
    assert read(Page((8, 9), True, 400), kind=UNORDERED, learned=TruncationState(cap=4))[0] == [PageOutcome.MORE], (
        "not narrowed"
    )


def test_a_list_is_not_read_further_than_another_was_cut_off():
    learned = TruncationState()
    read(Page((9, 8), True, 4), Page((), True, 4), learned=learned)
    assert learned.cap == 2
    assert read(Page((7, 6), True, 4), learned=learned)[0] == [PageOutcome.TRUNCATED]


@pytest.mark.parametrize("patience", [1, 3])
def test_pages_in_a_row_without_a_new_row_end_a_list_the_sooner_the_narrower_it_is(patience):
    part = attrs.evolve(COMPLETE, rows_before=9 if patience == 1 else 0)
    pages = [Page((9, 8), True, 9)] * (1 + patience)
    assert read(*pages, part=part)[0] == [PageOutcome.MORE] * patience + [PageOutcome.TRUNCATED]


def test_a_first_page_that_is_refused_is_no_matter_of_depth():
    refused = BadRequest("no", status=200, code=400)
    assert [is_depth(refused, number) for number in (1, 2)] == [False, True]
    assert is_depth(ServerError("unknown", status=200, code=500), 2)
    assert not is_depth(ServerError("down", status=503), 2)
    assert not is_depth(TransportError("down"), 2)


# Rows that vanish between two pages


def test_what_began_before_the_last_row_is_asked_for_again_where_the_total_fell_between_two_pages():
    verdicts, narrower = read(Page((9, 8), True, 4), Page((6,), False, 3))
    assert verdicts == [PageOutcome.MORE, PageOutcome.TRUNCATED]
    assert [(part.span, part.rows_before) for part in narrower] == [(Span(0, 9), 3)]


def test_a_total_that_fell_where_there_is_nothing_more_after_it_counts_as_well():
    assert read(Page((9, 8), True, 4), Page((), False, 1))[0] == [PageOutcome.MORE, PageOutcome.TRUNCATED]


def test_nothing_is_asked_for_again_where_all_that_was_told_of_came_though_the_total_fell():
    assert read(Page((9, 8), True, 4), Page((7, 6), False, 3))[0] == [PageOutcome.MORE, PageOutcome.COMPLETE]


@pytest.mark.parametrize("total", [None, -1, 0])
def test_a_total_that_is_less_than_its_page_has_rows_tells_of_none_that_vanished(total):
    assert read(Page((9, 8), True, 5), Page((7, 6), False, total))[0][0] is PageOutcome.MORE
    learned = TruncationState()
    reading = learned.reading(ORDERED, COMPLETE, 2)
    for page in (Page((9, 8), True, 5), Page((7, 6), True, total)):
        reading.take(page)
    assert learned.verdict(COMPLETE, reading) is PageOutcome.MORE


def test_a_list_in_no_order_is_read_again_twice_and_then_told_to_lack_rows():
    learned, part = TruncationState(), COMPLETE
    for _ in range(2):
        verdicts, (part,) = read(Page((8, 9), True, 4), Page((6,), False, 3), part=part, learned=learned)
        assert (verdicts[-1], part.span) == (PageOutcome.TRUNCATED, COMPLETE.span)
    pages = Page((8, 9), True, 5), Page((6, 5), True, 4), Page((), False, 4)
    assert read(*pages, part=part, learned=learned) == (
        [PageOutcome.MORE, PageOutcome.MORE, PageOutcome.TRUNCATED],
        None,
    )
    assert learned.cap is None
