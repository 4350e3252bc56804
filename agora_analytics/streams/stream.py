"""What all streams share: iteration, health, checkpoint, and four ways to end them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import attrs

from agora_analytics._core.futures import cancel_and_wait, retrieve_error
from agora_analytics.quota.service_time import ServiceTime
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.health import Health
from agora_analytics.streams.listeners import Listeners
from agora_analytics.streams.poller import Poller
from agora_analytics.streams.position import Position, Progress

T = TypeVar("T")

_END: Final = object()

_MAX_AWAY: Final = 60.0
"""Seconds without a request for the next event, after which a stream counts as waiting for its consumer."""


class Stream(AsyncIterator[T], Generic[T]):
    """An endless source of events: iterate over it; end it with `async with`, `aclose()` or `stop()`.

    A timeout or cancellation of one `anext()` loses nothing: the next `anext()` returns the event.
    One consumer at a time may wait; use `broadcast` for several.
    """

    def __init__(self, poller: Poller[T], time: ServiceTime, app_id: str) -> None:
        self.app_id = app_id
        self._poller = poller
        self._time = time
        self._position = poller.position
        self._pump = _Pump(poller.run())
        self._away_since: float | None = None
        self._listeners: Listeners[T] = Listeners(poller.monitor.name)
        # A consumer that was cancelled and dropped the stream must not leave it polling.
        weakref.finalize(self, self._pump.abandon).atexit = False  # at exit the loop is closed anyway

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._position.stream!r}, {str(self.health)!r})"

    @property
    def health(self) -> Health:
        """The health now, or at the end of the stream."""
        health, read_to = self._poller.monitor.health, self._poller.read_to
        away = 0.0 if self._away_since is None else self._time.monotonic() - self._away_since
        if away > _MAX_AWAY and health.state == "polling":
            health = attrs.evolve(health, state="waiting for consumer", since=self._time.utc() - away)
        if read_to is None:
            return health
        ended = health.since if health.state == "stopped" else None
        return attrs.evolve(health, lag=(self._time.utc() if ended is None else ended) - read_to)

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint once the current event is done: for a sink that saves it in one transaction with its data.

        Under a hub (`broadcast`) the current event is the one that the hub hands out.
        """
        return self._poller.checkpoint

    def on_event(self, listener: Callable[[T], object]) -> Callable[[], None]:
        """Call a function with each event that the consumer takes, just before the consumer gets it.

        Return a function that removes it. A listener only observes: nothing is polled for it, and an exception from it
        ends nothing; its first one is logged.
        """
        return self._listeners.add(listener)

    def stop(self) -> None:
        """End after the current event, which counts as delivered; then iteration stops.

        Ends every wait at once. May be called from any thread or signal handler.
        """
        self._poller.stop()

    def drain(self) -> None:
        """End without wasting a request: deliver what has been fetched or is under way, and send nothing more.

        Ends every wait for quota or for new data at once. For a handover: the next holder of the checkpoint asks for
        nothing that was answered. May be called from any thread or signal handler.
        """
        self._poller.drain()

    async def aclose(self) -> None:
        """End now; the current event counts as not delivered."""
        try:
            await self._pump.close()
        finally:
            self._poller.monitor.stopped()  # a stream that never started does not

    def share_with(self, progress: Progress) -> Position:
        """Return the position, which advances only as `progress` does, until it is unshared: for `broadcast`."""
        self._position.share_with(progress)
        return self._position

    def utc(self) -> float:
        """Return UTC seconds: the service's clock as far as it is known, otherwise the host's."""
        return self._time.utc()

    def position_beside(self, suffix: str, stream: str) -> Position | None:
        """Return where the state of a consumer is saved, beside the stream's own; None if that is not saved."""
        return self._position.beside(suffix, stream)

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
            self._away_since = self._time.monotonic()
        # Set only now: an event that its consumer did not wait for is not being worked on.
        self._poller.current = event
        self._listeners.notify(event)
        return event


class _Pump(Generic[T]):
    """Fetches one event at a time, each in a task, so that a consumer that stops waiting can come back for it."""

    def __init__(self, events: AsyncGenerator[T]) -> None:
        self._events = events
        self._pending: asyncio.Task[T | object] | None = None
        self._has_waiter = False

    async def next(self) -> T:
        if self._has_waiter:
            raise RuntimeError("another task waits for this stream's next event: use broadcast() for several consumers")
        if self._pending is None:
            self._pending = asyncio.create_task(self._step())
            self._pending.add_done_callback(retrieve_error)  # the consumer may have left for good
        self._has_waiter = True
        try:
            # Not `await`, which would cancel the task with its consumer, and lose the event that it is about to return.
            await asyncio.wait((self._pending,))
        finally:
            self._has_waiter = False
        task, self._pending = self._pending, None
        # By `close` or `abandon`: the stream has ended.
        if task.cancelled():
            raise StopAsyncIteration
        event = task.result()
        if event is _END:
            raise StopAsyncIteration
        return event  # type: ignore[return-value]  # everything but the sentinel is an event

    async def _step(self) -> T | object:
        return await anext(self._events, _END)

    async def close(self) -> None:
        """Cancel the pending event and close the source."""
        try:
            if self._pending is not None and not self._pending.done():
                await cancel_and_wait(self._pending)
        finally:
            # Not by what runs inside of it, such as a transport: it ends when that has returned.
            if self._pending is None or self._pending.done():
                await self._events.aclose()

    def abandon(self) -> None:
        """Cancel the pending event; may be called by the garbage collector, in any thread, at any time."""
        task = self._pending
        if task is not None and not task.done():
            with suppress(RuntimeError):  # the loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)
