"""The endpoints as a caller uses them, each with one request and a complete response by the reference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs

from agora_analytics import AnalyticsClient

NOW: Final = 1_795_521_600
_HOUR: Final = NOW - 7_200, NOW - 3_600
_DAYS: Final = NOW - 5 * 86_400, NOW - 3 * 86_400
_WINDOWS: Final = NOW - 600, NOW - 200

Ask = Callable[[AnalyticsClient], Awaitable[object]]


@attrs.frozen
class Door:
    """An endpoint: its name, the request, a response, and the key of its rows."""

    name: str
    ask: Ask
    answer: dict[str, Any]
    rows: str = "data"


async def _metrics(client: AnalyticsClient) -> object:
    return [one async for one in client.calls.metrics("C1", ["S0", "S1"], *_HOUR)]


def _call(number: int) -> dict[str, Any]:
    return {
        "call_id": f"{number:032X}",
        "cname": "room-7",
        "created_ts": _HOUR[0],
        "destroyed_ts": _HOUR[1],
        "finished": True,
        "call_pcu": 4,
        "call_acu": 2.25,
        "call_audio_freeze_rate": 0.0125,
        "call_video_freeze_rate": None,
    }


def _session(number: int) -> dict[str, Any]:
    return {
        "sid": f"S{number}",
        "cname": "room-7",
        "uid": 3_209_008_386,
        "account": "user_1",
        "network": "WIFI",
        "platform": "iOS",
        "speaker": True,
        "roles": ["Host"],
        "sdk_version": "4.2.1",
        "device_type": "iPhone14,1",
        "join_ts": _HOUR[0],
        "leave_ts": _HOUR[1],
        "finished": True,
        "user_audio_freeze_rate": 0.01,
        "user_video_freeze_rate": 0.02,
    }


def _tracks(number: int) -> dict[str, Any]:
    kvs = [[_HOUR[0] + 2 * at, 31 if at % 2 else 30.5] for at in range(4)]
    return {"sid": f"S{number}", "data": [{"mid": 20_001, "peer_uid": 0, "kvs": kvs}]}


def _rows(**row: Any) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": [row, {**row, "ts": row.get("ts", 0) + 20}]}


def _paged(rows: str, *found: dict[str, Any]) -> dict[str, Any]:
    paging = {"has_more": False, "total_size": len(found), "page_no": 1, "page_size": 100}
    return {"code": 200, "message": "", "requestId": "c14975ab521e7fa2", rows: list(found), **paging}


_TOP: Final = {
    "code": 200,
    "message": "success",
    "windowStartTs": _WINDOWS[0],
    "windowEndTs": _WINDOWS[0] + 20,
    "data": {"list": [{"country": "China", "userCount": 12, "audioFreezeRate": 0.1}] * 2},
}

DOORS: Final = (
    Door(
        "calls.page", lambda client: client.calls.page(*_HOUR), _paged("call_lists", _call(1), _call(2)), "call_lists"
    ),
    Door(
        "calls.sessions",
        lambda client: client.calls.sessions_page("C1", *_HOUR),
        _paged("call_info", _session(0), _session(1)),
        "call_info",
    ),
    Door("calls.metrics", _metrics, {"code": 200, "requestId": "r", "metrics": [_tracks(0), _tracks(1)]}, "metrics"),
    Door(
        "calls.statistics",
        lambda client: client.calls.statistics("C1", "audioFreezeRate", "network", *_HOUR),
        _rows(dimension_value="WIFI", user_count=3, value=0.25),
    ),
    Door(
        "calls.freeze_buckets",
        lambda client: client.calls.freeze_buckets("C1", "audioFreezeRate", *_HOUR),
        _rows(bucket="[3%,5%)", user_count=3),
    ),
    Door(
        "calls.timeline",
        lambda client: client.calls.timeline("C1", "userCount", *_HOUR),
        _rows(ts=_HOUR[0], value=4.5),
    ),
    Door(
        "insights.usage",
        lambda client: client.insights.usage("userCount", *_DAYS),
        _rows(ts=_DAYS[0], userCount=4),
    ),
    Door(
        "insights.quality",
        lambda client: client.insights.quality("audioFreezeRate", *_DAYS, product="Native"),
        _rows(ts=_DAYS[0], audioFreezeRate=0.5),
    ),
    Door(
        "insights.usage_total",
        lambda client: client.insights.usage_total("userCount", *_DAYS, dimension="country"),
        _rows(country="China", userCount=400),
    ),
    Door(
        "insights.quality_total",
        lambda client: client.insights.quality_total("audioFreezeRate", *_DAYS, dimension="country"),
        _rows(country="China", audioFreezeRate=0.125, refUsage=80),
    ),
    Door(
        "realtime.usage",
        lambda client: client.realtime.usage("userCount", *_WINDOWS, product="Native"),
        _rows(ts=_WINDOWS[0], userCount=4),
    ),
    Door(
        "realtime.usage by country",
        lambda client: client.realtime.usage("userCount", *_WINDOWS, product="Native", dimension="country"),
        _rows(ts=_WINDOWS[0], userCount=4, country="China"),
    ),
    Door(
        "realtime.quality of users",
        lambda client: client.realtime.quality("audioFreezeRate", *_WINDOWS, product="Native", cname="room", uids=[7]),
        {"code": 200, "data": [{"uid": 7, "values": [{"ts": _WINDOWS[0], "audioFreezeRate": 0.5}]}]},
    ),
    Door(
        "realtime.quality",
        lambda client: client.realtime.quality("audioFreezeRate", *_WINDOWS, product="Native"),
        _rows(ts=_WINDOWS[0], audioFreezeRate=0.5),
    ),
    Door(
        "realtime.usage_top",
        lambda client: client.realtime.usage_top("country", _WINDOWS[0], product="Native"),
        _TOP,
    ),
    Door(
        "realtime.quality_top",
        lambda client: client.realtime.quality_top(
            "audioFreezeRate", "country", _WINDOWS[0], product="Native", extra_metrics="userCount"
        ),
        _TOP,
    ),
)
