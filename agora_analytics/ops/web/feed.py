"""Events for the viewers of a page: numbered, encoded once, and kept for a while for those who come back.

A viewer has a position and no queue: 50 viewers share one list of encoded events, and one that is too slow to keep up
loses its place in it and has to load the page's data again.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final

from agora_analytics._core.decoding.json import encode

_MAX_EVENTS: Final = 2_000
_MAX_BYTES: Final = 4 * 2**20
"""Encoded events that are kept for viewers who come back, and their bytes: the older ones are dropped."""


class EventFeed:
    """The newest events, as server-sent events.

    `last` is the number of the newest, `viewers` how many read them; `missed` counts the events that were gone when a
    viewer came back for them.
    """

    def __init__(self) -> None:
        self.last = 0
        self.viewers = 0
        self.closed = False
        # A server that was restarted counts from 0 again: without it an old id would name another event.
        self._run = secrets.token_hex(4)
        self._events: deque[bytes] = deque()
        self.size = 0
        self.missed = 0
        self._changed = asyncio.Event()
        self._viewer_came = asyncio.Event()

    @property
    def event_id(self) -> str:
        """The id of the newest event: the run of the server, and the number of the event in it."""
        return f"{self._run}-{self.last}"

    def publish(self, kind: str, value: object) -> None:
        """Add an event."""
        self.last += 1
        event = self._encoded(kind, encode(value))
        self._events.append(event)
        self.size += len(event)
        # The newest stays, however large: it is on its way to the viewers.
        while len(self._events) > _MAX_EVENTS or (self.size > _MAX_BYTES and len(self._events) > 1):
            self.size -= len(self._events.popleft())
        self.wake()

    def reset(self, number: int | None) -> bytes:
        """Return the event that makes a viewer load everything again: so many events after `number` are gone."""
        missed = None if number is None else self.last - len(self._events) - number
        self.missed += missed or 0
        return self._encoded("reset", encode({"event": self.event_id, "missed": missed}))

    def position(self, event_id: str) -> int | None:
        """Return the number in an id, None if it is none of this run: then what the viewer missed is not known."""
        found = re.fullmatch(r"([0-9a-f]{8})-([0-9]{1,15})", event_id)
        if found is None or found[1] != self._run:
            return None
        number = int(found[2])
        return number if number <= self.last else None

    def after(self, number: int, most: int) -> list[bytes] | None:
        """Return the first `most` events after a number, None if some of them are gone."""
        first = len(self._events) - (self.last - number)
        return None if first < 0 else list(islice(self._events, first, first + most))

    async def wait(self, number: int, seconds: float) -> bool:
        """Wait for an event after a number, for the end, or for so many seconds; return whether there is one."""
        if self.last == number and not self.closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        return self.last > number

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Count a viewer while it reads the events."""
        self.viewers += 1
        self._viewer_came.set()
        try:
            yield
        finally:
            self.viewers -= 1

    async def wait_for_viewer(self, seconds: float) -> None:
        """Wait until a viewer comes, or for so many seconds."""
        self._viewer_came.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._viewer_came.wait()

    def open(self) -> None:
        """Accept viewers, also again after `close`."""
        self.closed = False

    def close(self) -> None:
        """End the waits of all viewers."""
        self.closed = True
        self.wake()

    def wake(self) -> None:
        """End all waits."""
        self._changed.set()
        # A new one: each wait is for the next event, and an event that is set and cleared could be missed.
        self._changed = asyncio.Event()

    def _encoded(self, kind: str, data: bytes) -> bytes:
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (self.event_id.encode(), kind.encode(), data)
