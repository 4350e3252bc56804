"""One stream for several consumers, which is asked for once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from types import TracebackType
from typing import Final, Generic, Literal, Self, TypeVar

from agora_analytics import _checks
from agora_analytics.streams._health import log
from agora_analytics.streams._stream import Stream

T = TypeVar("T")

_SLOW: Final = ("wait", "drop")


class Broadcast(AbstractAsyncContextManager["Broadcast[T]"], Generic[T]):
    """Hands each event of a stream to every subscriber: `async with broadcast(watch) as hub: …`.

    The stream is begun by the first subscriber that iterates, and closed with the context.
    """

    def __init__(self, stream: Stream[T], size: int, slow: str) -> None:
        self._stream = stream
        self._size = size
        self._drops = slow == "drop"
        self._subscribers: list[Subscription[T]] = []
        self._pump: asyncio.Task[None] | None = None

    def subscribe(self) -> Subscription[T]:
        """Return an iterator over what comes from now on; close it to let the others go on without it."""
        subscription = Subscription(self)
        self._subscribers.append(subscription)
        return subscription

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
        await self._stream.aclose()

    def begin(self) -> None:
        """Begin to read the stream, at the first call."""
        if self._pump is None:
            self._pump = asyncio.create_task(self._run())

    def leave(self, subscription: Subscription[T]) -> None:
        """Go on without a subscriber."""
        if subscription in self._subscribers:
            self._subscribers.remove(subscription)

    async def _run(self) -> None:
        failed: Exception | None = None
        try:
            async with aclosing(self._stream):
                async for event in self._stream:
                    for subscription in tuple(self._subscribers):
                        await subscription.put(event, self._size, drop=self._drops)
        except Exception as error:  # noqa: BLE001 - it is raised in every subscriber
            failed = error
        finally:
            for subscription in tuple(self._subscribers):
                subscription.end(failed)


class Subscription(AsyncIterator[T]):
    """One consumer's view of a broadcast. `dropped` counts the events it lost because it was slow."""

    def __init__(self, hub: Broadcast[T]) -> None:
        self.dropped = 0
        self._hub = hub
        self._events: deque[T] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._over = False
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._hub.begin()
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._over:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        self._emptied.set()
        return self._events.popleft()

    async def aclose(self) -> None:
        """Leave; the others go on."""
        self._hub.leave(self)
        self._events.clear()
        self.end(None)

    async def put(self, event: T, size: int, *, drop: bool) -> None:
        """Take an event from the hub."""
        if drop and len(self._events) >= size:
            await asyncio.sleep(0)  # many events come at once after an outage: who is waiting is not slow
        if drop and len(self._events) >= size:
            self._events.popleft()
            self.dropped += 1
            if self.dropped == 1:
                log.warning("a subscriber is slow and loses events; its `dropped` counts them")
        while len(self._events) >= size and not self._over:
            self._emptied.clear()
            await self._emptied.wait()
        if not self._over:
            self._events.append(event)
            self._filled.set()

    def end(self, error: Exception | None) -> None:
        """Hear from the hub that nothing more comes."""
        self._over, self._error = True, error
        self._filled.set()
        self._emptied.set()


def broadcast(stream: Stream[T], *, size: int = 100, slow: Literal["wait", "drop"] = "wait") -> Broadcast[T]:
    """Share a stream between several consumers, each with a queue of at most `size` events.

    A consumer whose queue is full holds the stream and the others back (`slow="wait"`), or loses its oldest events,
    which are counted and logged (`slow="drop"`). What is in a queue counts as delivered: a consumer that must not lose
    any in a crash watches by itself. Raises `ValueError` or `TypeError` for bad arguments.
    """
    if slow not in _SLOW:
        raise ValueError(f"slow={slow!r}: allowed are {', '.join(_SLOW)}")
    return Broadcast(stream, _checks.number("size", size, 1), slow)
