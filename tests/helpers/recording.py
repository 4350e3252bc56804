"""A transport that records requests, and a client that uses it and whose clock stands still."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from agora_analytics import AnalyticsClient
from agora_analytics.protocols import Request, Response

# An empty response of every endpoint at once.
EMPTY = b'{"code":200,"message":"","call_lists":[],"call_info":[],"metrics":[],"data":[]}'


class Recorder:
    """A transport that records the requests, and returns the same response to each."""

    hosts = 1

    def __init__(self, body: bytes = EMPTY) -> None:
        self.body = body
        self.sent: list[Request] = []

    async def send(self, request: Request, host: int = 0) -> Response:
        assert host == 0
        self.sent.append(request)
        return Response(200, {}, self.body)

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def only_request(self) -> Request:
        (request,) = self.sent
        return request


def make_client(recorder: Recorder, *, app_id: str = "app", now: float = 1_631_837_500.0, **options: Any):
    settings = {"plan": "enterprise", "quotas": False} | options
    return AnalyticsClient("customer", "the-secret", app_id=app_id, clock=lambda: now, transport=recorder, **settings)


async def run(result: Any) -> Any:
    """Return the result of a method of the client, awaited, or as a list if it is an iterator."""
    if hasattr(result, "__await__"):
        return await result
    return [item async for item in result]


def query(request: Request) -> dict[str, str]:
    """Return the parameters of a query; fail if a name appears twice."""
    pairs = parse_qsl(request.query, keep_blank_values=True, strict_parsing=True)
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def body(request: Request) -> Any:
    return None if request.body is None else json.loads(request.body)
