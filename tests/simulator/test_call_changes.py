"""Calls that a service deletes, moves or never ends, contrary to its world."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from helpers.service_harness import NOON, Harness

from agora_analytics import plans
from agora_analytics.simulator import CallChange, SimulatedCall, Variants, World

HOUR = 3_600
DETAILS = (
    plans.CALL_SESSIONS,
    plans.CALL_METRICS,
    plans.CALL_STATISTICS,
    plans.CALL_FREEZE,
    plans.CALL_TIMELINE,
)


def list_calls(harness: Harness, start: int = NOON - 6 * HOUR, end: int | None = None) -> dict[str, Any]:
    """Return the rows of all pages of a search, by call id."""
    rows: list[Any] = []
    params = {"start_ts": start, "end_ts": end or int(harness.clock.now) - 30, "page_size": 100}
    for number in count(1):
        page = harness.get(plans.CALL_LISTS, **params, page_no=number)
        rows += page["call_lists"]
        if not page["has_more"]:
            break
    assert [row["created_ts"] for row in rows] == sorted((row["created_ts"] for row in rows), reverse=True)
    assert len({row["call_id"] for row in rows}) == len(rows)
    return {row["call_id"]: row for row in rows}


def some_call(at: int = NOON - 2 * HOUR, shortest: int = 600) -> SimulatedCall:
    return next(call for call in World(seed=7).calls(at, at + HOUR) if call.duration >= shortest)


def details(call: SimulatedCall) -> dict[str, object]:
    frame = {"call_id": call.call_id, "start_ts": call.created, "end_ts": call.created + 500}
    return {**frame, "sids": "x", "metric": "audio_freeze_rate", "dimension": "os"}


@pytest.mark.parametrize("endpoint", DETAILS, ids=str)
def test_a_deleted_call_is_unknown_from_then_on(endpoint: plans.Endpoint):
    call = some_call()
    harness = Harness(changes=[CallChange(call.call_id, NOON + 100, deleted=True)])
    assert call.call_id in list_calls(harness)
    assert harness.get(endpoint, **details(call))["code"] == 200
    harness.clock.now = NOON + 100
    assert call.call_id not in list_calls(harness)
    assert harness.error(endpoint, **details(call)) == (404, "no such call")
    assert harness.service.log[-1].refused == "unknown"


def test_the_code_for_unknown_calls_is_a_variant():
    call = some_call()
    harness = Harness(unknown_call=1001, changes=[CallChange(call.call_id, deleted=True)])
    assert harness.error(plans.CALL_SESSIONS, **details(call)) == (1001, "no such call")
    assert harness.error(plans.CALL_SESSIONS, **details(call) | {"call_id": "stranger"}) == (1001, "no such call")
    assert Harness().get(plans.CALL_SESSIONS, **details(call) | {"call_id": "stranger"})["call_info"] == []


@pytest.mark.parametrize("overlap", [False, True])
def test_an_endless_call_never_finishes_and_nor_do_its_last_sessions(overlap: bool):
    call = some_call()
    harness = Harness(calls_overlap=overlap, changes=[CallChange(call.call_id, endless=True)])
    row = list_calls(harness, call.created - 5)[call.call_id]
    assert (row["finished"], row["destroyed_ts"]) == (False, None)
    assert row["call_pcu"] >= 1
    sessions = harness.get(plans.CALL_SESSIONS, **details(call), page_size=100)["call_info"]
    assert not all(one["finished"] for one in sessions)
    harness.clock.now += 3 * 86_400
    assert (call.call_id in list_calls(harness, int(harness.clock.now) - HOUR)) is overlap
    assert not list_calls(harness, call.created - 5, call.created + 5)[call.call_id]["finished"]


def test_randomly_endless_calls_overlap_every_later_time():
    harness = Harness(calls_overlap=True, endless_calls=0.01)
    unfinished = {name for name, row in list_calls(harness, NOON - 600).items() if not row["finished"]}
    assert len(unfinished) > 150
    harness.clock.now += 86_400
    later = set(list_calls(harness, int(harness.clock.now) - 600))
    ended = [call for call in ended_calls(harness) if call.call_id in unfinished]
    assert ended
    assert all(call.call_id in later and harness.service.changes(call)[0].endless for call in ended)


def ended_calls(harness: Harness) -> tuple[SimulatedCall, ...]:
    """Return calls that have ended by now."""
    return harness.world.calls(NOON - 86_400, NOON - 13 * HOUR)


@pytest.mark.parametrize("by", [-4_000, -90, 90, 4_000])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_call_moves_in_either_direction(by: int, overlap: bool):
    call = some_call(shortest=4_100)
    change = CallChange(call.call_id, NOON + 50, moved=by)
    harness = Harness(calls_overlap=overlap, changes=[change])
    assert list_calls(harness)[call.call_id]["created_ts"] == call.created
    harness.clock.now += 50
    moved = call.created + by
    assert list_calls(harness)[call.call_id]["created_ts"] == moved
    assert call.call_id in list_calls(harness, moved - 5, moved + 5)
    assert (call.call_id in list_calls(harness, call.created - 5, call.created + 5)) is (overlap and by < 0)


def test_a_call_is_never_moved_past_its_end():
    call = some_call()
    harness = Harness(changes=[CallChange(call.call_id, moved=10**6)])
    assert list_calls(harness)[call.call_id]["created_ts"] == call.destroyed - 1


def test_random_changes_have_their_rate_and_are_reported():
    harness = Harness(deleted_calls=0.2, endless_calls=0.1, moved_calls=0.3)
    harness.clock.now += 86_400
    calls = harness.world.calls(NOON - 6 * HOUR, NOON)
    changes = {call.call_id: harness.service.changes(call) for call in calls}
    rows = list_calls(harness, NOON - 6 * HOUR, NOON)
    kinds = [change for of_call in changes.values() for change in of_call]
    for part, found in (
        (0.2, sum(one.deleted for one in kinds)),
        (0.1, sum(one.endless for one in kinds)),
        (0.3, sum(one.moved != 0 for one in kinds)),
    ):
        assert 0.6 * part < found / len(calls) < 1.4 * part
    assert all(abs(one.moved) <= 120 for one in kinds)
    for call in calls:
        gone = any(one.deleted and one.at <= harness.clock.now for one in changes[call.call_id])
        moved = sum(one.moved for one in changes[call.call_id])
        if NOON - 6 * HOUR + 130 < call.created < NOON - 130:
            assert (call.call_id in rows) is not gone
        if call.call_id in rows and call.duration > 200:
            assert rows[call.call_id]["created_ts"] == call.created + moved
            assert rows[call.call_id]["finished"] is not any(one.endless for one in changes[call.call_id])


def test_random_deletions_are_before_and_after_the_end():
    harness = Harness(deleted_calls=1.0)
    calls = harness.world.calls(NOON - 6 * HOUR, NOON)
    moments = [harness.service.changes(call)[0].at - call.destroyed for call in calls]
    assert 0.4 < sum(moment < 0 for moment in moments) / len(moments) < 0.6


def test_random_changes_of_one_kind_do_not_depend_on_another():
    call = some_call()
    alone = Variants(deleted_calls=0.2)
    together = Variants(deleted_calls=0.2, endless_calls=0.5, moved_calls=0.5)
    for variants in (alone, together):
        harness = Harness()
        harness.service.variants = variants
        deleted = [one for one in harness.service.changes(call) if one.deleted]
        assert deleted == [one for one in Harness(deleted_calls=0.2).service.changes(call) if one.deleted]


def test_a_randomly_moved_call_is_listed_at_its_new_time():
    harness = Harness(moved_calls=0.3)
    harness.clock.now += 86_400
    calls = [call for call in harness.world.calls(NOON - HOUR, NOON) if call.duration > 200]
    moved = {call: sum(one.moved for one in harness.service.changes(call)) for call in calls}
    assert len([by for by in moved.values() if by]) > 10
    for call, by in moved.items():
        there = list_calls(harness, call.created + by, call.created + by + 1)
        assert there[call.call_id]["created_ts"] == call.created + by
        assert not by or call.call_id not in list_calls(harness, call.created, call.created + 1)
