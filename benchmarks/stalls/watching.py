"""A watch of 57 series for some hours; its service runs in the same process and is not counted."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from agora_analytics import AnalyticsClient, FileCheckpoints, Plan, Series
from agora_analytics.models import Rows, shape
from agora_analytics.protocols import Request, Response
from benchmarks.stalls.meter import excuse

_NOON: Final = 1_795_521_600
_SERIES: Final = 57
_HOURS: Final = 1
_WINDOW: Final = 20


class _Service:
    """Answers each request for real-time windows with every window of its span."""

    hosts = 1

    def __init__(self, groups: int) -> None:
        self._groups = groups

    async def send(self, request: Request, host: int = 0) -> Response:  # noqa: ARG002 - as the seam has it
        asked = {name: values[0] for name, values in parse_qs(request.query).items()}
        body = _body(asked["metric"], int(asked["startTs"]), int(asked["endTs"]), self._groups)
        await asyncio.sleep(0.03)
        return Response(200, {}, body)

    def scrub(self, body: bytes) -> bytes:
        return body

    async def close(self) -> None:
        pass


@lru_cache(maxsize=100_000)
def _rows(metric: str, ts: int, groups: int) -> bytes:
    if not groups:
        return b'{"%s":%d,"ts":%d}' % (metric.encode(), ts % 997, ts)
    each = (b'{"%s":%d,"country":"C%d","ts":%d}' % (metric.encode(), ts % 997, at, ts) for at in range(groups))
    return b",".join(each)


def _body(metric: str, start: int, end: int, groups: int) -> bytes:
    begun = time.perf_counter()
    rows = b",".join(_rows(metric, ts, groups) for ts in range(-(-start // _WINDOW) * _WINDOW, end, _WINDOW))
    body = b'{"code":200,"message":"success","data":[%s]}' % rows
    excuse(time.perf_counter() - begun)
    return body


async def watch(job: dict[str, Any]) -> None:
    """Watch with this library, with a checkpoint in a file."""
    now = asyncio.get_running_loop().time
    limits = Plan.of("enterprise").with_limits("realtime", per_minute=10**6, per_day=10**7)
    client = AnalyticsClient(
        *("customer", "secret"),
        app_id="app",
        plan=limits,
        quotas=False,
        transport=_Service(job["groups"]),
        checkpoints=FileCheckpoints(job["folder"]),
        clock=lambda: _NOON + now(),
    )
    dimension = "country" if job["groups"] else None
    series = [Series("userCount", product="Native", cname=f"room-{at}", dimension=dimension) for at in range(_SERIES)]
    stream = client.realtime.watch(*series, stop=_NOON + _HOURS * 3_600, checkpoint="watch")
    async with client, aclosing(stream):
        async for _ in stream:
            pass


async def watch_bare(job: dict[str, Any]) -> None:
    """Send as many requests, decode with msgspec alone, and keep the last value of each window."""
    row: Any = shape("userCount", "country" if job["groups"] else None)
    decode = msgspec.json.Decoder(Rows[row]).decode
    seen: dict[tuple[int, int], float] = {}
    for poll in range(_HOURS * 180):
        end = _NOON + poll * _WINDOW
        for series in range(_SERIES):
            body = _body("userCount", end - 3_540, end, job["groups"])
            await asyncio.sleep(0)
            for point in decode(body).items:
                seen[series, point.ts] = point.value
            await asyncio.sleep(0)
