"""A service whose dimensions have any values."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qsl

import attrs

from agora_analytics.protocols import Request, Response, Transport


class ManyValues:
    """A transport that replaces the rows by those of `values(metric)`, number by dimension value, in few windows."""

    def __init__(self, inner: Transport, values: Callable[[str], dict[str, float]], windows: int = 3) -> None:
        self._inner = inner
        self._values = values
        self._windows = windows
        self.hosts = inner.hosts

    async def send(self, request: Request, host: int = 0) -> Response:
        response = await self._inner.send(request, host)
        query, answer = dict(parse_qsl(request.query)), json.loads(response.body)
        if not isinstance(answer.get("data"), list) or "dimension" not in query:
            return response
        metric, dimension = query["metric"], query["dimension"]
        answer["data"] = [
            {"ts": ts, metric: number, dimension: value}
            for ts in sorted({row["ts"] for row in answer["data"]})[-self._windows :]
            for value, number in self._values(metric).items()
        ]
        return attrs.evolve(response, body=json.dumps(answer).encode())

    def scrub(self, body: bytes) -> bytes:
        return self._inner.scrub(body)

    async def close(self) -> None:
        await self._inner.close()
