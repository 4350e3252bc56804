"""A fast simulated Agora in a process of its own: each response is built once, then cached.

`python -m benchmarks._canned CALLS_PER_HOUR TYPICAL_MINUTES LARGE_SHARE` prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast
from urllib.parse import parse_qsl

from agora_analytics import Plan
from agora_analytics.simulator import CUSTOMER_ID, CUSTOMER_SECRET, Service, World
from agora_analytics.simulator.service.service import basic_auth

_AUTHORIZATION = basic_auth(CUSTOMER_ID, CUSTOMER_SECRET)


def plan() -> Plan:
    """Return the enterprise plan, with rate limits that are never reached."""
    found = Plan.of("enterprise")
    for table, limits in found.limits.items():
        rates: dict[str, Any] = {f"per_{unit}": 10**9 for unit in limits.rates}
        found = found.with_limits(table, **rates)
    return found


class _Server(asyncio.Protocol):
    """Answers requests that end with an empty line."""

    transport: asyncio.WriteTransport

    def __init__(self, service: Service, known: dict[tuple[str, frozenset[tuple[str, str]]], bytes]) -> None:
        self._service = service
        self._known = known
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            path, _, query = head.split(b" ", 2)[1].decode().partition("?")
            self.transport.write(self._answer(path, query))

    def _answer(self, path: str, query: str) -> bytes:
        # Contestants order parameters differently, and must not get different responses.
        key = (path, frozenset(parse_qsl(query)))
        if key not in self._known:
            body = self._service.answer("GET", path, query, None, _AUTHORIZATION).body
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self._known[key] = head.encode() + body
        return self._known[key]


async def _serve(calls_per_hour: float, typical_minutes: float, large_share: float) -> None:
    world = World(
        seed=7,
        calls_per_hour=calls_per_hour,
        typical_minutes=typical_minutes,
        large_share=large_share,
        long_share=0.0,
    )
    service = Service(world, plan())
    known: dict[tuple[str, frozenset[tuple[str, str]]], bytes] = {}
    server = await asyncio.get_running_loop().create_server(lambda: _Server(service, known), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(*map(float, sys.argv[1:])))
