"""A call of every endpoint method, and a client whose transport returns the same response to all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from agora_analytics import AnalyticsClient, Retry
from agora_analytics.protocols import Request, Response

NOW = 1_795_521_600
START, END = NOW - 2_400, NOW - 900

Invoke = Callable[[AnalyticsClient], Any]


class FixedResponse:
    """A transport that returns the same body to every request."""

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
class EndpointCall:
    """How to call a method, which field of the response has the rows, a valid row, and a numeric field of that row."""

    invoke: Invoke
    rows_field: str
    valid_row: dict[str, Any]
    number_field: str
    is_iterator: bool = False
    in_list_object: bool = False

    async def fetch(self, client: AnalyticsClient) -> tuple[Any, list[Any]]:
        """Return the result of the method, and its items."""
        result: Any = self.invoke(client)
        if self.is_iterator:
            return result, [one async for one in result]
        page: Awaitable[Any] = result
        result_page = await page
        return result_page, list(getattr(result_page, "items", result_page))


def make_client(body: bytes, **options: Any) -> AnalyticsClient:
    return AnalyticsClient(
        "id",
        "secret",
        app_id="app",
        plan="enterprise",
        transport=FixedResponse(body),
        clock=lambda: NOW,
        retry=Retry(attempts=1),
        quotas=False,
        **options,
    )


_POINT = {"ts": START, "userCount": 3}
_CALL = {"call_id": "c", "created_ts": START, "call_acu": 1.5}
_SESSION = {"sid": "s", "join_ts": START, "user_audio_freeze_rate": 0.5}
_METRICS = {"sid": "s", "data": [{"mid": 20001, "kvs": [[START, 1.5]]}]}
_CALL_METRIC = ("c", "audio_freeze_rate")

ENDPOINT_CALLS = {
    "page": EndpointCall(lambda client: client.calls.page(START, END), "call_lists", _CALL, "call_acu"),
    "search": EndpointCall(
        lambda client: client.calls.search(START, END), "call_lists", _CALL, "call_acu", is_iterator=True
    ),
    "sessions_page": EndpointCall(
        lambda client: client.calls.sessions_page("c", START, END), "call_info", _SESSION, "user_audio_freeze_rate"
    ),
    "sessions": EndpointCall(
        lambda client: client.calls.sessions("c", START, END),
        "call_info",
        _SESSION,
        "user_audio_freeze_rate",
        is_iterator=True,
    ),
    "metrics": EndpointCall(
        lambda client: client.calls.metrics("c", ["s"], START, END), "metrics", _METRICS, "", is_iterator=True
    ),
    "statistics": EndpointCall(
        lambda client: client.calls.statistics(*_CALL_METRIC, "os", START, END),
        "data",
        {"dimension_value": "iOS", "user_count": 3, "value": 0.5},
        "value",
    ),
    "freeze_buckets": EndpointCall(
        lambda client: client.calls.freeze_buckets(*_CALL_METRIC, START, END),
        "data",
        {"bucket": "[3%,5%)", "user_count": 3},
        "user_count",
    ),
    "timeline": EndpointCall(
        lambda client: client.calls.timeline("c", "user_count", START, END), "data", {"ts": START, "value": 3}, "value"
    ),
    "insights.usage": EndpointCall(
        lambda client: client.insights.usage("userCount", START, END), "data", _POINT, "userCount"
    ),
    "insights.quality": EndpointCall(
        lambda client: client.insights.quality("networkDelay", START, END, product="Native"),
        "data",
        {"ts": START, "networkDelay": 3},
        "networkDelay",
    ),
    "usage_total": EndpointCall(
        lambda client: client.insights.usage_total("userCount", START, END, dimension="os"),
        "data",
        {"userCount": 3, "os": "iOS"},
        "userCount",
    ),
    "quality_total": EndpointCall(
        lambda client: client.insights.quality_total("networkDelay", START, END, dimension="os"),
        "data",
        {"networkDelay": 3, "os": "iOS", "refUsage": 4},
        "refUsage",
    ),
    "realtime.usage": EndpointCall(
        lambda client: client.realtime.usage("userCount", START, END, product="Native"), "data", _POINT, "userCount"
    ),
    "realtime.quality": EndpointCall(
        lambda client: client.realtime.quality("networkDelay", START, END, product="Native", dimension="os"),
        "data",
        {"ts": START, "networkDelay": 3, "os": "iOS"},
        "networkDelay",
    ),
    "quality of users": EndpointCall(
        lambda client: client.realtime.quality("networkDelay", START, END, product="Native", cname="c", uids=[7]),
        "data",
        {"uid": 7, "values": [{"ts": START, "networkDelay": 3}]},
        "",
    ),
    "usage_top": EndpointCall(
        lambda client: client.realtime.usage_top("os", START, product="Native"),
        "data",
        {"os": "iOS", "userCount": 3},
        "userCount",
        in_list_object=True,
    ),
    "quality_top": EndpointCall(
        lambda client: client.realtime.quality_top(
            "networkDelay", "os", START, product="Native", extra_metrics="userCount"
        ),
        "data",
        {"os": "iOS", "networkDelay": 3, "userCount": 3},
        "userCount",
        in_list_object=True,
    ),
}
