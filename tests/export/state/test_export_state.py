"""What an export remembers of what it asks for: settings, spans, slices and calls, from one process to the next."""

from __future__ import annotations

from itertools import count

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agora_analytics.export.fetch.cursor import CallCursor
from agora_analytics.export.fetch.sources import Slice
from agora_analytics.export.state.calls import CallStatus, DueFilter
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import SpanStatus
from agora_analytics.export.state.staging import SerializedRows
from agora_analytics.models import Call
from agora_analytics.spans import Span

DAY = 86_400
METRICS = CallCursor("metrics", cut=100, number=3)

# Spans: a second of a source is of one kind, the last that it was marked with.

kinds = st.sampled_from([SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED])
apps = count()
marks = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), kinds, st.sampled_from("ab")), max_size=12)


@given(marks=marks)
@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_each_second_of_a_source_has_the_status_it_was_marked_with_last(state, marks):
    app = f"app {next(apps)}"  # one file for all examples
    expected: dict[str, dict[int, int]] = {"a": {}, "b": {}}
    with state.transaction():
        for start, duration, kind, source in marks:
            state.mark_span(app, source, Span(start, start + duration), kind)
            expected[source] |= dict.fromkeys(range(start, start + duration), kind)
    for source, told in expected.items():
        for kind in (SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED):
            found = state.spans(app, source, kind)
            assert [at for span in found for at in range(*span)] == sorted(at for at in told if told[at] == kind)
            assert len({span.start for span in found} & {span.end for span in found}) == 0


def test_a_span_that_was_read_for_good_is_no_longer_unsettled(state, reopen):
    with state.transaction():
        state.mark_span("app", "calls", Span(0, 100), SpanStatus.UNSETTLED)
        state.mark_span("app", "calls", Span(20, 100), SpanStatus.READ)
        state.mark_span("app", "calls", None, SpanStatus.EXPIRED)
    again = reopen()
    assert [
        again.spans("app", "calls", kind) for kind in (SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED)
    ] == [
        (Span(20, 100),),
        (Span(0, 20),),
        (),
    ]
    assert again.all_spans() == [
        ("app", "calls", 0, 20, SpanStatus.UNSETTLED),
        ("app", "calls", 20, 100, SpanStatus.READ),
    ]
    assert again.spans("other", "calls", SpanStatus.READ) == again.spans("app", "other", SpanStatus.READ) == ()


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


@pytest.mark.parametrize("kind", [SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED])
def test_a_truncated_span_with_another_status_is_no_longer_truncated(state, kind):
    with state.transaction():
        state.mark_span("app", "calls", Span(0, 10), SpanStatus.TRUNCATED)
        state.mark_span("app", "calls", Span(4, 10), kind)
    assert state.all_spans() == [("app", "calls", 0, 4, SpanStatus.TRUNCATED), ("app", "calls", 4, 10, kind)]


# Settings and slices.


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
    one, again, other = state.slices()
    assert [(slice_.slice, slice_.source, slice_.again) for slice_ in (one, again, other)] == [
        (first, "calls", False),
        (first, "calls room", True),
        (later, "calls", False),
    ]
    assert (one.page, one.count, one.asked) == (1, 0, 0)
    with state.transaction():
        state.set_slice_page(attrs.evolve(one, page=3, count=200, asked=77))
        state.delete_slice(again)
    after = reopen().slices()
    assert [(slice_.id, slice_.page, slice_.count, slice_.asked) for slice_ in after] == [
        (one.id, 3, 200, 77),
        (other.id, 1, 0, 0),
    ]


@pytest.mark.parametrize("again", [False, True])
def test_narrower_slices_replace_a_slice_and_inherit_its_status(state, reopen, again):
    with state.transaction():
        state.add_slices("app", "calls room", [Slice(Span(0, 100), 90)], again=again)
        (one,) = state.slices()
        made = state.split_slice(one, [Slice(Span(0, 50), 40), Slice(Span(50, 100), 90)], 7)
    assert [(new.slice, new.rows_before) for new in made] == [
        (Slice(Span(0, 50), 40), 7),
        (Slice(Span(50, 100), 90), 7),
    ]
    assert reopen().slices() == tuple(attrs.evolve(new, rows_before=0) for new in made)
    assert {(new.app, new.source, new.again, new.page, new.count) for new in made} == {
        ("app", "calls room", again, 1, 0)
    }


# Calls.


def keep(
    state: ExportState,
    name: str,
    span: Span,
    *,
    status: int = CallStatus.PENDING,
    score: float = 0.0,
    users: int | None = 1,
    app="app",
):
    call = Call(call_id=name, cname=f"room {name}", call_pcu=users)
    return state.upsert_call(app, call, span, status, score)


def due(state: ExportState, *apps: str, but=(), **options) -> list[str]:
    order = DueFilter(**({"before": 10**6} | options))
    return [call.call_id for call in state.pending(order, apps or ("app",), but)]


@pytest.fixture
def three(state) -> ExportState:
    """Three calls whose details are to be asked for, and some that are not."""
    with state.transaction():
        keep(state, "late", Span(50, 60), score=1.0, users=9)
        keep(state, "bad", Span(20, 40), score=7.0, users=2)
        keep(state, "early", Span(10, 100), score=1.0, users=5)
        keep(state, "going", Span(5, 6), status=CallStatus.OPEN)
        keep(state, "done", Span(5, 6), status=CallStatus.DONE)
        keep(state, "elsewhere", Span(0, 5), app="other")
    return state


def test_pending_calls_come_oldest_first_or_worst_first(three):
    assert due(three) == ["early", "bad", "late"]
    assert due(three, worst=True) == ["bad", "early", "late"]
    assert due(three, count=2) == ["early", "bad"]
    assert due(three, "other", "app") == ["elsewhere", "early", "bad", "late"]
    assert due(three, "nobody") == []


def test_pending_calls_are_those_that_are_due(three):
    assert due(three, before=60) == ["bad", "late"]
    assert due(three, before=59) == ["bad"]
    assert due(three, min_users=5) == ["early", "late"]
    assert due(three, min_users=6) == ["late"]
    bad = three.find_call("app", "bad")[0]
    assert due(three, but=[bad]) == ["early", "late"]


def test_the_next_due_time_is_the_first_end_of_calls_that_are_not_due(three):
    soonest = lambda *apps, but=(), **options: three.first_end(DueFilter(before=0, **options), apps or ("app",), but)  # noqa: E731
    assert soonest() == 40
    assert soonest("app", "other") == 5
    assert soonest(min_users=5) == 60
    assert soonest(min_users=10) is None
    assert soonest(but=[three.find_call("app", "bad")[0]]) == 60


def test_a_call_seen_again_keeps_its_start_and_its_position(three):
    before = three.find_call("app", "going")
    with three.transaction():
        assert keep(three, "going", Span(7, 30), score=9.0, users=4) == before[0]
    (call,) = three.pending(DueFilter(before=30), ("app",), ())
    assert (call.id, call.call_id, call.span, call.cursor, call.day) == (before[0], "going", Span(5, 30), None, 0)
    assert three.find_call("app", "going") == (before[0], CallStatus.PENDING)
    assert three.find_call("other", "going") is None


def test_a_call_seen_again_gets_its_current_score(three):
    with three.transaction():
        keep(three, "going", Span(5, 30), score=9.0, users=9)
    assert due(three, worst=True)[0] == "going"
    assert due(three, min_users=9) == ["going", "late"]


def test_calls_of_an_app_with_at_least_so_many_users_are_counted(three):
    assert [three.count_pending("app", least) for least in (0, 5, 6, 9, 10)] == [3, 2, 1, 1, 0]
    assert (three.count_pending("other", 0), three.count_pending("nobody", 0)) == (1, 0)


def test_a_call_that_was_skipped_and_then_done_is_not_requested_again(three):
    late = three.find_call("app", "late")[0]
    with three.transaction():
        three.skip_call(late, "refused")
        three.requeue_skipped(["refused"])
        three.finish_call(late)
        three.requeue_skipped(["refused"])
    assert due(three) == ["early", "bad"]


def test_open_calls_are_returned_with_their_channel_oldest_first(three):
    with three.transaction():
        keep(three, "older", Span(1, 2), status=CallStatus.OPEN)
    assert [told[1:] for told in three.open_calls()] == [("app", "room older", 1), ("app", "room going", 5)]


@pytest.mark.parametrize(("users", "least"), [(None, 0), (-5, 0), (2**40, 2**31)])
def test_any_number_of_users_is_stored_within_bounds(state, users, least):
    with state.transaction():
        keep(state, "a", Span(0, 1), users=users)
    assert due(state, min_users=least) == ["a"]
    assert due(state, min_users=least + 1) == []


def test_calls_with_few_users_are_counted(three):
    assert [three.below_min_users(least) for least in (0, 2, 3, 6, 10)] == [0, 1, 2, 3, 4]


def test_the_cursor_of_a_call_outlives_the_process_and_a_skip(three, reopen):
    early = next(call for call in three.pending(DueFilter(before=10**6), ("app",), ()))
    with three.transaction():
        three.set_cursor(early, METRICS)
        three.skip_call(early.id, "expired")
    again = reopen()
    assert due(again) == ["bad", "late"]
    assert again.skipped_calls() == [("app", "expired", 1, 10, 100)]
    with again.transaction():
        again.requeue_skipped(["refused"])
    assert due(again) == ["bad", "late"]
    with again.transaction():
        again.requeue_skipped(["refused", "expired"])
    assert again.skipped_calls() == []
    assert [call.cursor for call in again.pending(DueFilter(before=10**6), ("app",), ())] == [METRICS, None, None]


def test_skipped_calls_are_grouped_by_app_and_reason_with_the_oldest_ids(three):
    with three.transaction():
        three.skip_call(three.find_call("other", "elsewhere")[0], "expired")
        for name, reason in (("early", "expired"), ("late", "expired"), ("bad", "refused")):
            three.skip_call(three.find_call("app", name)[0], reason)
    assert sorted(three.skipped_calls()) == [
        ("app", "expired", 2, 10, 100),
        ("app", "refused", 1, 20, 40),
        ("other", "expired", 1, 0, 5),
    ]
    assert [three.skipped_call_ids("app", "expired", most) for most in (1, 2, 3)] == [
        ("early",),
        *[("early", "late")] * 2,
    ]
    assert three.skipped_call_ids("other", "expired", 3) == ("elsewhere",)
    assert three.calls_by_status() == {CallStatus.OPEN: 1, CallStatus.DONE: 1, CallStatus.SKIPPED: 4}
    assert three.counts() == (0, 0, {})


def test_finishing_a_call_deletes_only_its_own_data(three):
    one, other = (three.find_call("app", name)[0] for name in ("early", "bad"))
    with three.transaction():
        for call in (one, other):
            three.add_page(call, ("s1", "s2"))
            three.add_page(call, ("s3",))
            three.add_partial(call, SerializedRows("metrics", 4, b"[4]"))
            three.add_partial(call, SerializedRows("metrics", 5, b"[5]"))
        three.finish_call(one)
    assert (three.pages(one), three.pages(other)) == ([], [("s1", "s2"), ("s3",)])
    with three.transaction():
        assert three.take_partials(one) == ()
        assert three.take_partials(other) == (
            SerializedRows("metrics", 4, b"[4]"),
            SerializedRows("metrics", 5, b"[5]"),
        )
        assert three.take_partials(other) == ()
    assert three.find_call("app", "early") == (one, CallStatus.DONE)
    assert due(three) == ["bad", "late"]


def test_a_finished_call_restarts_when_it_is_requested_again(three):
    early = next(call for call in three.pending(DueFilter(before=10**6), ("app",), ()))
    with three.transaction():
        three.set_cursor(early, METRICS)
        three.finish_call(early.id, begun=False)
        keep(three, "early", Span(10, 120))
    assert [call.cursor for call in three.pending(DueFilter(before=10**6), ("app",), ())] == [None, None, None]


def test_finished_calls_are_forgotten_once_no_list_can_contain_them(three):
    with three.transaction():
        three.delete_done_calls(6)
    assert three.find_call("app", "done") is not None
    with three.transaction():
        three.delete_done_calls(200)
    assert three.find_call("app", "done") is None
    assert three.calls_by_status() == {CallStatus.PENDING: 4, CallStatus.OPEN: 1}


# What a manifest is to remember of calls.


def kept(state: ExportState) -> set[str]:
    return {call_id for _, call_id, *_ in state.calls_for_manifest()}


def test_unfinished_calls_are_remembered(three):
    with three.transaction():
        three.mark_span("app", "calls", Span(0, 1_000), SpanStatus.READ)
        three.mark_span("other", "calls", Span(0, 1_000), SpanStatus.READ)
        three.skip_call(three.find_call("app", "bad")[0], "refused")
        three.skip_call(three.find_call("app", "going")[0], "never seen to end")
    assert kept(three) == {"late", "bad", "early", "going", "elsewhere"}


@pytest.mark.parametrize(
    ("span", "source", "kind", "app", "remembered"),
    [
        (Span(99, 201), "calls", SpanStatus.READ, "app", False),
        (
            Span(100, 201),
            "calls",
            SpanStatus.READ,
            "app",
            True,
        ),  # it began as the span did: the one before may show it too
        (Span(99, 200), "calls", SpanStatus.READ, "app", True),
        (Span(99, 201), "calls room a", SpanStatus.READ, "app", False),
        (Span(99, 201), "calls room b", SpanStatus.READ, "app", True),
        (Span(99, 201), "insight userCount", SpanStatus.READ, "app", True),
        (Span(99, 201), "calls", SpanStatus.UNSETTLED, "app", True),
        (Span(99, 201), "calls", SpanStatus.TRUNCATED, "app", True),
        (Span(99, 201), "calls", SpanStatus.READ, "other", True),
    ],
)
def test_a_finished_call_is_remembered_while_a_list_may_contain_it(state, span, source, kind, app, remembered):
    with state.transaction():
        keep(state, "a", Span(100, 200), status=CallStatus.DONE)
        state.mark_span(app, source, span, kind)
    assert kept(state) == ({"a"} if remembered else set())


@pytest.mark.parametrize(
    ("first", "app", "remembered"),
    [
        (10_000 - 3_600, "app", True),
        (10_000 - 3_601, "app", False),
        (10_100 + 3_600, "app", True),
        (10_100 + 3_601, "app", False),
        (10_050, "other", False),
    ],
)
def test_a_finished_call_is_remembered_near_an_open_one(state, first, app, remembered):
    with state.transaction():
        keep(state, "a", Span(10_000, 10_100), status=CallStatus.DONE)
        keep(state, "going", Span(first, first + 1), status=CallStatus.OPEN, app=app)
        for one in ("app", "other"):
            state.mark_span(one, "calls", Span(0, 50_000), SpanStatus.READ)
    assert kept(state) - {"going"} == ({"a"} if remembered else set())


def test_calls_are_restored_without_their_cursors(three, reopen):
    three_kept = [call[:-1] for call in three.calls_for_manifest()]
    early = next(call for call in three.pending(DueFilter(before=10**6), ("app",), ()))
    with three.transaction():
        three.set_cursor(early, METRICS)
    assert {call[1] for call in three.calls_for_manifest() if call[-1]} == {"early"}
    with three.transaction():
        three.clear()
        three.insert_calls(three_kept)
    assert [call[:-1] for call in reopen().calls_for_manifest()] == three_kept
