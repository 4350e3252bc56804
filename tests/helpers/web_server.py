"""The live page on a loopback socket, and what a viewer does with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from agora_analytics import Gap, Point, Revision, Series, Span, Window
from agora_analytics.ops.web.routes import VIEWERS


class Site(NamedTuple):
    """A server, its port, a session whose base URL is its root, and what ends the server."""

    runner: web.AppRunner
    port: int
    http: aiohttp.ClientSession

    def viewers(self) -> int:
        """The number of streams of events that are open."""
        return self.runner.app[VIEWERS].count

    async def stop(self) -> None:
        await self.runner.cleanup()

    async def get(self, path: str, **more: Any) -> Any:
        """Return the JSON at a path, which must be there."""
        async with self.http.get(path, **more) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def status(self, path: str, method: str = "GET", **more: Any) -> int:
        async with self.http.request(method, path, **more) as response:
            await response.read()
            return response.status


@asynccontextmanager
async def site(application: web.Application, port: int = 0, **more: Any) -> AsyncIterator[Site]:
    """Serve an application on a port of loopback."""
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=2, **more)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        used = runner.addresses[0][1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{used}") as http:
            yield Site(runner, used, http)
    finally:
        await runner.cleanup()


async def until(check: Callable[[], object]) -> None:
    """Wait for something that happens in another task or process."""
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)


async def raw(port: int, head: str, body: bytes = b"") -> bytes:
    """Return the answer to a request as it is on the wire."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


class Sse(NamedTuple):
    """One server-sent event."""

    id: str
    kind: str
    data: str


async def next_event(response: aiohttp.ClientResponse, kind: str = "") -> Sse:
    """Return the next event of a stream, or the next of a kind; comments are skipped."""
    while True:
        fields: dict[str, str] = {}
        while line := (await asyncio.wait_for(response.content.readline(), 20)).decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        assert fields, "the stream has ended"
        if "event" in fields and kind in {"", fields["event"]}:
            return Sse(fields["id"], fields["event"], fields["data"])


def window(ts: int, final: bool = False, **values: Any) -> Window:
    """A window of `userCount` of a product for each keyword; None: the service had no data."""
    known = {Series("userCount", product=name): value for name, value in values.items()}
    return Window(
        ts=ts,
        values={one: (Point.of(ts, value, metric="userCount"),) for one, value in known.items() if value is not None},
        missing={one: "no data" for one, value in known.items() if value is None},
        final=final,
    )


def revision(ts: int, product: str, before: int | None, after: int) -> Revision:
    series = Series("userCount", product=product)
    old = () if before is None else (Point.of(ts, before, metric="userCount"),)
    return Revision(ts=ts, series=series, before=old, after=(Point.of(ts, after, metric="userCount"),))


def gap(start: int, end: int) -> Gap:
    return Gap(span=Span(start, end), reason="outage")


def grouped(ts: int, series: Series, values: Iterable[tuple[str, int]]) -> Window:
    points = (
        Point.of(ts, value, metric=series.metric, dimension=series.dimension, dimension_value=name)
        for name, value in values
    )
    return Window(ts=ts, values={series: tuple(points)})
