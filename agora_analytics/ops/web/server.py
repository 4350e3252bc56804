"""A server of its own for the page: `agora-analytics serve`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Final

from aiohttp import web

_SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds that shutdown waits for open connections before it drops them."""


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
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_TIMEOUT, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - this is what is replaced
        shown = f"[{shown}]" if ":" in shown else shown
        yield f"http://{shown}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
