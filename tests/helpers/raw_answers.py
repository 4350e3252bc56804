"""Every question that an endpoint can be asked, over a transport that gives the same answer to all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from agora_analytics import AnalyticsClient, Retry
from agora_analytics.protocols import Request, Response

NOW = 1_795_521_600
START, END = NOW - 2_400, NOW - 900

Ask = Callable[[AnalyticsClient], Any]


class Answering:
    """Answers every request with the same body."""

    hosts = 1

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def send(self, request: Request, host: int = 0) -> Response:
        return Response(200, {}, self._body)

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        pass


@attrs.frozen
class Question:
    """What is asked, in which field of the answer its rows are, a good row, and a field of it that holds a number."""

    ask: Ask
    rows: str
    row: dict[str, Any]
    number: str
    many: bool = False
    listed: bool = False

    async def answer(self, client: AnalyticsClient) -> tuple[Any, list[Any]]:
        """Return what is returned, and the items of it."""
        found: Any = self.ask(client)
        if self.many:
            return found, [one async for one in found]
        page: Awaitable[Any] = found
        whole = await page
        return whole, list(getattr(whole, "items", whole))


def client_of(body: bytes, **options: Any) -> AnalyticsClient:
    return AnalyticsClient(
        "id",
        "secret",
        app_id="app",
        plan="enterprise",
        transport=Answering(body),
        clock=lambda: NOW,
        retry=Retry(attempts=1),
        quotas=False,
        **options,
    )


_POINT = {"ts": START, "userCount": 3}
_CALL = {"call_id": "c", "created_ts": START, "call_acu": 1.5}
_SESSION = {"sid": "s", "join_ts": START, "user_audio_freeze_rate": 0.5}
_METRICS = {"sid": "s", "data": [{"mid": 20001, "kvs": [[START, 1.5]]}]}
_OF_CALL = ("c", "audio_freeze_rate")

QUESTIONS = {
    "page": Question(lambda client: client.calls.page(START, END), "call_lists", _CALL, "call_acu"),
    "search": Question(lambda client: client.calls.search(START, END), "call_lists", _CALL, "call_acu", many=True),
    "sessions_page": Question(
        lambda client: client.calls.sessions_page("c", START, END), "call_info", _SESSION, "user_audio_freeze_rate"
    ),
    "sessions": Question(
        lambda client: client.calls.sessions("c", START, END),
        "call_info",
        _SESSION,
        "user_audio_freeze_rate",
        many=True,
    ),
    "metrics": Question(
        lambda client: client.calls.metrics("c", ["s"], START, END), "metrics", _METRICS, "", many=True
    ),
    "statistics": Question(
        lambda client: client.calls.statistics(*_OF_CALL, "os", START, END),
        "data",
        {"dimension_value": "iOS", "user_count": 3, "value": 0.5},
        "value",
    ),
    "freeze_buckets": Question(
        lambda client: client.calls.freeze_buckets(*_OF_CALL, START, END),
        "data",
        {"bucket": "[3%,5%)", "user_count": 3},
        "user_count",
    ),
    "timeline": Question(
        lambda client: client.calls.timeline("c", "user_count", START, END), "data", {"ts": START, "value": 3}, "value"
    ),
    "insights.usage": Question(
        lambda client: client.insights.usage("userCount", START, END), "data", _POINT, "userCount"
    ),
    "insights.quality": Question(
        lambda client: client.insights.quality("networkDelay", START, END, product="Native"),
        "data",
        {"ts": START, "networkDelay": 3},
        "networkDelay",
    ),
    "usage_total": Question(
        lambda client: client.insights.usage_total("userCount", START, END, dimension="os"),
        "data",
        {"userCount": 3, "os": "iOS"},
        "userCount",
    ),
    "quality_total": Question(
        lambda client: client.insights.quality_total("networkDelay", START, END, dimension="os"),
        "data",
        {"networkDelay": 3, "os": "iOS", "refUsage": 4},
        "refUsage",
    ),
    "realtime.usage": Question(
        lambda client: client.realtime.usage("userCount", START, END, product="Native"), "data", _POINT, "userCount"
    ),
    "realtime.quality": Question(
        lambda client: client.realtime.quality("networkDelay", START, END, product="Native", dimension="os"),
        "data",
        {"ts": START, "networkDelay": 3, "os": "iOS"},
        "networkDelay",
    ),
    "quality of users": Question(
        lambda client: client.realtime.quality("networkDelay", START, END, product="Native", cname="c", uids=[7]),
        "data",
        {"uid": 7, "values": [{"ts": START, "networkDelay": 3}]},
        "",
    ),
    "usage_top": Question(
        lambda client: client.realtime.usage_top("os", START, product="Native"),
        "data",
        {"os": "iOS", "userCount": 3},
        "userCount",
        listed=True,
    ),
    "quality_top": Question(
        lambda client: client.realtime.quality_top(
            "networkDelay", "os", START, product="Native", extra_metrics="userCount"
        ),
        "data",
        {"os": "iOS", "networkDelay": 3, "userCount": 3},
        "userCount",
        listed=True,
    ),
}
