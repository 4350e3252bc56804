"""Server-sent events: one stream for each viewer, with all that changes.

A viewer that comes back with `Last-Event-ID` gets what it missed, as far as that is in memory; otherwise, and if it was
too slow, it gets the event `reset`, and loads everything again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import web

from agora_analytics.ops.web.feed import EventFeed
from agora_analytics.ops.web.replies import RefusalError

MAX_VIEWERS: Final = 200
"""Each holds a connection open: other requests and probes need some of the server's too."""

PING_EVERY: Final = 15.0
"""Seconds without an event after which a comment is sent, so that proxies keep the connection and dead ones show."""

SLOW: Final = 30.0
"""Seconds in which a viewer must take what was sent to it; then it is dropped."""

_BATCH: Final = 64
"""Events that are sent at once."""


class Viewers:
    """The viewers that are connected."""

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed
        self._closed = False

    @property
    def count(self) -> int:
        """How many are connected, also to other pages of the same state."""
        return self._feed.viewers

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Send events until the viewer leaves, is too slow, or the server stops."""
        if self.count >= MAX_VIEWERS:
            raise RefusalError(503, "viewers", f"{MAX_VIEWERS} viewers are connected: that is the limit")
        # The header is from a browser that reconnects, `after` from a page, with the data that it has just read.
        seen = request.headers.get("Last-Event-ID") or request.query.get("after") or self._feed.event_id
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        with self._feed.viewer(), suppress(ConnectionError):  # which means that the viewer has left
            try:
                await response.prepare(request)
                await self._send(response, seen)
            except TimeoutError:
                if request.transport is not None:
                    # `close` would first wait until all that was written is taken, which is what does not happen.
                    request.transport.abort()
        return response

    def close(self) -> None:
        """End the streams of these viewers; the feed may have others."""
        self._closed = True
        self._feed.wake()

    @property
    def _ended(self) -> bool:
        return self._closed or self._feed.closed

    async def _send(self, response: web.StreamResponse, seen: str) -> None:
        feed, number = self._feed, self._feed.position(seen)
        await _write(response, b"retry: 2000\n\n")
        while not self._ended:
            events = None if number is None else feed.after(number, _BATCH)
            if events is None:
                number, events = feed.last, [feed.reset(number)]
            elif number is not None:
                number += len(events)
            if events:
                await _write(response, b"".join(events))
            elif not await feed.wait(number or 0, PING_EVERY) and not self._ended:
                await _write(response, b": still here\n\n")


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(SLOW):
        await response.write(data)
