"""When a list is complete, when it ends, and which lists replace the rest: decided page by page, without a service."""

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


def read_pages(*pages: Page, query: ListQuery = COMPLETE, kind: RowKind[int] = ORDERED, size: int = 2, state=None):
    """Read pages of a list. Return the outcome after each, and the narrower lists that replace the rest."""
    state = state or TruncationState()
    progress = state.reading(kind, query, size)
    outcomes = []
    for page in pages:
        progress.take(page)
        outcomes.append(state.verdict(query, progress))
    truncated = outcomes[-1] is PageOutcome.TRUNCATED
    return outcomes, state.narrower(query, progress, has_new_rows=True) if truncated else ()


def test_rows_pushed_to_the_next_page_by_new_rows_do_not_leave_a_list_incomplete():
    outcomes, _ = read_pages(Page((9, 8), True, 4), Page((9, 8), True, 6), Page((7, 6), False, 6))
    assert outcomes == [PageOutcome.MORE, PageOutcome.MORE, PageOutcome.COMPLETE]


def test_a_last_page_that_repeats_the_previous_one_does_not_complete_a_list():
    outcomes, narrower = read_pages(Page((9, 8), True, 4), Page((9, 8), False, 4))
    assert outcomes == [PageOutcome.MORE, PageOutcome.TRUNCATED]
    assert [one.span for one in narrower] == [Span(0, 9)]


def test_bad_rows_count_towards_the_total():
    outcomes, _ = read_pages(Page((9, 8), None, 3, skipped=(BadRow("$.call_lists[2]", "why"),)))
    assert outcomes == [PageOutcome.COMPLETE]


def test_a_page_of_only_bad_rows_does_not_end_a_list():
    bad = (BadRow("$.call_lists[0]", "why"), BadRow("$.call_lists[1]", "why"))
    outcomes, _ = read_pages(Page((), None, 4, skipped=bad), Page((9, 8), None, 4))
    assert outcomes == [PageOutcome.MORE, PageOutcome.COMPLETE]


@pytest.mark.parametrize("items", [(9, 8), ()])
def test_a_list_that_repeats_a_page_with_a_bad_row_is_truncated(items):
    page = Page(items, skipped=(BadRow("$.call_lists[0]", "why"),))
    outcomes, _ = read_pages(*[page] * 4, size=3)
    assert outcomes[-1] is PageOutcome.TRUNCATED


def test_a_bad_row_counts_once_although_its_page_is_repeated():
    page = Page((9, 8), True, 4, skipped=(BadRow("$.call_lists[0]", "why"),))
    assert read_pages(*[page] * 4, size=3)[0] == [PageOutcome.MORE] * 3 + [PageOutcome.TRUNCATED]


def test_a_repaired_text_does_not_count_as_another_row():
    repaired = BadRow("$.call_lists[0].cname", "half a character", whole=False)
    outcomes, _ = read_pages(Page((9, 8), None, 3, skipped=(repaired,)), Page((7,), None, 3))
    assert outcomes == [PageOutcome.MORE, PageOutcome.COMPLETE]


@pytest.mark.parametrize("total", [-1, 0, 1])
def test_a_total_below_the_rows_received_does_not_end_a_list_that_has_more(total):
    outcomes, _ = read_pages(Page((9, 8), True, total), Page((7,), False, total))
    assert outcomes == [PageOutcome.MORE, PageOutcome.COMPLETE]


def test_an_unordered_list_is_halved_unless_it_spans_a_single_second():
    _, narrower = read_pages(Page((8, 9), True, 4), Page((), True, 4))
    assert [one.span for one in narrower] == [Span(1_800, 3_600), Span(0, 1_800)]
    assert read_pages(Page((8, 9), True, 4), Page((), True, 4), query=ListQuery(Span(5, 6)))[1] is None


def test_the_last_second_is_requested_alone_if_all_rows_began_in_it():
    _, narrower = read_pages(Page((3_599,), True, 4), Page((), True, 4))
    assert [one.span for one in narrower] == [Span(3_599, 3_600), Span(0, 3_599)]


def test_a_list_that_will_be_halved_anyway_is_abandoned_after_its_first_page():
    state = TruncationState(cap=2)
    half = ListQuery(Span(0, 1_800), rows_before=2)
    assert read_pages(Page((8, 9), True, 400), query=half, kind=UNORDERED, state=state)[0] == [PageOutcome.TRUNCATED]
    assert read_pages(Page((9, 8), True, 2), query=half, kind=UNORDERED, state=TruncationState(cap=4))[0] == [
        PageOutcome.MORE
    ]
    assert read_pages(Page((8, 9), True, 400), kind=UNORDERED, state=TruncationState(cap=4))[0] == [PageOutcome.MORE], (
        "not narrowed"
    )


def test_a_list_is_not_read_beyond_the_length_at_which_another_was_truncated():
    state = TruncationState()
    read_pages(Page((9, 8), True, 4), Page((), True, 4), state=state)
    assert state.cap == 2
    assert read_pages(Page((7, 6), True, 4), state=state)[0] == [PageOutcome.TRUNCATED]


@pytest.mark.parametrize("patience", [1, 3])
def test_pages_without_new_rows_end_a_narrowed_list_sooner(patience):
    query = attrs.evolve(COMPLETE, rows_before=9 if patience == 1 else 0)
    pages = [Page((9, 8), True, 9)] * (1 + patience)
    assert read_pages(*pages, query=query)[0] == [PageOutcome.MORE] * patience + [PageOutcome.TRUNCATED]


def test_an_error_on_the_first_page_is_not_taken_for_a_depth_limit():
    error = BadRequest("no", status=200, code=400)
    assert [is_depth(error, number) for number in (1, 2)] == [False, True]
    assert is_depth(ServerError("unknown", status=200, code=500), 2)
    assert not is_depth(ServerError("down", status=503), 2)
    assert not is_depth(TransportError("down"), 2)


# Rows that disappear between two pages


def test_older_rows_are_requested_again_if_the_total_falls_between_two_pages():
    outcomes, narrower = read_pages(Page((9, 8), True, 4), Page((6,), False, 3))
    assert outcomes == [PageOutcome.MORE, PageOutcome.TRUNCATED]
    assert [(one.span, one.rows_before) for one in narrower] == [(Span(0, 9), 3)]


def test_a_total_that_falls_on_an_empty_last_page_counts_too():
    assert read_pages(Page((9, 8), True, 4), Page((), False, 1))[0] == [PageOutcome.MORE, PageOutcome.TRUNCATED]


def test_nothing_is_requested_again_if_every_announced_row_came_although_the_total_fell():
    assert read_pages(Page((9, 8), True, 4), Page((7, 6), False, 3))[0] == [PageOutcome.MORE, PageOutcome.COMPLETE]


@pytest.mark.parametrize("total", [None, -1, 0])
def test_a_total_smaller_than_its_page_does_not_mean_that_rows_disappeared(total):
    assert read_pages(Page((9, 8), True, 5), Page((7, 6), False, total))[0][0] is PageOutcome.MORE
    state = TruncationState()
    progress = state.reading(ORDERED, COMPLETE, 2)
    for page in (Page((9, 8), True, 5), Page((7, 6), True, total)):
        progress.take(page)
    assert state.verdict(COMPLETE, progress) is PageOutcome.MORE


def test_an_unordered_list_is_read_again_twice_and_then_reported_incomplete():
    state, query = TruncationState(), COMPLETE
    for _ in range(2):
        outcomes, (query,) = read_pages(Page((8, 9), True, 4), Page((6,), False, 3), query=query, state=state)
        assert (outcomes[-1], query.span) == (PageOutcome.TRUNCATED, COMPLETE.span)
    pages = Page((8, 9), True, 5), Page((6, 5), True, 4), Page((), False, 4)
    assert read_pages(*pages, query=query, state=state) == (
        [PageOutcome.MORE, PageOutcome.MORE, PageOutcome.TRUNCATED],
        None,
    )
    assert state.cap is None
