"""Calls in the state: which are pending in which order, their cursors, and which ones a manifest lists."""

from __future__ import annotations

import pytest

from agora_analytics.export.fetch.call_cursor import CallCursor
from agora_analytics.export.state.calls import CallStatus, DueFilter
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import SpanStatus
from agora_analytics.export.state.staging import SerializedRows
from agora_analytics.models import Call
from agora_analytics.spans import Span

METRICS = CallCursor("metrics", slice_seconds=100, item=3)


def add_call(
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


def due_ids(state: ExportState, *apps: str, excluded=(), **options) -> list[str]:
    order = DueFilter(**({"before": 10**6} | options))
    return [call.call_id for call in state.pending(order, apps or ("app",), excluded)]


@pytest.fixture
def calls_state(state) -> ExportState:
    """Return a state with three pending calls of `app`, one of another App ID, an open call and a finished one."""
    with state.transaction():
        add_call(state, "late", Span(50, 60), score=1.0, users=9)
        add_call(state, "bad", Span(20, 40), score=7.0, users=2)
        add_call(state, "early", Span(10, 100), score=1.0, users=5)
        add_call(state, "open", Span(5, 6), status=CallStatus.OPEN)
        add_call(state, "done", Span(5, 6), status=CallStatus.DONE)
        add_call(state, "elsewhere", Span(0, 5), app="other")
    return state


def test_pending_calls_come_oldest_first_or_worst_first(calls_state):
    assert due_ids(calls_state) == ["early", "bad", "late"]
    assert due_ids(calls_state, worst=True) == ["bad", "early", "late"]
    assert due_ids(calls_state, count=2) == ["early", "bad"]
    assert due_ids(calls_state, "other", "app") == ["elsewhere", "early", "bad", "late"]
    assert due_ids(calls_state, "nobody") == []


def test_pending_calls_are_those_that_are_due(calls_state):
    assert due_ids(calls_state, before=60) == ["bad", "late"]
    assert due_ids(calls_state, before=59) == ["bad"]
    assert due_ids(calls_state, min_users=5) == ["early", "late"]
    assert due_ids(calls_state, min_users=6) == ["late"]
    bad = calls_state.find_call("app", "bad")[0]
    assert due_ids(calls_state, excluded=[bad]) == ["early", "late"]


def test_the_next_due_time_is_the_first_end_of_calls_that_are_not_due(calls_state):
    def first_end(*apps: str, excluded=(), **options) -> int | None:
        return calls_state.first_end(DueFilter(before=0, **options), apps or ("app",), excluded)

    assert first_end() == 40
    assert first_end("app", "other") == 5
    assert first_end(min_users=5) == 60
    assert first_end(min_users=10) is None
    assert first_end(excluded=[calls_state.find_call("app", "bad")[0]]) == 60


def test_a_call_seen_again_keeps_its_start_and_its_position(calls_state):
    before = calls_state.find_call("app", "open")
    with calls_state.transaction():
        assert add_call(calls_state, "open", Span(7, 30), score=9.0, users=4) == before[0]
    (call,) = calls_state.pending(DueFilter(before=30), ("app",), ())
    assert (call.id, call.call_id, call.span, call.cursor, call.day) == (before[0], "open", Span(5, 30), None, 0)
    assert calls_state.find_call("app", "open") == (before[0], CallStatus.PENDING)
    assert calls_state.find_call("other", "open") is None


def test_a_call_seen_again_gets_its_current_score(calls_state):
    with calls_state.transaction():
        add_call(calls_state, "open", Span(5, 30), score=9.0, users=9)
    assert due_ids(calls_state, worst=True)[0] == "open"
    assert due_ids(calls_state, min_users=9) == ["open", "late"]


def test_calls_of_an_app_with_at_least_so_many_users_are_counted(calls_state):
    assert [calls_state.count_pending("app", least) for least in (0, 5, 6, 9, 10)] == [3, 2, 1, 1, 0]
    assert (calls_state.count_pending("other", 0), calls_state.count_pending("nobody", 0)) == (1, 0)


def test_a_call_that_was_skipped_and_then_done_is_not_requested_again(calls_state):
    late = calls_state.find_call("app", "late")[0]
    with calls_state.transaction():
        calls_state.skip_call(late, "refused")
        calls_state.requeue_skipped(["refused"])
        calls_state.finish_call(late)
        calls_state.requeue_skipped(["refused"])
    assert due_ids(calls_state) == ["early", "bad"]


def test_open_calls_are_returned_with_their_channel_oldest_first(calls_state):
    with calls_state.transaction():
        add_call(calls_state, "older", Span(1, 2), status=CallStatus.OPEN)
    assert [call[1:] for call in calls_state.open_calls()] == [("app", "room older", 1), ("app", "room open", 5)]


@pytest.mark.parametrize(("users", "least"), [(None, 0), (-5, 0), (2**40, 2**31)])
def test_any_number_of_users_is_stored_within_bounds(state, users, least):
    with state.transaction():
        add_call(state, "a", Span(0, 1), users=users)
    assert due_ids(state, min_users=least) == ["a"]
    assert due_ids(state, min_users=least + 1) == []


def test_calls_with_few_users_are_counted(calls_state):
    assert [calls_state.below_min_users(least) for least in (0, 2, 3, 6, 10)] == [0, 1, 2, 3, 4]


def test_the_cursor_of_a_call_outlives_the_process_and_a_skip(calls_state, reopen):
    early = next(call for call in calls_state.pending(DueFilter(before=10**6), ("app",), ()))
    with calls_state.transaction():
        calls_state.set_cursor(early, METRICS)
        calls_state.skip_call(early.id, "expired")
    reopened = reopen()
    assert due_ids(reopened) == ["bad", "late"]
    assert reopened.skipped_calls() == [("app", "expired", 1, 10, 100)]
    with reopened.transaction():
        reopened.requeue_skipped(["refused"])
    assert due_ids(reopened) == ["bad", "late"]
    with reopened.transaction():
        reopened.requeue_skipped(["refused", "expired"])
    assert reopened.skipped_calls() == []
    assert [call.cursor for call in reopened.pending(DueFilter(before=10**6), ("app",), ())] == [METRICS, None, None]


def test_skipped_calls_are_grouped_by_app_and_reason_with_the_oldest_ids(calls_state):
    with calls_state.transaction():
        calls_state.skip_call(calls_state.find_call("other", "elsewhere")[0], "expired")
        for name, reason in (("early", "expired"), ("late", "expired"), ("bad", "refused")):
            calls_state.skip_call(calls_state.find_call("app", name)[0], reason)
    assert sorted(calls_state.skipped_calls()) == [
        ("app", "expired", 2, 10, 100),
        ("app", "refused", 1, 20, 40),
        ("other", "expired", 1, 0, 5),
    ]
    assert [calls_state.skipped_call_ids("app", "expired", most) for most in (1, 2, 3)] == [
        ("early",),
        *[("early", "late")] * 2,
    ]
    assert calls_state.skipped_call_ids("other", "expired", 3) == ("elsewhere",)
    assert calls_state.calls_by_status() == {CallStatus.OPEN: 1, CallStatus.DONE: 1, CallStatus.SKIPPED: 4}
    assert calls_state.counts() == (0, 0, {})


def test_finishing_a_call_deletes_only_its_own_data(calls_state):
    one, other = (calls_state.find_call("app", name)[0] for name in ("early", "bad"))
    with calls_state.transaction():
        for call in (one, other):
            calls_state.add_page(call, ("s1", "s2"))
            calls_state.add_page(call, ("s3",))
            calls_state.add_partial(call, SerializedRows("metrics", 4, b"[4]"))
            calls_state.add_partial(call, SerializedRows("metrics", 5, b"[5]"))
        calls_state.finish_call(one)
    assert (calls_state.pages(one), calls_state.pages(other)) == ([], [("s1", "s2"), ("s3",)])
    with calls_state.transaction():
        assert calls_state.take_partials(one) == ()
        assert calls_state.take_partials(other) == (
            SerializedRows("metrics", 4, b"[4]"),
            SerializedRows("metrics", 5, b"[5]"),
        )
        assert calls_state.take_partials(other) == ()
    assert calls_state.find_call("app", "early") == (one, CallStatus.DONE)
    assert due_ids(calls_state) == ["bad", "late"]


def test_a_finished_call_restarts_when_it_is_requested_again(calls_state):
    early = next(call for call in calls_state.pending(DueFilter(before=10**6), ("app",), ()))
    with calls_state.transaction():
        calls_state.set_cursor(early, METRICS)
        calls_state.finish_call(early.id, begun=False)
        add_call(calls_state, "early", Span(10, 120))
    assert [call.cursor for call in calls_state.pending(DueFilter(before=10**6), ("app",), ())] == [None, None, None]


def test_finished_calls_are_forgotten_once_no_list_can_contain_them(calls_state):
    with calls_state.transaction():
        calls_state.delete_done_calls(6)
    assert calls_state.find_call("app", "done") is not None
    with calls_state.transaction():
        calls_state.delete_done_calls(200)
    assert calls_state.find_call("app", "done") is None
    assert calls_state.calls_by_status() == {CallStatus.PENDING: 4, CallStatus.OPEN: 1}


# Calls of a manifest


def listed_calls(state: ExportState) -> set[str]:
    return {call_id for _, call_id, *_ in state.calls_for_manifest()}


def test_unfinished_calls_are_remembered(calls_state):
    with calls_state.transaction():
        calls_state.mark_span("app", "calls", Span(0, 1_000), SpanStatus.READ)
        calls_state.mark_span("other", "calls", Span(0, 1_000), SpanStatus.READ)
        calls_state.skip_call(calls_state.find_call("app", "bad")[0], "refused")
        calls_state.skip_call(calls_state.find_call("app", "open")[0], "never seen to end")
    assert listed_calls(calls_state) == {"late", "bad", "early", "open", "elsewhere"}


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
        add_call(state, "a", Span(100, 200), status=CallStatus.DONE)
        state.mark_span(app, source, span, kind)
    assert listed_calls(state) == ({"a"} if remembered else set())


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
        add_call(state, "a", Span(10_000, 10_100), status=CallStatus.DONE)
        add_call(state, "open", Span(first, first + 1), status=CallStatus.OPEN, app=app)
        for one in ("app", "other"):
            state.mark_span(one, "calls", Span(0, 50_000), SpanStatus.READ)
    assert listed_calls(state) - {"open"} == ({"a"} if remembered else set())


def test_calls_of_a_manifest_are_restored_unchanged_except_for_their_cursors(calls_state, reopen):
    early, *_ = calls_state.pending(DueFilter(before=10**6), ("app",), ())
    with calls_state.transaction():
        calls_state.set_cursor(early, METRICS)
    listed = calls_state.calls_for_manifest()
    assert {call_id for _, call_id, *_, has_cursor in listed if has_cursor} == {"early"}
    with calls_state.transaction():
        calls_state.clear()
        calls_state.insert_calls(call[:-1] for call in listed)
    reopened = reopen()
    assert reopened.calls_for_manifest() == [(*call[:-1], False) for call in listed]
    assert [call.cursor for call in reopened.pending(DueFilter(before=10**6), ("app",), ())] == [None, None, None]
