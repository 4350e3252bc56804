"""What all streams share: how they are iterated over, left, stopped and watched over."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import attrs

from agora_analytics.quota.quota import Quota
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.health import Health
from agora_analytics.streams.poller import Poller
from agora_analytics.streams.position import Position, Progress

T = TypeVar("T")

_END: Final = object()

_AWAY: Final = 60.0
"""Seconds after which a consumer that has not come for the next event is what the stream waits for."""


class Stream(AsyncIterator[T], Generic[T]):
    """An endless source of events: iterate over it, or `async with` it; `aclose()` or `stop()` end it.

    A time-out or a cancellation around one `anext()` harms nothing: what was under way goes on, and the next `anext()`
    returns it. One consumer at a time may wait; `broadcast` serves several.
    """

    def __init__(self, poller: Poller[T], quota: Quota) -> None:
        self._poller = poller
        self._quota = quota
        self._position = poller.position
        self._pump = _Pump(poller.run())
        self._away_since: float | None = None
        # A consumer who was cancelled, and left nothing but garbage behind, must not leave a stream that asks on.
        weakref.finalize(self, self._pump.abandon).atexit = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._position.stream!r}, {str(self.health)!r})"

    @property
    def health(self) -> Health:
        """How it is doing now, or was doing when it ended."""
        health, read_to = self._poller.monitor.health, self._poller.read_to
        away = 0.0 if self._away_since is None else self._quota.now() - self._away_since
        if away > _AWAY and health.state == "polling":
            health = attrs.evolve(health, state="waiting for consumer", since=self._quota.utc() - away)
        if read_to is None:
            return health
        ended = health.since if health.state == "stopped" else None
        return attrs.evolve(health, lag=(self._quota.utc() if ended is None else ended) - read_to)

    @property
    def checkpoint(self) -> Checkpoint:
        """Where it will be once the event being worked on is done: for a sink that keeps that with what it writes.

        Under a hub (`broadcast`) that is the event which the hub hands on, and not what its consumers have done.
        """
        return self._poller.checkpoint

    def stop(self) -> None:
        """End after the event that is being worked on, which is noted as done; then iterating stops.

        Whatever the stream waits for, it ends at once. Any thread and any signal handler may call it.
        """
        self._poller.stop()

    async def aclose(self) -> None:
        """End now; an event being worked on counts as not delivered."""
        await self._pump.close()
        self._poller.monitor.stopped()  # one that never began does not tell

    def share_with(self, progress: Progress) -> Position:
        """Return the place, which goes on only as `progress` does: for `broadcast`, which lets it go in the end."""
        self._position.share_with(progress)
        return self._position

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._away_since = None
        try:
            event = await self._pump.next()
        finally:
            self._away_since = self._quota.now()
        # Not before it is here: the one that a consumer did not wait for is not being worked on.
        self._poller.current = event
        return event


class _Pump(Generic[T]):
    """Gets one event after the other, each in a task, so that whoever stops waiting for one can come back for it."""

    def __init__(self, events: AsyncGenerator[T]) -> None:
        self._events = events
        self._coming: asyncio.Task[T | object] | None = None
        self._awaited = False

    async def next(self) -> T:
        if self._awaited:
            raise RuntimeError("another task waits for this stream's next event: use broadcast() for several consumers")
        if self._coming is None:
            self._coming = asyncio.create_task(self._step())
            self._coming.add_done_callback(_heard)
        self._awaited = True
        try:
            await asyncio.wait((self._coming,))
        finally:
            self._awaited = False
        task, self._coming = self._coming, None
        if task.cancelled():
            raise StopAsyncIteration
        event = task.result()
        if event is _END:
            raise StopAsyncIteration
        return event  # type: ignore[return-value]  # what is not the end is an event

    async def _step(self) -> T | object:
        return await anext(self._events, _END)

    async def close(self) -> None:
        """End the source, and whatever it was doing."""
        if self._coming is not None and not self._coming.done():
            self._coming.cancel()
            await asyncio.wait((self._coming,))
        await self._events.aclose()

    def abandon(self) -> None:
        """Cancel what is under way; may be called by the garbage collector, in any thread, at any time."""
        task = self._coming
        if task is not None and not task.done():
            with suppress(RuntimeError):  # the loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)


def _heard(task: asyncio.Task[object]) -> None:
    """Mark an error as seen: it is told to whoever comes for the event, who may have left for good."""
    if not task.cancelled():
        task.exception()
