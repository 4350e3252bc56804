"""What a request costs compared with aiohttp: CPU time against a bare loop of get, read and typed decoding.

Both send their requests to a server in a process of its own, which always gives the same response.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from random import Random
from typing import Any, cast

import aiohttp
import msgspec
import orjson

from agora_analytics import AnalyticsClient, Plan
from agora_analytics.models import CallPage
from benchmarks import _answers
from benchmarks._measure import Row, compare

_CALLS = 100
Ask = Callable[[], Awaitable[object]]


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure one request at a time, and fifty at a time."""
    yield from asyncio.run(_measure(rounds=5 if quick else 25, requests=500 if quick else 2_000))


async def _measure(rounds: int, requests: int) -> list[Row]:
    rows: list[Row] = []
    async with serving() as url, _bare(url) as bare, client(url, quotas=False) as off, client(url) as on:
        for concurrency in (1, 50):
            asks = {"bare": bare, "off": off, "on": on}
            found = await interleaved(asks, rounds, requests, concurrency)
            for name in ("off", "on"):
                what = f"request, {concurrency} at a time, quotas {name}"
                rows.append(compare(what, found[name], "bare aiohttp", found["bare"], target=1.3))
    return rows


async def interleaved(asks: dict[str, Ask], rounds: int, requests: int, concurrency: int) -> dict[str, list[float]]:
    """Let every contestant measure itself once a round, each round beginning with another; one is not counted."""
    names = list(asks)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            seconds = await _timed(asks[name], requests, concurrency)
            if number:
                found[name].append(seconds)
    return found


async def _timed(ask: Ask, requests: int, concurrency: int) -> float:
    """CPU seconds per request."""

    async def work() -> None:
        for _ in range(requests // concurrency):
            await ask()

    begun = time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return (time.process_time() - begun) / (requests // concurrency * concurrency)


@asynccontextmanager
async def _bare(url: str) -> AsyncIterator[Ask]:
    # Typed, because a loop that leaves dictionaries does less than is compared.
    decode = msgspec.json.Decoder(_answers.wire_class(CallPage)).decode
    headers = {"Authorization": "Basic eDp5", "Accept": "application/json"}
    end = int(time.time()) - 100
    address = f"{url}/beta/analytics/call/lists?appid=app&start_ts={end - 600}&end_ts={end}&page_no=1&page_size=100"
    async with aiohttp.ClientSession() as session:

        async def ask() -> object:
            async with session.get(address, headers=headers) as answer:
                return decode(await answer.read())

        yield ask


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[Ask]:
    """Yield a function that reads a page."""
    # Never reached: the cost of counting is measured, and not the wait.
    plan = Plan.of("enterprise").with_limits("call_lists", per_second=10**6, per_day=10**9)
    async with AnalyticsClient("x", "y-secret", app_id="app", plan=plan, base_url=url, **options) as reader:
        span = reader.calls.recent(600)
        yield lambda: reader.calls.page(*span)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Run the server in a process of its own and yield its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.overhead", stdout=asyncio.subprocess.PIPE
    )
    try:
        port = int(await (process.stdout or asyncio.StreamReader()).readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


class _Server(asyncio.Protocol):
    """Gives the same response to everything that ends with an empty line."""

    body = orjson.dumps(
        {
            "code": 200,
            "message": "success",
            "call_lists": [_answers.call(Random(number)) for number in range(_CALLS)],  # noqa: S311 - the same at every run
            **_answers.paging(),
        }
    )

    transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request."""
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(self.body)}\r\nDate: {formatdate(usegmt=True)}\r\n\r\n"
        ).encode()
        for _ in range(data.count(b"\r\n\r\n")):
            self.transport.write(head + self.body)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
