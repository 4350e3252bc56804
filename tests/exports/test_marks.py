"""What the state notes of slices and calls where the service keeps something no longer, and what a call is worth."""

from __future__ import annotations

import pytest

from agora_analytics.export.fetch.sources import CallSource, Slice
from agora_analytics.export.state import marks
from agora_analytics.export.state.progress import DONE, EXPIRED, LEFT, OPEN, READ, UNSETTLED, PendingSlice, State
from agora_analytics.export.state.staging import Group, Packed, packed
from agora_analytics.export.write import column_batch
from agora_analytics.models import Call
from agora_analytics.spans import Span

DAY = 86_400
ALL, ROOM = CallSource(None), CallSource("room")


def slice_of(state: State, span: Span, keep: int, source: object = ALL, *, again: bool = False) -> PendingSlice:
    with state.transaction():
        state.add_slices("app", str(source), [Slice(span, keep)], again=again)
    return next(one for one in state.slices() if one.source == str(source))


def kinds(state: State, source: object = ALL) -> dict[int, tuple[Span, ...]]:
    found = {kind: state.spans("app", str(source), kind) for kind in (READ, UNSETTLED, EXPIRED)}
    return {kind: spans for kind, spans in found.items() if spans}


def clipped(state: State, one: PendingSlice, begin: int) -> PendingSlice | None:
    with state.transaction():
        return marks.clip(state, ALL, one, begin)


# Slices


def test_of_what_is_too_old_in_part_the_rest_is_asked_for(state):
    left = clipped(state, slice_of(state, Span(0, 100), 90), 40)
    assert left.slice == Slice(Span(40, 100), 90)
    assert kinds(state) == {EXPIRED: (Span(0, 40),)}
    assert [one.id for one in state.slices()] == [left.id]


@pytest.mark.parametrize("begin", [90, 95, 200])
def test_what_is_too_old_as_far_as_it_was_wanted_is_asked_for_no_more(state, begin):
    assert clipped(state, slice_of(state, Span(0, 100), 90), begin) is None
    assert kinds(state) == {EXPIRED: (Span(0, 90),)}  # what lies beyond is of the slice after it
    assert state.slices() == ()


def series(*times: int) -> Packed:
    rows = [(ts, 1.0, None, None) for ts in times]
    return packed(
        column_batch.realtime("app", ("userCount", "Native", None, None), rows).having("provisional", value=True)
    )


def test_what_was_provisional_and_can_be_read_no_more_is_final_and_the_rest_stays_provisional(state):
    with state.transaction():
        state.mark("app", "calls", Span(0, 30), READ)
        state.mark("app", "calls", Span(30, 80), UNSETTLED)
        for day, times in ((0, (30, 39, 40)), (1, (50,))):
            state.stage("app", day, series(*times), source="app calls", provisional=True)
        state.stage("other", 0, series(35), source="other calls", provisional=True)
    clipped(state, slice_of(state, Span(20, 80), 80), 40)
    assert kinds(state) == {READ: (Span(0, 20), Span(30, 40)), UNSETTLED: (Span(40, 80),), EXPIRED: (Span(20, 30),)}
    assert [(group.app, group.day) for group, _ in state.waiting()] == [("app", 0)]
    part = state.begin_part(state.waiting()[0][0])
    (piece,) = state.pieces(part, 0, 10**6).stored
    final = column_batch.unpack("realtime", piece)
    assert (list(final.column("ts")), list(final.column("provisional"))) == ([30, 39], [False, False])
    taken = state.take_provisional("app calls")
    assert [(day, list(rows.column("ts")), list(rows.column("provisional"))) for _, day, rows in taken] == [
        (0, [40], [True]),
        (1, [50], [True]),
    ]
    assert state.provisional_rows() == 1


def test_where_nothing_of_it_was_provisional_what_is_stays_as_it_is(state):
    with state.transaction():
        state.mark("app", "calls", Span(40, 80), UNSETTLED)
        state.stage("app", 0, series(50), source="app calls", provisional=True)
    clipped(state, slice_of(state, Span(0, 40), 40), 40)
    assert kinds(state) == {UNSETTLED: (Span(40, 80),), EXPIRED: (Span(0, 40),)}
    assert (state.waiting(), state.provisional_rows()) == ([], 1)


def opened(state: State, name: str, first: int, cname: str = "room", app: str = "app") -> int:
    with state.transaction():
        number = state.keep_call(app, Call(call_id=name, cname=cname, call_pcu=1), Span(first, first + 1), OPEN, 0.0)
        batch = column_batch.calls(app, [Call(call_id=name, created_ts=first)])
        state.stage(app, first // DAY, packed(batch), source=f"call {number}", provisional=True)
    return number


def test_a_call_that_was_never_seen_to_end_and_can_be_seen_no_more_is_left_out_with_its_row(state):
    opened(state, "old", 10)
    opened(state, "young", 40)
    opened(state, "foreign", 10, app="other")
    with state.transaction():
        state.keep_call("app", Call(call_id="done"), Span(10, 20), DONE, 0.0)
    left = clipped(state, slice_of(state, Span(0, 100), 100, again=True), 40)
    assert left.slice.span == Span(40, 100)
    assert kinds(state) == {}  # it was read before, and stays so
    assert state.left() == [("app", "never seen to end", 1, 10, 11)]
    assert state.calls_by_status() == {LEFT: 1, OPEN: 2, DONE: 1}
    assert [group for group, _ in state.waiting()] == [Group("calls", "app", 0)]
    assert state.provisional_rows() == 2


def test_calls_that_go_on_are_those_of_the_app_and_of_the_channel_where_one_is_asked_for(state):
    for name, first, cname, app in (("a", 9, "room", "app"), ("b", 5, "hall", "app"), ("c", 1, "room", "other")):
        opened(state, name, first, cname, app)
    assert [first for _, first in marks.open_calls(state, "app", ALL)] == [5, 9]
    assert [first for _, first in marks.open_calls(state, "app", ROOM)] == [9]
    assert [first for _, first in marks.open_calls(state, "other", ROOM)] == [1]


@pytest.mark.parametrize(
    ("moment", "expected"), [(-5, None), (0, None), (1, Span(0, 1)), (90, Span(0, 90)), (95, Span(0, 90))]
)
def test_what_lies_before_a_moment_ends_where_it_was_wanted(moment, expected):
    assert marks.before(Slice(Span(0, 100), 90), moment) == expected


# Calls


@pytest.mark.parametrize(
    ("finished", "ended", "over"),
    [(True, None, True), (False, 5, False), (None, 5, True), (None, None, False), (True, 5, True)],
)
def test_a_call_is_over_where_that_is_said_or_else_where_an_end_is(finished, ended, over):
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
def test_a_call_is_worth_its_freeze_rate_times_users_times_seconds(audio, video, users, seconds, score):
    call = Call(
        call_id="c",
        created_ts=100,
        destroyed_ts=100 + seconds,
        call_audio_freeze_rate=audio,
        call_video_freeze_rate=video,
        call_pcu=users,
    )
    assert marks.score(call) == score


def test_a_call_without_times_is_worth_nothing():
    assert marks.score(Call(call_id="c", call_audio_freeze_rate=0.9, call_pcu=4)) <= 0.0


def test_times_that_are_no_dates_are_counted(state):
    found = [Call(call_id=name, created_ts=10**18) for name in "ab"]
    with state.transaction():
        marks.undated(state, "app", column_batch.calls("app", found))
        marks.undated(state, "app", column_batch.calls("app", [Call(call_id="c", created_ts=5)]))
        marks.undated(state, "app", column_batch.calls("app", found[:1]))
    assert state.skipped() == [("app", "calls", 3, "a time that is no date, null here")]


def test_rows_that_do_not_fit_are_counted_together_and_the_first_of_them_is_told(state):
    with state.transaction():
        for app, source, count, wrong in (("b", "x", 1, "w"), ("a", "y", 2, "first"), ("a", "y", 3, "second")):
            state.skip(app, source, count, wrong)
    assert state.skipped() == [("a", "y", 5, "first"), ("b", "x", 1, "w")]
