"""A server of its own for the page: `agora-analytics serve`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

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
    """Serve on a port (0: any free one) and yield the URL. Raises `OSError` if the port cannot be used.

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
    await runner.setup()
    try:
        listener = await asyncio.get_running_loop().create_server(_acceptor(runner), host, port)
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - this is what is replaced
        shown = f"[{shown}]" if ":" in shown else shown
        try:
            yield f"http://{shown}:{listener.sockets[0].getsockname()[1]}/"
        finally:
            listener.close()
    finally:
        await runner.cleanup()


class _Dropped(asyncio.Protocol):
    """A connection that is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


def _acceptor(runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
    """Return a function that makes the protocol of a new connection."""

    def accept() -> asyncio.Protocol:
        server = runner.server
        return server() if server is not None and len(server.connections) < MAX_CONNECTIONS else _Dropped()

    return accept
