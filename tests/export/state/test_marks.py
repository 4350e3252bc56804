"""Marks of slices and calls in the state: expired spans, open calls, scores, invalid rows."""

from __future__ import annotations

import pytest

from agora_analytics.export.fetch.sources import CallSource, Slice
from agora_analytics.export.state import marks
from agora_analytics.export.state.calls import CallStatus
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.slices import PendingSlice, SpanStatus
from agora_analytics.export.state.staging import Partition, SerializedRows, serialized
from agora_analytics.export.write import column_batch
from agora_analytics.models import Call
from agora_analytics.spans import Span

DAY = 86_400
ALL, ROOM = CallSource(None), CallSource("room")


def slice_of(state: ExportState, span: Span, keep: int, source: object = ALL, *, again: bool = False) -> PendingSlice:
    with state.transaction():
        state.add_slices("app", str(source), [Slice(span, keep)], again=again)
    return next(one for one in state.slices() if one.source == str(source))


def spans_by_status(state: ExportState, source: object = ALL) -> dict[int, tuple[Span, ...]]:
    found = {
        status: state.spans("app", str(source), status)
        for status in (SpanStatus.READ, SpanStatus.UNSETTLED, SpanStatus.EXPIRED)
    }
    return {status: spans for status, spans in found.items() if spans}


def drop_expired(state: ExportState, one: PendingSlice, begin: int) -> PendingSlice | None:
    with state.transaction():
        return marks.drop_expired(state, ALL, one, begin)


# Slices


def test_the_rest_of_a_partly_expired_slice_is_requested(state):
    rest = drop_expired(state, slice_of(state, Span(0, 100), 90), 40)
    assert rest.slice == Slice(Span(40, 100), 90)
    assert spans_by_status(state) == {SpanStatus.EXPIRED: (Span(0, 40),)}
    assert [one.id for one in state.slices()] == [rest.id]


@pytest.mark.parametrize("begin", [90, 95, 200])
def test_a_slice_whose_own_part_has_expired_is_not_requested_again(state, begin):
    assert drop_expired(state, slice_of(state, Span(0, 100), 90), begin) is None
    assert spans_by_status(state) == {SpanStatus.EXPIRED: (Span(0, 90),)}  # the rest belongs to the next slice
    assert state.slices() == ()


def series(*times: int) -> SerializedRows:
    rows = [(ts, 1.0, None, None) for ts in times]
    return serialized(
        column_batch.realtime("app", ("userCount", "Native", None, None), rows).with_constant("provisional", value=True)
    )


def test_expired_provisional_rows_become_final_and_others_stay_provisional(state):
    with state.transaction():
        state.mark_span("app", "calls", Span(0, 30), SpanStatus.READ)
        state.mark_span("app", "calls", Span(30, 80), SpanStatus.UNSETTLED)
        for day, times in ((0, (30, 39, 40)), (1, (50,))):
            state.stage("app", day, series(*times), source="app calls", provisional=True)
        state.stage("other", 0, series(35), source="other calls", provisional=True)
    drop_expired(state, slice_of(state, Span(20, 80), 80), 40)
    assert spans_by_status(state) == {
        SpanStatus.READ: (Span(0, 20), Span(30, 40)),
        SpanStatus.UNSETTLED: (Span(40, 80),),
        SpanStatus.EXPIRED: (Span(20, 30),),
    }
    assert [(group.app, group.day) for group, _ in state.unsealed_bytes()] == [("app", 0)]
    part = state.begin_part(state.unsealed_bytes()[0][0])
    (payload,) = state.read_rows(part, 0, 10**6).payloads
    final = column_batch.deserialize("realtime", payload)
    assert (list(final.column("ts")), list(final.column("provisional"))) == ([30, 39], [False, False])
    taken = state.take_provisional("app calls")
    assert [(day, list(rows.column("ts")), list(rows.column("provisional"))) for _, day, rows in taken] == [
        (0, [40], [True]),
        (1, [50], [True]),
    ]
    assert state.provisional_rows() == 1


def test_an_expired_span_without_provisional_rows_changes_no_row(state):
    with state.transaction():
        state.mark_span("app", "calls", Span(40, 80), SpanStatus.UNSETTLED)
        state.stage("app", 0, series(50), source="app calls", provisional=True)
    drop_expired(state, slice_of(state, Span(0, 40), 40), 40)
    assert spans_by_status(state) == {SpanStatus.UNSETTLED: (Span(40, 80),), SpanStatus.EXPIRED: (Span(0, 40),)}
    assert (state.unsealed_bytes(), state.provisional_rows()) == ([], 1)


def add_open_call(state: ExportState, name: str, first: int, cname: str = "room", app: str = "app") -> int:
    with state.transaction():
        number = state.upsert_call(
            app, Call(call_id=name, cname=cname, call_pcu=1), Span(first, first + 1), CallStatus.OPEN, 0.0
        )
        batch = column_batch.calls(app, [Call(call_id=name, created_ts=first)])
        state.stage(app, first // DAY, serialized(batch), source=f"call {number}", provisional=True)
    return number


def test_an_expired_open_call_is_skipped_and_its_row_becomes_final(state):
    add_open_call(state, "old", 10)
    add_open_call(state, "young", 40)
    add_open_call(state, "foreign", 10, app="other")
    with state.transaction():
        state.upsert_call("app", Call(call_id="done"), Span(10, 20), CallStatus.DONE, 0.0)
    rest = drop_expired(state, slice_of(state, Span(0, 100), 100, again=True), 40)
    assert rest.slice.span == Span(40, 100)
    assert spans_by_status(state) == {}  # a slice that is requested again changes no status
    assert state.skipped_calls() == [("app", "never seen to end", 1, 10, 11)]
    assert state.calls_by_status() == {CallStatus.SKIPPED: 1, CallStatus.OPEN: 2, CallStatus.DONE: 1}
    assert [group for group, _ in state.unsealed_bytes()] == [Partition("calls", "app", 0)]
    assert state.provisional_rows() == 2


def test_open_calls_are_those_of_the_app_id_and_of_the_channel_if_one_is_selected(state):
    for name, first, cname, app in (("a", 9, "room", "app"), ("b", 5, "hall", "app"), ("c", 1, "room", "other")):
        add_open_call(state, name, first, cname, app)
    assert [first for _, first in marks.open_calls(state, "app", ALL)] == [5, 9]
    assert [first for _, first in marks.open_calls(state, "app", ROOM)] == [9]
    assert [first for _, first in marks.open_calls(state, "other", ROOM)] == [1]


@pytest.mark.parametrize(
    ("moment", "expected"), [(-5, None), (0, None), (1, Span(0, 1)), (90, Span(0, 90)), (95, Span(0, 90))]
)
def test_the_part_of_a_slice_before_a_time_ends_where_the_next_slice_begins(moment, expected):
    assert marks.part_before(Slice(Span(0, 100), 90), moment) == expected


# Calls


@pytest.mark.parametrize(
    ("finished", "ended", "over"),
    [(True, None, True), (False, 5, False), (None, 5, True), (None, None, False), (True, 5, True)],
)
def test_a_call_is_over_if_the_service_says_so_or_else_if_it_has_an_end(finished, ended, over):
    assert Call(call_id="c", finished=finished, created_ts=1, destroyed_ts=ended).is_over is over


@pytest.mark.parametrize(
    ("audio", "video", "users", "seconds", "score"),
    [
        (0.5, 0.25, 4, 10, 20.0),
        (0.25, 0.5, 4, 10, 20.0),
        (None, 0.5, 4, 10, 20.0),
        (0.5, None, 4, 10, 20.0),
        (0.5, 0.5, None, 10, 0.0),
        (None, None, 4, 10, 0.0),
        (0.5, 0.5, 4, 0, 0.0),
    ],
)
def test_the_score_of_a_call_is_freeze_rate_times_users_times_seconds(audio, video, users, seconds, score):
    call = Call(
        call_id="c",
        created_ts=100,
        destroyed_ts=100 + seconds,
        call_audio_freeze_rate=audio,
        call_video_freeze_rate=video,
        call_pcu=users,
    )
    assert marks.score(call) == score


def test_the_score_of_a_call_without_times_is_zero():
    assert marks.score(Call(call_id="c", call_audio_freeze_rate=0.9, call_pcu=4)) <= 0.0


def test_times_that_are_no_dates_are_counted(state):
    found = [Call(call_id=name, created_ts=10**18) for name in "ab"]
    with state.transaction():
        marks.count_invalid_times(state, "app", column_batch.calls("app", found))
        marks.count_invalid_times(state, "app", column_batch.calls("app", [Call(call_id="c", created_ts=5)]))
        marks.count_invalid_times(state, "app", column_batch.calls("app", found[:1]))
    assert state.misfits() == [("app", "calls", 3, "a time that is no date, null here")]


def test_rows_that_do_not_fit_are_counted_and_the_first_is_reported(state):
    with state.transaction():
        for app, source, count, wrong in (("b", "x", 1, "w"), ("a", "y", 2, "first"), ("a", "y", 3, "second")):
            state.add_misfits(app, source, count, wrong)
    assert state.misfits() == [("a", "y", 5, "first"), ("b", "x", 1, "w")]
