"""Listed calls become events, each once, even if their fields are missing or inconsistent."""

from __future__ import annotations

import pytest
from helpers.streaming import DAY, HOUR, NOON

from agora_analytics import Call, CallFinished, CallLost, CallStarted
from agora_analytics.streams.follow.call_tracker import CallTracker

RETENTION = 7 * DAY


def poll(tracker: CallTracker, call: Call, at: int, oldest: int) -> list:
    """Apply a list with one call to the tracker, and return the events."""
    tracker.now = at
    events = list(tracker.diff(call, oldest))
    for event in events:
        tracker.apply(event)
    for entry in tracker.opened_before(oldest):
        tracker.apply(CallLost(call=entry.call, reason="expired"))
        events.append(CallLost(call=entry.call, reason="expired"))
    tracker.advance(at, at - 120)
    return events


@pytest.mark.parametrize("created", [None, 0, -5, NOON - RETENTION - 9, NOON])
@pytest.mark.parametrize("destroyed", [None, 0, -5, NOON - 4_000, NOON + 60, NOON + 86_400])
@pytest.mark.parametrize("finished", [None, False, True])
def test_a_call_listed_at_every_poll_is_reported_once(created, destroyed, finished):
    tracker = CallTracker(NOON)
    call = Call(call_id="x", created_ts=created, destroyed_ts=destroyed, finished=finished)
    events = [event for minute in range(12 * 60) for event in poll(tracker, call, NOON + 60 * minute, NOON - RETENTION)]
    kinds = [type(event) for event in events]
    assert len(kinds) == len(set(kinds)) <= 2
    assert CallLost not in kinds


def test_a_call_without_a_start_is_lost_when_its_first_sighting_expires():
    tracker, call = CallTracker(NOON), Call(call_id="x", created_ts=None, finished=False)
    events = [
        (hour, type(event))
        for hour in range(24 * 9)
        for event in poll(tracker, call, NOON + HOUR * hour, NOON + HOUR * hour - RETENTION)
    ]
    assert [kind for _, kind in events] == [CallStarted, CallLost]
    assert events[-1][0] == 7 * 24 + 1


def test_a_tracker_is_restored_from_its_checkpoint():
    tracker = CallTracker(NOON)
    for call in (
        Call(call_id="open", created_ts=None, finished=False),
        Call(call_id="over", created_ts=NOON - 60, destroyed_ts=NOON + 9_000, finished=True),
    ):
        poll(tracker, call, NOON, NOON - RETENTION)
    restored = CallTracker.from_checkpoint(tracker.to_checkpoint("x", NOON - 60))
    assert (restored.open, restored.recently_closed, restored.read_to) == (
        tracker.open,
        tracker.recently_closed,
        tracker.read_to,
    )
    assert [entry.began for entry in restored.open.values()] == [NOON]
    assert list(restored.diff(Call(call_id="over", finished=True), NOON - RETENTION)) == []
    assert CallFinished not in map(type, restored.diff(Call(call_id="open", finished=False), NOON - RETENTION))


def test_a_lost_call_stays_known_long_after_it_was_last_listed():
    tracker, call = CallTracker(NOON), Call(call_id="x", created_ts=NOON - 60, finished=False)
    poll(tracker, call, NOON, NOON - RETENTION)
    tracker.apply(CallLost(call=call, reason="gone"))
    tracker.advance(NOON + 20 * DAY, NOON + 20 * DAY - 120)
    over = Call(call_id="x", created_ts=NOON - 60, destroyed_ts=NOON + 19 * DAY, finished=True)
    assert list(tracker.diff(over, NOON + 13 * DAY)) == []


def test_a_call_with_an_end_years_ahead_is_forgotten_like_others():
    tracker = CallTracker(NOON)
    call = Call(call_id="x", created_ts=NOON, destroyed_ts=NOON + 900 * DAY, finished=True)
    poll(tracker, call, NOON, NOON - RETENTION)
    tracker.advance(NOON + 2 * DAY, NOON + 2 * DAY - 120)
    assert tracker.recently_closed == {}


def test_a_call_that_ended_before_its_start_is_reported_once_during_backfill():
    tracker = CallTracker(NOON - 6 * HOUR)
    call = Call(call_id="x", created_ts=NOON - 5 * HOUR, destroyed_ts=NOON - 7 * HOUR, finished=True)
    tracker.now = NOON
    for event in list(tracker.diff(call, NOON - RETENTION)):
        tracker.apply(event)
    tracker.advance(NOON - 3 * HOUR, NOON - 3 * HOUR - 120)
    assert list(tracker.diff(call, NOON - RETENTION)) == []


def test_a_call_with_pending_sessions_is_closed_and_not_reported_again():
    tracker, call = CallTracker(NOON), Call(call_id="x", created_ts=NOON, finished=False)
    poll(tracker, call, NOON, NOON - RETENTION)
    over = Call(call_id="x", created_ts=NOON, destroyed_ts=NOON + 60, finished=True)
    tracker.add_pending(over, NOON + 60.0)
    assert tracker.open == {}
    assert list(tracker.diff(over, NOON - RETENTION)) == []


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize(("reason", "follows"), [("quota", True), ("outage", True), ("expired", False)])
def test_missing_sessions_follow_the_end_of_a_call_if_allowed(reason, follows, late):
    tracker = CallTracker(NOON, late_sessions=late)
    call = Call(call_id="x", created_ts=NOON, destroyed_ts=NOON + 9_000, finished=True)
    tracker.add_pending(call, NOON + 9_000.0)
    tracker.apply(CallFinished(call=call, reason=reason))
    assert [entry.end_reported for entry in tracker.pending.values()] == [True] * (follows and late)
    restored = CallTracker.from_checkpoint(tracker.to_checkpoint("x", NOON - 60), late_sessions=late)
    state = (tracker.recently_closed, list(tracker.pending))
    assert (restored.recently_closed, list(restored.pending)) == state != ({}, [])
