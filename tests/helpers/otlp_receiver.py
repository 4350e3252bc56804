"""A receiver of OTLP over HTTP that decodes requests with the official generated classes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from helpers.streaming import USERS
from helpers.times import NOON
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from agora_analytics import Window
from agora_analytics.models import Point

PROTOBUF = "application/x-protobuf"

Key = tuple[str, int, tuple[tuple[str, str], ...]]
"""The metric, the nanoseconds and the attributes of a data point."""


def answer(status: int = 200, *, rejected: int = 0, message: str = "") -> web.Response:
    """Return an answer of the specification, which may report points that were rejected."""
    response = ExportMetricsServiceResponse()
    if rejected or message:
        response.partial_success.rejected_data_points = rejected
        response.partial_success.error_message = message
    return web.Response(status=status, body=response.SerializeToString(), content_type=PROTOBUF)


class OtlpReceiver:
    """Gives each of `answers`, and then accepts everything."""

    def __init__(self, *answers: web.Response) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.accepted: list[ExportMetricsServiceRequest] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        if self.answers:
            return self.answers.pop(0)
        if request.content_type != PROTOBUF:
            return web.Response(status=415)
        self.accepted.append(ExportMetricsServiceRequest.FromString(body))
        return answer()

    def metrics(self) -> list[Metric]:
        """Return all metrics that were accepted."""
        return [
            metric
            for request in self.accepted
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def points(self) -> dict[Key, float]:
        """Return the value of each data point."""
        return {
            (
                metric.name,
                point.time_unix_nano,
                tuple((one.key, one.value.string_value) for one in point.attributes),
            ): point.as_double
            for metric in self.metrics()
            for point in metric.gauge.data_points
        }

    def timestamps(self) -> list[int]:
        """Return the times of all data points in seconds, in order, each once."""
        return sorted({nanoseconds // 10**9 for _, nanoseconds, _ in self.points()})


class SilentReceiver(OtlpReceiver):
    """Accepts connections and never answers; `left` is set when the client closes one."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.left = asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        raise AssertionError


class StreamingReceiver(OtlpReceiver):
    """Answers with parts that follow each other after so many seconds; `written` counts their bytes."""

    def __init__(self, *parts: bytes, seconds: float = 0.0, headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self.parts, self.seconds, self.headers = parts, seconds, headers
        self.written = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers=self.headers)
        await response.prepare(request)
        for part in self.parts:
            await response.write(part)
            self.written += len(part)
            await asyncio.sleep(self.seconds)
        return response


@asynccontextmanager
async def receiving(receiver: OtlpReceiver) -> AsyncIterator[str]:
    """Serve a receiver, and return its URL."""
    application = web.Application()
    application.router.add_post("/v1/metrics", receiver.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/metrics"
    finally:
        await runner.cleanup()


def window(value: float = 3, *, ts: int = NOON, **more) -> Window:
    """Return a window with a number of users."""
    points = (Point.of(ts, value, metric="userCount"),)
    return Window(ts=ts, **{"values": {USERS: points}, "final": True} | more)
