"""Plans and models as values: equality, hashing, and how they are shown."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import pytest

from agora_analytics.models import Call, CallPage, FreezeBucket, Point, SessionMetrics, Track, points
from agora_analytics.plans import ENTERPRISE, PLANS, PREMIUM, Plan


def test_a_plan_is_immutable():
    with pytest.raises(TypeError):
        PREMIUM.limits["realtime"] = ENTERPRISE.limits["realtime"]
    limits = dict(PREMIUM.limits)
    plan = Plan("own", limits)
    limits.clear()
    assert plan.limits == PREMIUM.limits
    assert PREMIUM.with_limits("realtime", per_day=7).limits["realtime"].per_day == 7
    assert PREMIUM.limits["realtime"].per_day == 480


@pytest.mark.parametrize("plan", PLANS.values())
def test_a_plan_can_be_hashed_copied_and_pickled(plan):
    assert {plan: 1}[copy.deepcopy(plan)] == 1
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert hash(plan.split()) == hash(plan.split())
    assert plan.split() != plan or not plan.limits
    assert plan.limits == dict(plan.limits)


@pytest.mark.parametrize("fields", [{"uid": 7}, {"dimension": "sdk", "dimension_value": "4"}, {}])
def test_points_of_different_generated_classes_can_be_equal(fields):
    point = Point.of(1, 2, metric="userCount", **fields)
    points.shape.cache_clear()
    points._make.cache_clear()
    same = Point.of(1, 2, metric="userCount", **fields)
    assert type(same) is not type(point)
    assert (point == same, {point: 1}[same]) == (True, 1)
    assert pickle.loads(pickle.dumps(point)) == same
    assert point not in {Point.of(2, 2, metric="userCount", **fields), Point.of(1, 3, metric="userCount", **fields)}
    assert point != Point.of(1, 2, metric="channelCount", **fields)
    assert point != (1, 2)


@pytest.mark.parametrize("metric", ["ts", "uid", "of", "value", "dimension_value", "started_at", "class", "_metric"])
def test_a_metric_name_does_not_hide_attributes_of_a_point(metric):
    point = Point.of(60, 2, metric=metric)
    assert (point.ts, point.value, point.uid, point.dimension_value) == (60, 2, None, None)
    assert point.started_at == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)


def test_the_columns_of_an_unordered_track_are_sorted_by_time():
    columns = Track(mid=1, kvs=((3, 1.0), (1, 3.0), (2, 2.0))).columns()
    assert [list(column) for column in columns] == [[1, 2, 3], [3.0, 2.0, 1.0]]


@pytest.mark.parametrize(("finished", "has_ended"), [(True, True), (None, True), (False, False)])
def test_a_call_in_progress_has_no_end_whatever_its_destroyed_ts(finished, has_ended):
    call = Call(call_id="c", created_ts=60, destroyed_ts=120, finished=finished)
    assert ((call.ended_at is not None), (call.span is not None)) == (has_ended, has_ended)


def test_the_repr_of_a_large_model_is_short():
    page = CallPage(calls=tuple(Call(call_id=f"c{number}") for number in range(10_000)))
    track = Track(mid=1, kvs=tuple((number, 1.0) for number in range(10_000)))
    metrics = SessionMetrics(sid="s", data=(track,) * 1_000)
    for value in (page, track, metrics, PREMIUM):
        assert len(repr(value)) < 3_000
    assert "(9999, 1.0)" not in repr(track)
    assert "9994 more" in repr(track)
    assert "c5" in repr(page)


@pytest.mark.parametrize(
    ("bucket", "lowest"),
    [
        ("[3%,5%)", 0.03),
        ("[0.5%,3%)", 0.005),
        ("20 %+", 0.2),
        ("12345678901%", None),
        ("1" * 100_000, None),
        ("1." * 50_000 + "%", None),
    ],
)
def test_the_lower_bound_of_a_freeze_bucket_is_parsed_in_linear_time(bucket, lowest):
    assert FreezeBucket(bucket=bucket).lowest == (float("inf") if lowest is None else lowest)


@pytest.mark.parametrize("ended", [10**11 - 2, 10**11 - 1, 10**11, 2**62])
def test_a_call_has_a_span_up_to_its_end_or_none(ended):
    span = Call(call_id="a", created_ts=1_795_521_600, destroyed_ts=ended).span
    assert span is None or span.end == ended + 1


@pytest.mark.parametrize("name", ["self", "\N{MICRO SIGN}", "\N{LATIN SMALL LIGATURE FI}eld", "class", "no name"])
def test_a_metric_name_that_cannot_be_a_field_is_replaced(name):
    point = points.Point.of(60, 5, metric=name, dimension=name, dimension_value="x")
    assert (point.ts, point.value, point.dimension_value) == (60, 5, "x")
    assert pickle.loads(pickle.dumps(point)) == point
