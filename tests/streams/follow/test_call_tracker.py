"""What a list of calls shows becomes events; each once, also of calls whose fields make no sense."""

from __future__ import annotations

import pytest

from agora_analytics import Call, CallFinished, CallLost, CallStarted
from agora_analytics.streams.follow.call_tracker import CallTracker

NOON = 1_795_521_600
HOUR = 3_600
DAY = 86_400
KEPT = 7 * DAY


def shown(tracker: CallTracker, call: Call, at: int, oldest: int) -> list:
    """The events of one look, and the tracker after them."""
    tracker.now = at
    events = list(tracker.diff(call, oldest))
    for event in events:
        tracker.apply(event)
    for one in tracker.opened_before(oldest):
        tracker.apply(CallLost(call=one.call, reason="expired"))
        events.append(CallLost(call=one.call, reason="expired"))
    tracker.advance(at, at - 120)
    return events


@pytest.mark.parametrize("created", [None, 0, -5, NOON - KEPT - 9, NOON])
@pytest.mark.parametrize("destroyed", [None, 0, -5, NOON - 4_000, NOON + 60, NOON + 86_400])
@pytest.mark.parametrize("finished", [None, False, True])
def test_a_call_listed_at_every_poll_is_reported_once(created, destroyed, finished):
    tracker = CallTracker(NOON)
    call = Call(call_id="x", created_ts=created, destroyed_ts=destroyed, finished=finished)
    events = [event for minute in range(12 * 60) for event in shown(tracker, call, NOON + 60 * minute, NOON - KEPT)]
    kinds = [type(event) for event in events]
    assert len(kinds) == len(set(kinds)) <= 2
    assert CallLost not in kinds


def test_a_call_without_a_start_is_lost_when_its_first_sighting_expires():
    tracker, call = CallTracker(NOON), Call(call_id="x", created_ts=None, finished=False)
    told = [
        (hour, type(event))
        for hour in range(24 * 9)
        for event in shown(tracker, call, NOON + 3_600 * hour, NOON + 3_600 * hour - KEPT)
    ]
    assert [kind for _, kind in told] == [CallStarted, CallLost]
    assert told[-1][0] == 7 * 24 + 1


def test_a_tracker_is_restored_from_its_checkpoint():
    tracker = CallTracker(NOON)
    for call in (
        Call(call_id="on", created_ts=None, finished=False),
        Call(call_id="over", created_ts=NOON - 60, destroyed_ts=NOON + 9_000, finished=True),
    ):
        shown(tracker, call, NOON, NOON - KEPT)
    again = CallTracker.from_checkpoint(tracker.to_checkpoint("x", NOON - 60))
    assert (again.open, again.recently_closed, again.read_to) == (
        tracker.open,
        tracker.recently_closed,
        tracker.read_to,
    )
    assert [one.began for one in again.open.values()] == [NOON]
    assert list(again.diff(Call(call_id="over", finished=True), NOON - KEPT)) == []
    assert CallFinished not in map(type, again.diff(Call(call_id="on", finished=False), NOON - KEPT))


def test_a_lost_call_stays_known_long_after_it_was_last_listed():
    tracker, call = CallTracker(NOON), Call(call_id="x", created_ts=NOON - 60, finished=False)
    shown(tracker, call, NOON, NOON - KEPT)
    tracker.apply(CallLost(call=call, reason="gone"))
    tracker.advance(NOON + 20 * DAY, NOON + 20 * DAY - 120)
    over = Call(call_id="x", created_ts=NOON - 60, destroyed_ts=NOON + 19 * DAY, finished=True)
    assert list(tracker.diff(over, NOON + 13 * DAY)) == []


def test_a_call_with_an_end_years_ahead_is_forgotten_like_others():
    tracker = CallTracker(NOON)
    shown(tracker, Call(call_id="x", created_ts=NOON, destroyed_ts=NOON + 900 * DAY, finished=True), NOON, NOON - KEPT)
    tracker.advance(NOON + 2 * DAY, NOON + 2 * DAY - 120)
    assert tracker.recently_closed == {}


def test_a_call_that_ended_before_its_start_is_reported_once_during_backfill():
    tracker = CallTracker(NOON - 6 * HOUR)
    call = Call(call_id="x", created_ts=NOON - 5 * HOUR, destroyed_ts=NOON - 7 * HOUR, finished=True)
    tracker.now = NOON
    for event in list(tracker.diff(call, NOON - KEPT)):
        tracker.apply(event)
    tracker.advance(NOON - 3 * HOUR, NOON - 3 * HOUR - 120)
    assert list(tracker.diff(call, NOON - KEPT)) == []


def test_a_call_with_pending_sessions_is_closed_and_not_reported_again():
    tracker, call = CallTracker(NOON), Call(call_id="x", created_ts=NOON, finished=False)
    shown(tracker, call, NOON, NOON - KEPT)
    over = Call(call_id="x", created_ts=NOON, destroyed_ts=NOON + 60, finished=True)
    tracker.add_pending(over, NOON + 60.0)
    assert tracker.open == {}
    assert list(tracker.diff(over, NOON - KEPT)) == []


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize(("reason", "follows"), [("quota", True), ("outage", True), ("expired", False)])
def test_missing_sessions_follow_the_end_of_a_call_if_allowed(reason, follows, late):
    tracker = CallTracker(NOON, late_sessions=late)
    call = Call(call_id="x", created_ts=NOON, destroyed_ts=NOON + 9_000, finished=True)
    tracker.add_pending(call, NOON + 9_000.0)
    tracker.apply(CallFinished(call=call, reason=reason))
    assert [one.end_reported for one in tracker.pending.values()] == [True] * (follows and late)
    again = CallTracker.from_checkpoint(tracker.to_checkpoint("x", NOON - 60), late_sessions=late)
    assert (again.recently_closed, list(again.pending)) == (tracker.recently_closed, list(tracker.pending)) != ({}, [])
