"""The simulated service over HTTP on real sockets; faults are injected into the connection itself.

From a shell: `agora-analytics simulate`. This is the only module of the simulator that imports aiohttp.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
from aiohttp import web

from agora_analytics._core import validation
from agora_analytics.protocols import Response
from agora_analytics.simulator.service.params import IncomingRequest
from agora_analytics.simulator.service.service import Service

_CHUNK = 2**16
_SHUTDOWN_TIMEOUT = 1.0
"""Seconds that shutdown waits for open connections before it drops them."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with a timeout of 0: closing sends RST instead of FIN."""

_NO_DATE = {"Date": ""}
"""Without this header aiohttp would write the real time, which is not the service's."""


@asynccontextmanager
async def serve(service: Service, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve on one port (0: any free port) and yield the base URL, such as `http://127.0.0.1:40123`.

    ```python
    import asyncio

    from agora_analytics import AnalyticsClient
    from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service, World
    from agora_analytics.simulator.server import serve


    async def main():
        service = Service(World(seed=7), "premium")
        async with serve(service) as url:
            client = AnalyticsClient(CUSTOMER_ID, CUSTOMER_SECRET, app_id=APP_ID, plan="premium", base_url=url)
            async with client:
                await client.calls.page(*client.calls.recent(3_600))
        assert service.counts == {"call_lists": 1}


    asyncio.run(main())
    ```
    """
    async with serve_hosts(service, 1, host=host, port=port) as urls:
        yield urls[0]


@asynccontextmanager
async def serve_hosts(
    service: Service, count: int = 2, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[tuple[str, ...]]:
    """Serve on `count` ports, each of which stands for one of Agora's hosts, and yield their base URLs in order.

    A `port` other than 0 is the first of `count` consecutive ports.
    """
    validation.instance("service", service, Service)
    validation.non_empty_str("host", host)
    port = validation.int_in_range("port", port, 0, 65_535)
    count = validation.int_in_range("count", count, 1, 65_536 - port)
    async with AsyncExitStack() as stack:
        yield tuple(
            [
                await stack.enter_async_context(_listening(_Host(service, index), host, port + index if port else 0))
                for index in range(count)
            ]
        )


@asynccontextmanager
async def _listening(handler: _Host, host: str, port: int) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler.handle), shutdown_timeout=_SHUTDOWN_TIMEOUT)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{_loopback(host)}:{runner.addresses[0][1]}"
    finally:
        # First: it ends the delays of `slow` faults, which the cleanup would otherwise wait out.
        handler.closing.set()
        await runner.cleanup()


def _loopback(host: str) -> str:
    """Return the address at which a local client reaches a server that listens on `host`, spelled for a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - this is what is replaced
    return f"[{host}]" if ":" in host else host


@attrs.frozen
class _Host:
    """Handles the HTTP requests to one host, and injects faults."""

    service: Service
    index: int
    closing: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        incoming = self._incoming(request, await request.read())
        fault = self.service.receive(self.index, incoming)
        response = self.service.respond(fault, incoming)
        if fault and fault.delay and await self._closed_within(fault.delay):
            return _reset(request)
        if fault and fault.kind == "huge":
            return await _stream(request, _blank_chunks(fault.size), {"Content-Length": str(fault.size)})
        if fault and fault.kind == "bomb":
            return await _stream(request, _compressed_chunks(fault.size), {"Content-Encoding": "gzip"})
        if fault and fault.kind == "cut" and response:
            return await _send_half(request, response)
        if response is None or (fault and fault.kind == "reset_after"):
            return _reset(request)
        return _complete(request, response)

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self.closing.wait()
        except TimeoutError:
            return False

    def _incoming(self, request: web.BaseRequest, body: bytes) -> IncomingRequest:
        path, _, query = request.raw_path.partition("?")
        return IncomingRequest(
            method=request.method,
            path=path,
            query=query,
            # As the API reference requires of a POST, only a JSON body is read.
            body=body if body and request.content_type == "application/json" else None,
            authorization=request.headers.get("Authorization"),
            host=self.index,
        )


def _complete(request: web.BaseRequest, response: Response) -> web.Response:
    headers = {**_NO_DATE, **response.headers}
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return web.Response(status=response.status, headers=headers, body=response.body)
    # Clients of the real service get gzip too; level 1, since tests pay for it.
    headers["Content-Encoding"] = "gzip"
    return web.Response(status=response.status, headers=headers, body=gzip.compress(response.body, 1))


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection; the returned response is never sent."""
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        request.transport.abort()
    return web.Response()


async def _send_half(request: web.BaseRequest, response: Response) -> web.StreamResponse:
    """Announce the whole body, send half of it and close the connection."""
    # Not compressed: half of a gzip stream would fail as bad data, and not as a body that ended early.
    headers = {**_NO_DATE, **response.headers, "Content-Length": str(len(response.body))}
    stream = web.StreamResponse(status=response.status, headers=headers)
    await stream.prepare(request)
    await stream.write(response.body[: len(response.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return stream


async def _stream(request: web.BaseRequest, chunks: Iterator[bytes], headers: dict[str, str]) -> web.StreamResponse:
    """Send a body chunk by chunk, until the client closes the connection."""
    stream = web.StreamResponse(headers={**_NO_DATE, "Content-Type": "application/json", **headers})
    try:
        await stream.prepare(request)
        for chunk in chunks:
            await stream.write(chunk)
            await asyncio.sleep(0)  # A write yields only to a slow reader; let other tasks run.
        await stream.write_eof()
    except ConnectionError:
        pass  # The client gave up, which is what this fault is for.
    return stream


def _blank_chunks(size: int) -> Iterator[bytes]:
    # Blanks are the beginning of valid JSON: only the size can be what stops a client.
    block = b" " * _CHUNK
    for _ in range(size // _CHUNK):
        yield block
    yield block[: size % _CHUNK]


def _compressed_chunks(size: int) -> Iterator[bytes]:
    # Packed while it is sent: the server must not need the memory that it wants the client to need. 16 asks for a gzip
    # header.
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    for block in _blank_chunks(size):
        yield packer.compress(block)
    yield packer.flush()
