from __future__ import annotations

from typing import Any

import msgspec
import pytest
from helpers.service_harness import NOON, Harness

from agora_analytics import plans
from agora_analytics._core.decoding.json import struct_like
from agora_analytics.catalogue import FREEZE_BUCKETS, Product
from agora_analytics.models import Answer, CallPage, FreezeBucket, MetricsAnswer, Rows, SessionPage, Statistic, shape
from agora_analytics.simulator import SimulatedCall, SimulatedSession, World

HOUR, DAY = 3_600, 86_400
HARNESS = Harness()
WORLD = HARNESS.world
LISTED = {"start_ts": NOON - 20 * HOUR, "end_ts": NOON - 600}


def detail(call: SimulatedCall, **others: object) -> dict[str, object]:
    """Return parameters that cover a whole call, with others added or replaced."""
    return {"call_id": call.call_id, "start_ts": call.created, "end_ts": call.destroyed} | others


def some_call(**attributes: object) -> SimulatedCall:
    calls = WORLD.calls(NOON - 20 * HOUR, NOON - 8 * HOUR)
    matching = [c for c in calls if all(getattr(c, name) == value for name, value in attributes.items())]
    return max((c for c in matching if c.duration < 5 * HOUR), key=lambda call: call.users)


CALL = some_call(video=True, recorded=True)
INSIGHT = {"startTs": NOON - 6 * DAY, "endTs": NOON - 3 * DAY}
REALTIME = {"startTs": NOON - 600, "endTs": NOON - 40, "productType": "Native"}
TOP = {"ts": NOON - 50, "productType": "Native"}
MOMENT = {"metric": "audioFreezeRate", "aggregateGranularity": "1h"}

EVERY: list[tuple[plans.Endpoint, Any, dict[str, object]]] = [
    (plans.CALL_LISTS, CallPage, LISTED),
    (plans.CALL_SESSIONS, SessionPage, detail(CALL)),
    (plans.CALL_METRICS, MetricsAnswer, detail(CALL, sids=WORLD.sessions(CALL)[0].sid)),
    (plans.CALL_STATISTICS, Rows[Statistic], detail(CALL, metric="video_freeze_rate", dimension="net")),
    (plans.CALL_FREEZE, Rows[FreezeBucket], detail(CALL, metric="audio_freeze_rate")),
    (plans.CALL_TIMELINE, Rows[shape("value")], detail(CALL, metric="user_count")),  # type: ignore[misc]
    (plans.INSIGHT_USAGE, Rows[shape("userCount")], {**INSIGHT, "metric": "userCount", "aggregateGranularity": "1d"}),  # type: ignore[misc]
    (plans.INSIGHT_QUALITY, Rows[shape("audioFreezeRate")], {**INSIGHT, **MOMENT, "productType": "Native"}),  # type: ignore[misc]
    (plans.INSIGHT_USAGE_TOTAL, Rows[dict[str, Any]], {**INSIGHT, "metric": "userCount", "dimension": "country"}),
    (plans.INSIGHT_QUALITY_TOTAL, Rows[dict[str, Any]], {**INSIGHT, "metric": "networkDelay", "dimension": "os"}),
    (plans.REALTIME_USAGE, Rows[shape("userCount", "sdk")], {**REALTIME, "metric": "userCount", "dimension": "sdk"}),  # type: ignore[misc]
    (plans.REALTIME_QUALITY, Rows[shape("networkDelay")], {**REALTIME, "metric": "networkDelay"}),  # type: ignore[misc]
    (plans.REALTIME_USAGE_TOP, Answer, {**TOP, "metric": "userCount", "dimension": "country"}),
    (plans.REALTIME_QUALITY_TOP, Answer, {**TOP, "metric": "networkDelay", "dimension": "sdk"}),
]


@pytest.mark.parametrize(("endpoint", "model", "params"), EVERY, ids=[str(row[0]) for row in EVERY])
def test_every_answer_fits_its_model_and_is_not_empty(endpoint: plans.Endpoint, model: Any, params: dict[str, object]):
    response = HARNESS.send(endpoint, **params)
    decoded = msgspec.json.decode(response.body, type=struct_like(model))
    assert (response.status, decoded.code, decoded.message) == (200, 200, "success")
    assert response.headers["Date"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    in_body = endpoint.path.startswith("/beta/analytics/call/")
    assert (decoded.request_id is not None) is in_body
    assert ("X-Request-ID" in response.headers) is not in_body
    assert len(response.body) > 140
    assert HARNESS.send(endpoint, **params).headers.get("X-Request-ID") != response.headers.get("X-Request-ID", "")


def test_all_endpoints_are_answered():
    assert {row[0] for row in EVERY} == set(plans.ENDPOINTS)


def test_pages_of_calls_come_newest_first_and_hold_each_call_once():
    numbers, rows = range(1, 40), []
    for number in numbers:
        page = HARNESS.get(plans.CALL_LISTS, **LISTED, page_no=number, page_size=100)
        rows += page["call_lists"]
        if not page["has_more"]:
            break
    expected = WORLD.calls(NOON - 20 * HOUR, NOON - 600)
    assert [row["call_id"] for row in rows] == [call.call_id for call in reversed(expected)]
    assert page["total_size"] == len(expected)
    assert (page["page_no"], page["page_size"]) == (number, 100)


def test_a_page_has_20_rows_by_default_and_at_most_100():
    assert len(HARNESS.get(plans.CALL_LISTS, **LISTED)["call_lists"]) == 20
    page = HARNESS.get(plans.CALL_LISTS, **LISTED, page_size=1_000)
    assert (len(page["call_lists"]), page["page_size"]) == (100, 100)


def test_a_page_that_holds_the_last_row_has_no_more():
    frame = {"start_ts": NOON - 7_200, "end_ts": NOON - 5_400}
    total = HARNESS.get(plans.CALL_LISTS, **frame, page_size=1)["total_size"]
    assert 10 < total < 100
    assert HARNESS.get(plans.CALL_LISTS, **frame, page_size=total)["has_more"] is False
    assert HARNESS.get(plans.CALL_LISTS, **frame, page_size=total - 1)["has_more"] is True
    assert HARNESS.get(plans.CALL_LISTS, **frame, page_no=2, page_size=total)["call_lists"] == []


def test_a_call_has_finished_when_its_end_is_known():
    harness = Harness()
    call = next(c for c in WORLD.calls(NOON - HOUR, NOON - 1_800) if c.destroyed > NOON)
    frame = {"start_ts": call.created, "end_ts": call.created + 1, "cname": call.cname}
    for known_until, finished in ((call.destroyed - 1, False), (call.destroyed, True)):
        harness.clock.now = known_until + 20
        (row,) = harness.get(plans.CALL_LISTS, **frame)["call_lists"]
        assert row["finished"] is finished
        assert row["destroyed_ts"] == (call.destroyed if finished else None)


def test_calls_can_be_filtered_by_channel():
    rows = HARNESS.get(plans.CALL_LISTS, **LISTED, cname=CALL.cname, page_size=100)["call_lists"]
    assert {row["cname"] for row in rows} == {CALL.cname}
    assert CALL.call_id in {row["call_id"] for row in rows}


def test_an_open_call_has_no_end_yet():
    recent = {"start_ts": NOON - HOUR, "end_ts": NOON - 21, "page_size": 100}
    rows = HARNESS.get(plans.CALL_LISTS, **recent)["call_lists"]
    for row in rows:
        call = WORLD.call(row["call_id"])
        assert call
        assert row["finished"] is (call.destroyed <= NOON - 20)
        assert row["destroyed_ts"] == (call.destroyed if row["finished"] else None)
    assert {row["finished"] for row in rows} == {True, False}


def test_the_summary_of_a_call_follows_from_its_sessions():
    rows = HARNESS.get(plans.CALL_LISTS, start_ts=CALL.created, end_ts=CALL.created + 1, cname=CALL.cname)["call_lists"]
    people = [s for s in WORLD.sessions(CALL) if not s.server]
    freezes = [s.video_freeze for s in people if s.video_freeze is not None]
    moments = [sum(s.join <= ts < s.leave for s in people) for ts in range(CALL.created, CALL.destroyed)]
    assert rows[0]["call_pcu"] == max(moments)
    assert rows[0]["call_acu"] == pytest.approx(sum(moments) / len(moments), abs=0.01)
    assert rows[0]["call_video_freeze_rate"] == pytest.approx(sum(freezes) / len(freezes), abs=1e-4)


def test_sessions_exclude_server_users_unless_requested():
    without = HARNESS.get(plans.CALL_SESSIONS, **detail(CALL))
    params = HARNESS.get(plans.CALL_SESSIONS, **detail(CALL, exclude_server_user="false"))
    assert params["total_size"] == without["total_size"] + 1
    joins = [row["join_ts"] for row in params["call_info"]]
    assert joins == sorted(joins, reverse=True)


def test_the_account_of_a_session_is_optional():
    facts = {s.sid: s for s in WORLD.sessions(CALL)}
    for row in HARNESS.get(plans.CALL_SESSIONS, **detail(CALL, page_size=100))["call_info"]:
        session = facts[row["sid"]]
        assert row.get("account") == session.account
        assert ("account" in row) is (session.account is not None)
        assert (row["uid"], row["join_ts"], row["leave_ts"]) == (session.uid, session.join, session.leave)
        assert (row["user_audio_freeze_rate"], row["roles"]) == (session.audio_freeze, list(session.roles))


def test_one_user_may_have_several_sessions():
    call = next(c for c in WORLD.calls(NOON - 20 * HOUR, NOON - 8 * HOUR) if c.rejoins and c.duration < 5 * HOUR)
    uids = [session.uid for session in WORLD.sessions(call)]
    twice = next(uid for uid in uids if uids.count(uid) == 2)
    rows = HARNESS.get(plans.CALL_SESSIONS, **detail(call, uids=f"{twice},1"))["call_info"]
    assert [row["uid"] for row in rows] == [twice, twice]


def test_an_unknown_call_has_no_sessions_and_no_statistics():
    params = detail(CALL, metric="audio_freeze_rate", dimension="os", sids="x") | {"call_id": "unknown"}
    assert HARNESS.get(plans.CALL_SESSIONS, **params)["call_info"] == []
    assert HARNESS.get(plans.CALL_METRICS, **params)["metrics"] == []
    assert HARNESS.get(plans.CALL_STATISTICS, **params)["data"] == []
    assert HARNESS.get(plans.CALL_TIMELINE, **params)["data"] == []


def test_metrics_are_unordered_and_exclude_sessions_without_samples():
    sessions = WORLD.sessions(CALL)
    chosen = sessions[:18] + tuple(s for s in sessions if not s.measured)[:2]
    sids = [session.sid for session in chosen]
    answer = HARNESS.get(plans.CALL_METRICS, **detail(CALL, sids=",".join(sids)))
    measured = [session.sid for session in chosen if session.measured]
    got = [one["sid"] for one in answer["metrics"]]
    assert got != measured
    assert sorted(got) == sorted(measured)
    assert len(got) < len(sids)
    assert all(track["kvs"] for one in answer["metrics"] for track in one["data"])


def test_metrics_without_samples_in_the_time_range_are_left_out():
    sids = ",".join(session.sid for session in WORLD.sessions(CALL)[:20])
    moments = [detail(CALL, sids=sids, start_ts=ts, end_ts=ts + 1) for ts in range(CALL.created, CALL.created + 4)]
    tracks = [one["data"] for params in moments for one in HARNESS.get(plans.CALL_METRICS, **params)["metrics"]]
    assert tracks
    assert all(track["kvs"] for data in tracks for track in data)


def test_statistics_group_the_users_of_a_call():
    rows = HARNESS.get(plans.CALL_STATISTICS, **detail(CALL, metric="audio_freeze_rate", dimension="os"))["data"]
    people = [s for s in WORLD.sessions(CALL) if not s.server]
    assert {row["dimension_value"] for row in rows} == {s.profile.os for s in people}
    assert sum(row["user_count"] for row in rows) == CALL.users
    assert next(row["value"] for row in rows if row["dimension_value"] == "Web") is None


def test_freeze_buckets_leave_out_the_empty_ones_and_are_unsorted():
    rows = HARNESS.get(plans.CALL_FREEZE, **detail(CALL, metric="audio_freeze_rate"))["data"]
    buckets = [row["bucket"] for row in rows]
    assert set(buckets) <= set(FREEZE_BUCKETS)
    assert buckets != sorted(buckets, key=FREEZE_BUCKETS.index)
    audible = [s for s in WORLD.sessions(CALL) if not s.server and s.audio_freeze is not None]
    assert sum(row["user_count"] for row in rows) == len(audible)
    assert all(row["user_count"] for row in rows)


@pytest.mark.parametrize("metric", ["audio_freeze_rate", "video_freeze_rate", "video_freeze_user_count", "user_count"])
def test_a_timeline_is_unsorted_with_missing_minutes(metric: str):
    call = some_call(video=True, recorded=False)
    rows = HARNESS.get(plans.CALL_TIMELINE, **detail(call, metric=metric))["data"]
    stamps = [row["ts"] for row in rows]
    minutes = range(call.created // 60 * 60, call.destroyed, 60)
    assert stamps != sorted(stamps)
    assert 0 < len(stamps) < len(minutes)
    assert set(stamps) < set(minutes)
    assert any(row["value"] for row in rows)


def test_a_timeline_counts_users_and_those_who_froze():
    call = some_call(video=True, recorded=True)

    def values(metric: str) -> dict[int, float]:
        rows = HARNESS.get(plans.CALL_TIMELINE, **detail(call, metric=metric))["data"]
        return {row["ts"]: row["value"] for row in rows}

    users, frozen, rates = values("user_count"), values("video_freeze_user_count"), values("video_freeze_rate")
    for minute, count in users.items():
        there = [s for s in WORLD.sessions(call) if s.overlaps(minute, minute + 60) and not s.server]
        assert count == len({s.uid for s in there})
        assert 0 <= frozen[minute] <= sum(1 for s in there if s.video_freeze)
        assert (rates[minute] > 0) is (frozen[minute] > 0)
    assert any(0 < frozen[minute] < users[minute] / 2 for minute in users)


def test_durations_add_up():
    totals = {
        metric: HARNESS.get(plans.INSIGHT_USAGE_TOTAL, **INSIGHT, metric=metric)["data"][0][metric]
        for metric in ("totalDuration", "totalVideoDuration", "totalAudioDuration")
    }
    assert totals["totalDuration"] == totals["totalVideoDuration"] + totals["totalAudioDuration"]
    assert totals["totalVideoDuration"] > totals["totalAudioDuration"] > 0
    params = {**INSIGHT, "dimension": "net", "dimensionValues": ["WIFI"]}
    usage = {
        metric: HARNESS.get(plans.INSIGHT_QUALITY_TOTAL, **params, metric=metric)["data"][0]["refUsage"]
        for metric in ("networkDelay", "videoFreezeRate", "audioFreezeRate")
    }
    assert abs(usage["networkDelay"] - usage["videoFreezeRate"] - usage["audioFreezeRate"]) <= 1


def test_usage_by_time_has_a_row_for_each_whole_bucket_both_ends_included():
    params = {"startTs": NOON - 6 * DAY, "endTs": NOON - 4 * DAY, "metric": "channelCount"}
    rows = HARNESS.get(plans.INSIGHT_USAGE, **params, aggregateGranularity="1h")["data"]
    assert [row["ts"] for row in rows] == list(range(NOON - 6 * DAY, NOON - 4 * DAY + 1, HOUR))
    assert rows[0]["channelCount"] == len(WORLD.calls(NOON - 6 * DAY, NOON - 6 * DAY + HOUR))
    days = HARNESS.get(plans.INSIGHT_USAGE, **params, aggregateGranularity="1d")["data"]
    assert [row["ts"] % DAY for row in days] == [0, 0]


def test_a_time_range_without_a_bucket_returns_nothing():
    params = {"startTs": NOON - 6 * DAY, "endTs": NOON - 6 * DAY + HOUR, "metric": "userCount"}
    assert HARNESS.get(plans.INSIGHT_USAGE, **params, aggregateGranularity="1d")["data"] == []


@pytest.mark.parametrize("metric", ["peakCurrentUsers", "peakConcurrentChannels", "totalDuration", "sessionCount"])
def test_totals_of_usage_without_a_dimension_are_one_row(metric: str):
    (row,) = HARNESS.get(plans.INSIGHT_USAGE_TOTAL, **INSIGHT, metric=metric)["data"]
    assert row[metric] > 0
    grouped = HARNESS.get(plans.INSIGHT_USAGE_TOTAL, **INSIGHT, metric=metric, dimension="country")["data"]
    assert (grouped == [row]) is metric.startswith("peak")


def test_a_total_by_dimension_is_the_top_20_of_50_for_devices():
    for dimension, most in (("country", 20), ("device", 50), ("sdkVersion", 20)):
        rows = HARNESS.get(plans.INSIGHT_USAGE_TOTAL, **INSIGHT, metric="userCount", dimension=dimension)["data"]
        assert len(rows) == most
        assert [row["userCount"] for row in rows] == sorted((row["userCount"] for row in rows), reverse=True)
        assert all(row[dimension] for row in rows)


def test_totals_take_values_and_a_country():
    few = HARNESS.get(
        plans.INSIGHT_USAGE_TOTAL, **INSIGHT, metric="userCount", dimension="sdk", dimensionValues=["4.1.1", "none"]
    )
    assert [row["sdk"] for row in few["data"]] == ["4.1.1"]
    filters = [{"name": "country", "value": "China"}]
    china = HARNESS.get(
        plans.INSIGHT_QUALITY_TOTAL, **INSIGHT, metric="networkDelay", dimension="region", filters=filters
    )
    assert {row["region"] for row in china["data"]} == {"Shanghai", "Beijing", "Guangdong", "Zhejiang"}
    ignored = HARNESS.get(
        plans.INSIGHT_QUALITY_TOTAL, **INSIGHT, metric="networkDelay", dimension="os", filters=filters
    )
    assert len(ignored["data"]) == 5


def test_totals_of_quality_come_highest_first_with_their_usage():
    params = {**INSIGHT, "metric": "audioFreezeRate", "dimension": "channelSize", "dimensionValues": ["1"]}
    rows = HARNESS.get(plans.INSIGHT_QUALITY_TOTAL, **params, productType="WebRTC")["data"]
    assert len(rows) == 6
    assert [row["audioFreezeRate"] for row in rows] == sorted((row["audioFreezeRate"] for row in rows), reverse=True)
    assert all(row["refUsage"] > 0 for row in rows)
    (whole,) = HARNESS.get(plans.INSIGHT_QUALITY_TOTAL, **INSIGHT, metric="joinSuccessRate")["data"]
    assert 0.9 < whole["joinSuccessRate"] < 1


def test_the_window_of_the_start_is_in_and_that_of_the_end_is_out():
    params = {"startTs": NOON - 190, "endTs": NOON - 130, "productType": "Native", "metric": "networkDelay"}
    rows = HARNESS.get(plans.REALTIME_QUALITY, **params)["data"]
    assert [row["ts"] - NOON for row in rows] == [-200, -180, -160]


def test_realtime_dimensions_take_effect_for_users_only():
    quoted = '"4.1.1","3.6.1.1"'
    rows = HARNESS.get(plans.REALTIME_USAGE, **REALTIME, metric="userCount", dimension="sdk", dimensionValues=quoted)[
        "data"
    ]
    assert {row["sdk"] for row in rows} == {"4.1.1", "3.6.1.1"}
    channels = HARNESS.get(plans.REALTIME_USAGE, **REALTIME, metric="channelCount", dimension="sdk")["data"]
    assert all(set(row) == {"channelCount", "ts"} and row["channelCount"] > 0 for row in channels)
    quality = HARNESS.get(plans.REALTIME_QUALITY, **REALTIME, metric="networkDelay", dimension="net")["data"]
    assert {row["net"] for row in quality} > {"WIFI", "4G"}


def native_of(call: SimulatedCall) -> list[SimulatedSession]:
    return [s for s in WORLD.sessions(call) if s.profile.product is Product.NATIVE and not s.server]


def users_present(call: SimulatedCall) -> list[SimulatedSession]:
    """Return the native sessions of a call that overlap the span of `REALTIME`."""
    return [session for session in native_of(call) if session.overlaps(NOON - 600, NOON - 40)]


def channel_in_use() -> SimulatedCall:
    return max(WORLD.calls_during(NOON - 600, NOON - 40), key=lambda call: len(users_present(call)))


def test_realtime_numbers_of_one_channel():
    call = channel_in_use()
    users = HARNESS.get(plans.REALTIME_USAGE, **REALTIME, metric="userCount", cname=call.cname)["data"]
    others = [s for c in WORLD.calls_during(NOON - 620, NOON) if c.cname == call.cname for s in native_of(c)]
    assert [row["userCount"] for row in users] == [
        sum(s.overlaps(row["ts"], row["ts"] + 20) for s in others) for row in users
    ]
    channels = HARNESS.get(plans.REALTIME_USAGE, **REALTIME, metric="channelCount", cname=call.cname)["data"]
    assert {row["channelCount"] for row in channels} <= {0, 1}
    assert [row["ts"] for row in users if row["userCount"]] == [row["ts"] for row in channels if row["channelCount"]]
    by_os = HARNESS.get(plans.REALTIME_USAGE, **REALTIME, metric="userCount", cname=call.cname, dimension="os")["data"]
    assert sum(row["userCount"] for row in by_os) == sum(row["userCount"] for row in users) > 0
    quality = HARNESS.get(plans.REALTIME_QUALITY, **REALTIME, metric="networkDelay", cname=call.cname)["data"]
    assert [row["ts"] for row in quality] == [row["ts"] for row in users if row["userCount"]]
    assert HARNESS.get(plans.REALTIME_QUALITY, **REALTIME, metric="networkDelay", cname="none")["data"] == []


def test_realtime_quality_by_user_needs_the_channel():
    call = channel_in_use()
    native = users_present(call)
    params = {**REALTIME, "metric": "networkDelay", "uids": f"{native[0].uid},x"}
    known, unknown = HARNESS.get(plans.REALTIME_QUALITY, **params, cname=call.cname)["data"]
    assert (known["uid"], unknown["uid"]) == (native[0].uid, "x")
    assert {"ts", "networkDelay"} == set(known["values"][0])
    assert unknown["values"] == []
    ignored = HARNESS.get(plans.REALTIME_QUALITY, **params)["data"]
    assert "uid" not in ignored[0]


def test_top_lists_are_of_one_window_and_echo_an_unaligned_start():
    busy = Harness()
    busy.service.world = World(seed=7, calls_per_hour=600)
    rows = busy.get(plans.REALTIME_USAGE_TOP, **TOP, metric="userCount", dimension="device")["data"]["list"]
    assert len(rows) == 50
    assert [row["userCount"] for row in rows] == sorted((row["userCount"] for row in rows), reverse=True)
    assert {(row["windowStartTs"], row["windowEndTs"]) for row in rows} == {(NOON - 50, NOON - 30)}
    assert busy.world.users(Product.NATIVE, NOON - 60, "device")[rows[0]["device"]] == rows[0]["userCount"]


def test_top_lists_of_quality_include_users_on_request():
    params = {**TOP, "metric": "videoFreezeRate", "dimension": "country"}
    rows = HARNESS.get(plans.REALTIME_QUALITY_TOP, **params, extraMetrics="userCount")["data"]["list"]
    assert all(row["userCount"] > 0 for row in rows)
    assert [row["videoFreezeRate"] for row in rows] == sorted((row["videoFreezeRate"] for row in rows), reverse=True)
    assert len(rows) == 20
    assert "userCount" not in HARNESS.get(plans.REALTIME_QUALITY_TOP, **params)["data"]["list"][0]
