"""Every JSON response of the reference, decoded by the decoder of its endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.recording import Recorder, make_client, run

from agora_analytics._core.decoding import codec, lenient, rows
from agora_analytics.models import (
    Answer,
    Call,
    CallPage,
    FreezeBucket,
    MetricsAnswer,
    Point,
    Ranked,
    Rows,
    Session,
    SessionMetrics,
    SessionPage,
    Statistic,
    Total,
    Track,
)

pytestmark = pytest.mark.real_time

EXAMPLES = Path(__file__).parent / "examples"


def points(metric: str, *rows: tuple, dimension: str | None = None) -> tuple[Point, ...]:
    return tuple(
        Point.of(ts, value, metric=metric, dimension=dimension, dimension_value=group[0] if group else None)
        for ts, value, *group in rows
    )


def users(metric: str, *rows: tuple[int, int, float]) -> tuple[Point, ...]:
    return tuple(Point.of(ts, value, metric=metric, uid=uid) for uid, ts, value in rows)


def ok(data: tuple, message: str | None = "success") -> Rows:
    return Rows(code=200, message=message, data=data)


SDKS = ("3.6.1.1", "4.1.1")
TIMES = (1631837400, 1631837420, 1631837440)

EXPECTATIONS = {
    "call_lists_1": (
        codec.decoder(CallPage),
        CallPage(
            code=0,
            message="string",
            request_id="15c99xxxxxxxxxxx9be9b",
            total_size=101,
            page_no=1,
            page_size=20,
            has_more=True,
            calls=(
                Call(
                    call_id="cxxxxxxxxxxxxxxxxxxxx",
                    cname="cname1",
                    created_ts=1547448383,
                    destroyed_ts=1547448483,
                    finished=True,
                    call_pcu=2,
                    call_acu=2.0,
                    call_audio_freeze_rate=0.12,
                    call_video_freeze_rate=0.07,
                ),
            ),
        ),
    ),
    "call_sessions_1": (
        codec.decoder(SessionPage),
        SessionPage(
            code=0,
            message="string",
            request_id="15c99xxxxxxxxxxx9be9b",
            total_size=101,
            page_no=1,
            page_size=20,
            has_more=None,
            sessions=(
                Session(
                    sid="xxxxxxxxxxxxxxxxxxx",
                    cname="cname1",
                    uid=1234567,
                    account="UserA",
                    network="LAN",
                    platform="Linux",
                    speaker=False,
                    roles=("SPEAKER", "SCREEN_SHARER"),
                    sdk_version="2.3.3.150",
                    device_type="Linux version 4.14.255-311-248.529.amzn2.x86_64 (mockbuild@ip-10",
                    join_ts=1692584005,
                    leave_ts=1692584015,
                    finished=True,
                    user_audio_freeze_rate=0.01,
                    user_video_freeze_rate=0.03,
                ),
            ),
        ),
    ),
    "call_metrics_1": (
        codec.decoder(MetricsAnswer),
        MetricsAnswer(
            code=200,
            message="",
            request_id="bxxxxxxxxxxxxxxxxxx4",
            metrics=(
                SessionMetrics(
                    sid="EDB224CCF4FB4F99815C24302BDF3301",
                    data=(
                        Track(
                            mid=20003, kvs=((1548670255, 215.0), (1548670257, 129.0), (1548670259, 121.0)), peer_uid=0
                        ),
                    ),
                ),
            ),
        ),
    ),
    "call_statistics_1": (
        codec.decoder(Rows[Statistic]),
        Rows(
            code=200,
            message="Success request: /beta/analytics/call/statistics",
            request_id="191xxxxxxxxxxxxxxxx0f",
            data=(Statistic(dimension_value="3.7.1.247", user_count=6, value=0.007),),
        ),
    ),
    "call_freeze_1": (
        codec.decoder(Rows[FreezeBucket]),
        Rows(
            code=200,
            message="Success request: /beta/analytics/call/freeze/bucket",
            request_id="1f7a7xxxxxxxxxxxxxxxe89d",
            data=(FreezeBucket(bucket="[3%,5%)", user_count=1), FreezeBucket(bucket="[0%,3%)", user_count=19)),
        ),
    ),
    "call_timeline_1": (
        codec.points_decoder("value"),
        Rows(
            code=200,
            message="Success request: /beta/analytics/call/statistics/time",
            request_id="139dxxxxxxxxxxxxxxxxe968",
            data=points(
                "value",
                (1692584160, 0),
                (1692584340, 0.007),
                (1692584100, 0),
                (1692584460, 0.003),
                (1692584400, 0.005),
                (1692584580, 0.05),
            ),
        ),
    ),
    "insight_usage_1": (
        codec.points_decoder("userCount"),
        ok(points("userCount", (1625155200, 42), (1625241600, 37))),
    ),
    "insight_quality_1": (
        codec.points_decoder("networkDelay"),
        ok(points("networkDelay", (1625097600, 0.064762), (1625101200, 0.028156), (1625184000, 0.03765))),
    ),
    "insight_usage_total_1": (
        codec.totals_decoder("userCount", "country"),
        ok((Total(42, "China"), Total(37, "United States")), "null"),
    ),
    "insight_usage_total_2": (
        codec.totals_decoder("userCount", "sdkVersion"),
        ok((Total(42, "3.6.1.1"), Total(37, "4.1.1")), "null"),
    ),
    "insight_usage_total_3": (
        codec.totals_decoder("userCount", "region"),
        ok((Total(42, "Shanghai"), Total(37, "Beijing")), "null"),
    ),
    "insight_quality_total_1": (
        codec.totals_decoder("audioFreezeRate", "country"),
        ok((Total(0.0017, "China", 231234), Total(0.0014, "United States", 213212)), "null"),
    ),
    "insight_quality_total_2": (
        codec.totals_decoder("audioFreezeRate", "sdkVersion"),
        ok((Total(0.0017, "3.6.1.1", 231234), Total(0.0014, "4.1.1", 213212)), "null"),
    ),
    "insight_quality_total_3": (
        codec.totals_decoder("audioFreezeRate", "region"),
        ok((Total(0.0017, "Shanghai", 231234), Total(0.0014, "Beijing", 213212)), "null"),
    ),
    "realtime_usage_1": (
        codec.points_decoder("userCount", "sdk"),
        ok(
            points(
                "userCount",
                *((ts, n, sdk) for ts, pair in zip(TIMES, ((236, 82), (235, 85), (252, 90)), strict=True)
                  for n, sdk in zip(pair, SDKS, strict=True)),
                dimension="sdk",
            ),
            None,
        ),
    ),
    "realtime_quality_1": (
        codec.points_decoder("networkDelay"),
        ok(points("networkDelay", (1631837400, 0.012), (1631837420, 0.0057), (1631837440, 0.0039))),
    ),
    "realtime_quality_2": (
        codec.user_points_decoder("networkDelay"),
        ok(users("networkDelay", *((uid, ts, 0.389) for uid in (2303692334, 2963430861) for ts in TIMES))),
    ),
    "realtime_quality_3": (
        codec.points_decoder("networkDelay", "sdk"),
        ok(
            points(
                "networkDelay",
                *((ts, n, sdk) for ts, pair in zip(TIMES, ((0.389, 0.411), (0.343, 0.363), (0.511, 0.436)), strict=True)
                  for n, sdk in zip(pair, SDKS, strict=True)),
                dimension="sdk",
            ),
            None,
        ),
    ),
    "realtime_usage_top_1": (
        codec.ranked_decoder("userCount", "sdk"),
        ok(
            (
                Ranked("3.6.1.1", 236, 1631837410, 1631837430),
                Ranked("4.1.1", 82, 1631837410, 1631837430),
                Ranked("2.9.1", 68, 1631837410, 1631837430),
            ),
            None,
        ),
    ),
    "realtime_quality_top_1": (
        codec.ranked_decoder("audioFreezeRate", "device"),
        ok(
            (
                Ranked("ldn-al00", 0.050833333333333335, 1671624000, 1671624020, 2),
                Ranked("80HH", 0, 1671624000, 1671624020, 2),
                Ranked("20KNA004CD", 0, 1671624000, 1671624020, 1),
            ),
            None,
        ),
    ),
}  # fmt: skip

# These must decode directly into their class: lenient decoding takes six times as long.
FAST = [name for name in EXPECTATIONS if "total" not in name and "top" not in name and name != "realtime_quality_2"]


def body_of(name: str) -> bytes:
    return (EXAMPLES / f"{name}.json").read_bytes()


def test_every_example_has_an_expectation_and_every_expectation_an_example():
    assert {path.stem for path in EXAMPLES.glob("*.json")} == set(EXPECTATIONS)
    assert len(EXPECTATIONS) == 20


@pytest.mark.parametrize("name", EXPECTATIONS)
def test_an_example_decodes_to_exactly_these_values(name):
    decode, expected = EXPECTATIONS[name]
    response = decode(body_of(name))
    assert response == expected
    assert repr(response) == repr(expected), "1 and 1.0 are equal, but not of the same type"


@pytest.mark.parametrize("name", FAST)
def test_an_example_of_known_fields_takes_the_fast_path(name, monkeypatch):
    def fail(*args: object) -> None:
        raise AssertionError(f"took the slow path with {args!r:.100}")

    monkeypatch.setattr(lenient, "structure", fail)
    monkeypatch.setattr(rows, "point", fail)
    decode, expected = EXPECTATIONS[name]
    assert decode(body_of(name)) == expected


@pytest.mark.parametrize("name", FAST)
def test_unknown_fields_at_every_level_are_ignored(name):
    def with_unknown_fields(value):
        if isinstance(value, dict):
            return {key: with_unknown_fields(item) for key, item in value.items()} | {"brandNew": [{"x": None}]}
        return [with_unknown_fields(item) for item in value] if isinstance(value, list) else value

    decode, expected = EXPECTATIONS[name]
    assert decode(json.dumps(with_unknown_fields(json.loads(body_of(name)))).encode()) == expected


@pytest.mark.parametrize("name", [name for name in EXPECTATIONS if name not in FAST])
def test_an_unknown_field_is_ignored_where_the_value_is_found_by_elimination(name):
    document = json.loads(body_of(name)) | {"brandNew": 1}
    rows = document["data"]["list"] if isinstance(document["data"], dict) else document["data"]
    for row in rows:
        row["brandNew"] = 7
    decode, expected = EXPECTATIONS[name]
    assert decode(json.dumps(document).encode()) == expected


# Results of the client, where they differ from the rows as the service sent them.
async def client_result(name: str, invoke, now: int) -> object:
    return await run(invoke(make_client(Recorder(body_of(name)), now=now)))


async def test_a_timeline_is_sorted_by_time():
    result = await client_result(
        "call_timeline_1",
        lambda c: c.calls.timeline("c", "audio_freeze_rate", 1692584000, 1692585000),
        1692590000,
    )
    assert [(point.ts, point.value) for point in result] == [
        (1692584100, 0),
        (1692584160, 0),
        (1692584340, 0.007),
        (1692584400, 0.005),
        (1692584460, 0.003),
        (1692584580, 0.05),
    ]


async def test_freeze_buckets_are_sorted_lowest_first():
    result = await client_result(
        "call_freeze_1", lambda c: c.calls.freeze_buckets("c", "audio_freeze_rate", 1692584000, 1692585000), 1692590000
    )
    assert result == (FreezeBucket(bucket="[0%,3%)", user_count=19), FreezeBucket(bucket="[3%,5%)", user_count=1))


async def test_points_by_user_are_sorted_by_time():
    result = await client_result(
        "realtime_quality_2",
        lambda c: c.realtime.quality(
            "networkDelay", 1631837410, 1631837470, product="Native", cname="demoChannel", uids=[2303692334, 2963430861]
        ),
        1631837500,
    )
    assert [(point.ts, point.uid) for point in result] == [
        (ts, uid) for ts in TIMES for uid in (2303692334, 2963430861)
    ]


def test_a_response_without_data_decodes_as_an_envelope():
    assert codec.envelope({"code": 200, "message": "x", "requestId": "y"}) == Answer(
        code=200, message="x", request_id="y"
    )
