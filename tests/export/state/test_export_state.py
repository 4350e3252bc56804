"""The state of an export keeps settings, the status of spans and pending slices from one process to the next."""

from __future__ import annotations

from itertools import count

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agora_analytics.export.fetch.sources import Slice
from agora_analytics.export.state.slices import SpanStatus
from agora_analytics.spans import Span

# Spans

statuses = st.sampled_from([SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED])
apps = count()
marked = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), statuses, st.sampled_from("ab")), max_size=12)


@given(marked=marked)
@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_each_second_of_a_source_has_the_status_it_was_marked_with_last(state, marked):
    app = f"app {next(apps)}"  # all examples share one state
    expected: dict[str, dict[int, int]] = {"a": {}, "b": {}}
    with state.transaction():
        for start, duration, status, source in marked:
            state.mark_span(app, source, Span(start, start + duration), status)
            expected[source] |= dict.fromkeys(range(start, start + duration), status)
    for source, seconds in expected.items():
        for status in (SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED):
            spans = state.spans(app, source, status)
            with_status = sorted(second for second in seconds if seconds[second] == status)
            assert [second for span in spans for second in range(*span)] == with_status
            assert {span.start for span in spans}.isdisjoint(span.end for span in spans)  # adjacent spans are joined


def test_a_span_that_was_read_for_good_is_no_longer_unsettled(state, reopen):
    with state.transaction():
        state.mark_span("app", "calls", Span(0, 100), SpanStatus.UNSETTLED)
        state.mark_span("app", "calls", Span(20, 100), SpanStatus.READ)
        state.mark_span("app", "calls", None, SpanStatus.EXPIRED)
    reopened = reopen()
    assert [
        reopened.spans("app", "calls", status) for status in (SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED)
    ] == [
        (Span(20, 100),),
        (Span(0, 20),),
        (),
    ]
    assert reopened.all_spans() == [
        ("app", "calls", 0, 20, SpanStatus.UNSETTLED),
        ("app", "calls", 20, 100, SpanStatus.READ),
    ]
    assert reopened.spans("other", "calls", SpanStatus.READ) == reopened.spans("app", "other", SpanStatus.READ) == ()


def test_a_status_belongs_to_one_app_and_one_source(state):
    with state.transaction():
        for app, source in (("other", "calls"), ("app", "calls"), ("app", "calls room")):
            state.mark_span(app, source, Span(0, 10), SpanStatus.UNSETTLED)
        state.mark_span("app", "calls", Span(0, 10), SpanStatus.READ)
    assert state.all_spans() == [
        ("app", "calls", 0, 10, SpanStatus.READ),
        ("app", "calls room", 0, 10, SpanStatus.UNSETTLED),
        ("other", "calls", 0, 10, SpanStatus.UNSETTLED),
    ]


@pytest.mark.parametrize("status", [SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED])
def test_a_truncated_span_with_another_status_is_no_longer_truncated(state, status):
    with state.transaction():
        state.mark_span("app", "calls", Span(0, 10), SpanStatus.TRUNCATED)
        state.mark_span("app", "calls", Span(4, 10), status)
    assert state.all_spans() == [("app", "calls", 0, 4, SpanStatus.TRUNCATED), ("app", "calls", 4, 10, status)]


# Settings and slices


def test_settings_are_stored_and_changed_by_name(state, reopen):
    assert state.settings() == {}
    with state.transaction():
        state.save_settings({"a": [1, "x"], "b": None})
        state.save_settings({"b": {"c": 2}})
    assert reopen().settings() == {"a": [1, "x"], "b": {"c": 2}}


def test_slices_are_pending_oldest_first_from_their_next_page(state, reopen):
    later, first = Slice(Span(100, 200), 200), Slice(Span(0, 100), 90)
    with state.transaction():
        state.add_slices("app", "calls", [later, first])
        state.add_slices("app", "calls room", [first], again=True)
    one, requested_again, other = state.slices()
    assert [(slice_.slice, slice_.source, slice_.again) for slice_ in (one, requested_again, other)] == [
        (first, "calls", False),
        (first, "calls room", True),
        (later, "calls", False),
    ]
    assert (one.page, one.count, one.requested_at) == (1, 0, 0)
    with state.transaction():
        state.set_slice_page(attrs.evolve(one, page=3, count=200, requested_at=77))
        state.delete_slice(requested_again)
    after = reopen().slices()
    assert [(slice_.id, slice_.page, slice_.count, slice_.requested_at) for slice_ in after] == [
        (one.id, 3, 200, 77),
        (other.id, 1, 0, 0),
    ]


@pytest.mark.parametrize("again", [False, True])
def test_narrower_slices_replace_a_slice_and_inherit_its_status(state, reopen, again):
    with state.transaction():
        state.add_slices("app", "calls room", [Slice(Span(0, 100), 90)], again=again)
        (one,) = state.slices()
        parts = state.split_slice(one, [Slice(Span(0, 50), 40), Slice(Span(50, 100), 90)], 7)
    assert [(new.slice, new.rows_before) for new in parts] == [
        (Slice(Span(0, 50), 40), 7),
        (Slice(Span(50, 100), 90), 7),
    ]
    assert reopen().slices() == tuple(attrs.evolve(new, rows_before=0) for new in parts)
    assert {(new.app, new.source, new.again, new.page, new.count) for new in parts} == {
        ("app", "calls room", again, 1, 0)
    }
