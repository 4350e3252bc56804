"""A server of its own for the page: `agora-analytics serve`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler

from agora_analytics.ops.web.routes import GUARD
from agora_analytics.ops.web.strangers import Strangers

_SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds that shutdown waits for open connections before it drops them."""

IDLE_TIMEOUT: Final = 75.0
"""Seconds without a whole request, after which a connection is closed."""

MAX_CONNECTIONS: Final = 500
"""Further connections are dropped: the ledger and the checkpoints need file descriptors, too."""

log = logging.getLogger("agora_analytics.ops.server")


class _NotMalformed(logging.Filter):
    """Drops records of malformed requests: they quote the request, which may hold the token."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


log.addFilter(_NotMalformed())


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server that listens on an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def listening(application: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve an application of `routes` on a port (0: any free one) and yield the URL.

    Raises `OSError` if the port cannot be used.

    No request is logged: an address may hold the name of a channel.
    """
    runner = web.AppRunner(
        application,
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_TIMEOUT,
        keepalive_timeout=IDLE_TIMEOUT,
        access_log=None,
        logger=log,
    )
    strangers = Strangers(application[GUARD])
    acceptor = _Acceptor(runner, strangers)
    application.middlewares.extend((acceptor.note_request, strangers.note_token))
    await runner.setup()
    try:
        listener = await asyncio.get_running_loop().create_server(acceptor, host, port)
        # All interfaces are no address that a browser can open.
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - this is what is replaced
        shown = f"[{shown}]" if ":" in shown else shown
        try:
            yield f"http://{shown}:{listener.sockets[0].getsockname()[1]}/"
        finally:
            # First, so that no connection comes while the others end.
            listener.close()
    finally:
        await runner.cleanup()


class _Dropped(asyncio.Protocol):
    """A connection that is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class _Acceptor:
    """Makes the protocol of each new connection, and closes a connection on which no request comes."""

    def __init__(self, runner: web.AppRunner, strangers: Strangers) -> None:
        self._runner = runner
        self._strangers = strangers
        self._first_requests: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    def __call__(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            return _Dropped()
        # Connections that closed before their first request have left an entry each: dropped from time to time.
        if len(self._first_requests) >= 2 * MAX_CONNECTIONS:
            self._forget_closed(server.connections)
        self._strangers.make_room(server.connections)
        protocol = server()
        # aiohttp times a connection out after its first request only; before 3.14.4 not even a silent one.
        timer = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._close, protocol)
        self._first_requests[protocol] = timer
        return protocol

    @web.middleware
    async def note_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Leave the connection of a request to aiohttp's own time-out."""
        if timer := self._first_requests.pop(request.protocol, None):
            timer.cancel()
        return await handler(request)

    def _forget_closed(self, connections: Iterable[asyncio.BaseProtocol]) -> None:
        for gone in self._first_requests.keys() - set(connections):
            self._first_requests.pop(gone).cancel()

    def _close(self, protocol: web.RequestHandler) -> None:
        self._first_requests.pop(protocol, None)
        protocol.force_close()
