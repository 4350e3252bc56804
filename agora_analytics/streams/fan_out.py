"""One stream for several consumers, which is asked for once."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from types import TracebackType
from typing import Final, Generic, Literal, NoReturn, Self, TypeVar
from weakref import ref

import attrs

from agora_analytics._core import validation
from agora_analytics._core.futures import wait_until_done
from agora_analytics.streams.health import log
from agora_analytics.streams.position import Place
from agora_analytics.streams.stream import Stream

__all__ = ["Broadcast", "Subscription", "broadcast"]

T = TypeVar("T")

_OVERFLOW: Final = ("block", "drop_oldest")


class Broadcast(AbstractAsyncContextManager["Broadcast[T]"], Generic[T]):
    """Hands each event of a stream to every subscriber: `async with broadcast(watch) as hub: …`.

    The stream is begun by the first subscriber that iterates, and closed with the context.
    """

    def __init__(self, stream: Stream[T], size: int, on_overflow: str, history: int) -> None:
        self._stream = stream
        self._size = size
        self._drops = on_overflow == "drop_oldest"
        self._history: deque[T] = deque(maxlen=history)
        self._takers: list[_Taker[T]] = []
        self.handed = 0
        self._place: Place | None = None
        self._room = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: asyncio.Task[None] | None = None
        self._over = False
        self._error: Exception | None = None

    def subscribe(self, *, last: int = 0) -> Subscription[T]:
        """Return an iterator over the `last` events that were, as far as the hub has them, and what comes from now on.

        Close it, or let go of it, to let the others go on without it. After the end of the stream or of the hub it
        ends after the `last` events; after a failure it raises that. Raises `ValueError` or `TypeError` unless `last`
        is between 0 and the `history` of the hub.
        """
        kept = self._history.maxlen or 0
        if validation.int_in_range("last", last, 0) > kept:
            raise ValueError(
                f"last={last}: the hub keeps the last {kept} events; ask for more with broadcast(history=)"
            )
        skipped = len(self._history) - last
        subscription = Subscription(self, self.handed, tuple(self._history)[max(skipped, 0) :])
        if self._over:
            subscription.end(self._error)
        else:
            self._takers.append(_Taker(ref(subscription, self._gone), subscription.progress))
        return subscription

    def done(self) -> int:
        """Return how many events all subscribers are done with, or have lost; who left counts until the next event."""
        return min((taker.progress.done for taker in self._takers), default=self.handed)

    async def __aenter__(self) -> Self:
        self._place = self._stream.hand_on(self) if isinstance(self._stream, Stream) else None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(None)
        try:
            await self._end_pump()
        finally:
            try:
                await self._stream.aclose()  # again, if the pump has begun
            finally:
                if self._place is not None:
                    await self._place.let_go()

    async def _end_pump(self) -> None:
        """End what reads the stream; who is cancelled meanwhile hears of that once it has ended."""
        if self._pump is None:
            return
        self._pump.cancel()
        try:
            await wait_until_done(self._pump)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._pump.cancelled() or (task is not None and task.cancelling()):
                raise

    def begin(self) -> None:
        """Begin to read the stream, at the first call."""
        if self._pump is None and not self._over:
            self._loop = asyncio.get_running_loop()
            self._pump = self._loop.create_task(self._run())

    def taken(self) -> None:
        """Hear from a subscriber that it has taken an event, or leaves."""
        self._room.set()

    async def _run(self) -> None:
        failed: Exception | None = None
        try:
            async with aclosing(self._stream):
                async for event in self._stream:
                    self._history.append(event)
                    self._takers = [taker for taker in self._takers if not taker.left]
                    self.handed += 1
                    for taker in tuple(self._takers):
                        await self._hand(event, taker)
        except Exception as error:
            if self._over:  # nobody else would hear that it cannot be closed
                raise
            failed = error  # it is raised in every subscriber
        finally:
            self._end(failed)

    async def _hand(self, event: T, taker: _Taker[T]) -> None:
        """Give an event to a subscriber; nothing here keeps that alive while there is no room."""
        number = self.handed
        if self._drops and taker.full(self._size):
            await asyncio.sleep(0)  # many events come at once after an outage: who is waiting is not slow
        while not self._drops and taker.full(self._size):
            self._room.clear()
            await self._room.wait()
        if (found := taker.subscription()) is not None:
            found.put(number, event, self._size)

    def _end(self, error: Exception | None) -> None:
        """Tell the end to whoever subscribes or will, the first time."""
        if self._over:
            return
        self._over, self._error = True, error
        for taker in self._takers:
            if (found := taker.subscription()) is not None:
                found.end(error)
        self._room.set()

    def _gone(self, _: ref[Subscription[T]]) -> None:
        """Look again whether there is room; whichever thread collects garbage calls this, and at any time."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._room.set)


class Subscription(AsyncIterator[T]):
    """One consumer's view of a broadcast. `dropped` counts the events it lost because it was slow.

    Time-outs and cancellation around `anext()` lose nothing: the next one goes on.
    """

    def __init__(self, hub: Broadcast[T], begun: int, events: Iterable[T] = ()) -> None:
        self.dropped = 0
        self._hub = hub
        past = list(events)
        self._taken = begun - len(past)
        self._events: deque[tuple[int, T]] = deque(enumerate(past, self._taken + 1))
        self.progress = _Progress(self._taken)
        self._filled = asyncio.Event()
        self._over = False
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._hub.begin()
        self.progress.done = max(self.progress.done, self._taken)
        while not self._events:
            if self._error is not None:
                _raise(self._error)
            if self._over:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        self._taken, event = self._events.popleft()
        self._hub.taken()
        return event

    async def aclose(self) -> None:
        """Leave; the others go on."""
        self._events.clear()
        self.progress.left = self._over = True
        self._error = None
        self._filled.set()
        self._hub.taken()

    def full(self, size: int) -> bool:
        """Whether it has as many events as it may."""
        return len(self._events) >= size and not self._over

    def put(self, number: int, event: T, size: int) -> None:
        """Take an event from the hub, and its number; the oldest is lost where there is no room."""
        if self._over:
            return
        if self.full(size):
            lost, _ = self._events.popleft()
            self.progress.done = max(self.progress.done, lost)
            self.dropped += 1
            if self.dropped == 1:
                log.warning("a subscriber is slow and loses events; its `dropped` counts them")
        self._events.append((number, event))
        self._filled.set()

    def end(self, error: Exception | None) -> None:
        """Hear from the hub that nothing more comes."""
        if not self._over:
            self._over, self._error = True, error
            self._filled.set()


@attrs.define
class _Progress:
    """How many of the hub's events a subscriber is done with, and whether it left; known also when it is gone."""

    done: int
    left: bool = False


@attrs.frozen
class _Taker(Generic[T]):
    """A subscriber of a hub: weak, so that one that was left with `break` does not hold the others back for ever."""

    subscription: ref[Subscription[T]]
    progress: _Progress

    @property
    def left(self) -> bool:
        return self.progress.left or self.subscription() is None

    def full(self, size: int) -> bool:
        found = self.subscription()
        return found is not None and found.full(size)


def _raise(error: Exception) -> NoReturn:
    """Raise a copy of a failure: one that is raised again and again grows by a traceback each time."""
    try:
        fresh = copy.copy(error)
    except Exception:  # noqa: BLE001 - whose class cannot be copied is not known
        fresh = error
    if type(fresh) is not type(error) or fresh is error:
        raise error.with_traceback(None)
    raise fresh from error


def broadcast(
    stream: Stream[T], *, size: int = 100, on_overflow: Literal["block", "drop_oldest"] = "block", history: int = 0
) -> Broadcast[T]:
    """Share a stream between several consumers, each with a queue of at most `size` events.

        async with broadcast(watch) as hub:
            async for event in hub.subscribe():
                ...

    A consumer whose queue is full holds the stream and the others back (`on_overflow="block"`), or loses its oldest
    events, which are counted and logged (`on_overflow="drop_oldest"`). A named checkpoint goes past an event when all
    who were given it have come back for the next, or have lost it: after a kill or the end of the context, those who
    stay get some events again and lose none. Who closes its subscription, lets go of it or fails counts until the next
    event comes: what was in its queue is lost then. A consumer that subscribes late gets what comes from then on, and
    before that up to `history` events if it asks for them: `hub.subscribe(last=…)`. Raises `ValueError` or `TypeError`
    for bad arguments, and entering it `RuntimeError` where the stream has another hub.
    """
    validation.with_members("stream", stream, "a stream, such as client.realtime.watch(…)", "__aiter__", "aclose")
    chosen = validation.one_of("on_overflow", on_overflow, _OVERFLOW)
    return Broadcast(
        stream, validation.int_in_range("size", size, 1), chosen, validation.int_in_range("history", history, 0)
    )
