"""The simulated service over real sockets; faults act on the connection itself.

This file alone of the simulator imports aiohttp.
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
from agora_analytics.simulator.service.arrivals import Call
from agora_analytics.simulator.service.service import Service

_CHUNK = 2**16
_PATIENCE = 1.0
"""Seconds after which a client that takes no answer at the end is dropped."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: closing sends RST instead of FIN."""

_NO_DATE = {"Date": ""}
"""Without the header aiohttp would write the host's own time, which is not the service's."""


@asynccontextmanager
async def serve(service: Service, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve on one port (0: any that is free) and yield the base URL, like `http://127.0.0.1:40123`."""
    async with serve_hosts(service, 1, host=host, port=port) as urls:
        yield urls[0]


@asynccontextmanager
async def serve_hosts(
    service: Service, count: int = 2, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[tuple[str, ...]]:
    """Serve on several ports, each playing one of the vendor's hosts, and yield their base URLs in order.

    A `port` other than 0 is the first of so many in a row.
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
    runner = web.ServerRunner(web.Server(handler.handle), shutdown_timeout=_PATIENCE)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{_reached(host)}:{runner.addresses[0][1]}"
    finally:
        handler.closing.set()
        await runner.cleanup()


def _reached(host: str) -> str:
    """Return where a client of this machine reaches what listens there, as it stands in a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is what to replace
    return f"[{host}]" if ":" in host else host


@attrs.frozen
class _Host:
    """One of the hosts: carries requests to the service and answers back, and acts faults out."""

    service: Service
    index: int
    closing: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        call = self._call(request, await request.read())
        fault = self.service.arrive(self.index, call)
        response = self.service.carry(fault, call)
        if fault and fault.delay and await self._closed_within(fault.delay):
            return _reset(request)
        if fault and fault.kind == "huge":
            return await _stream(request, _plain(fault.size), {"Content-Length": str(fault.size)})
        if fault and fault.kind == "bomb":
            return await _stream(request, _packed(fault.size), {"Content-Encoding": "gzip"})
        if fault and fault.kind == "cut" and response:
            return await _cut(request, response)
        if response is None or (fault and fault.kind == "reset_after"):
            return _reset(request)
        return _whole(request, response)

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self.closing.wait()
        except TimeoutError:
            return False

    def _call(self, request: web.BaseRequest, body: bytes) -> Call:
        path, _, query = request.raw_path.partition("?")
        return Call(
            method=request.method,
            path=path,
            query=query,
            # The service reads no body but JSON's, as the reference demands of a POST.
            body=body if body and request.content_type == "application/json" else None,
            authorization=request.headers.get("Authorization"),
            host=self.index,
        )


def _whole(request: web.BaseRequest, response: Response) -> web.Response:
    headers = {**_NO_DATE, **response.headers}
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return web.Response(status=response.status, headers=headers, body=response.body)
    headers["Content-Encoding"] = "gzip"
    return web.Response(status=response.status, headers=headers, body=gzip.compress(response.body, 1))


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    """Break the connection; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        request.transport.abort()
    return web.Response()


async def _cut(request: web.BaseRequest, response: Response) -> web.StreamResponse:
    """Promise the whole body, send half of it and hang up."""
    headers = {**_NO_DATE, **response.headers, "Content-Length": str(len(response.body))}
    stream = web.StreamResponse(status=response.status, headers=headers)
    await stream.prepare(request)
    await stream.write(response.body[: len(response.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return stream


async def _stream(request: web.BaseRequest, chunks: Iterator[bytes], headers: dict[str, str]) -> web.StreamResponse:
    """Send a body without ever holding it, for as long as the client takes it."""
    stream = web.StreamResponse(headers={**_NO_DATE, "Content-Type": "application/json", **headers})
    try:
        await stream.prepare(request)
        for chunk in chunks:
            await stream.write(chunk)
            await asyncio.sleep(0)  # A write waits for a slow reader only; others want their turn too.
        await stream.write_eof()
    except ConnectionError:
        pass  # The client has seen enough, which is what the fault is for.
    return stream


def _plain(size: int) -> Iterator[bytes]:
    block = b" " * _CHUNK
    for _ in range(size // _CHUNK):
        yield block
    yield block[: size % _CHUNK]


def _packed(size: int) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    for block in _plain(size):
        yield packer.compress(block)
    yield packer.flush()
