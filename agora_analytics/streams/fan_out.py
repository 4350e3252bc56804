"""Fan-out: one stream for several consumers, polled once, with a bounded queue for each."""

from __future__ import annotations

import asyncio
import contextvars
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
from agora_analytics.streams.position import Position
from agora_analytics.streams.stream import Stream

__all__ = ["Broadcast", "Subscription", "broadcast"]

T = TypeVar("T")

_OVERFLOW: Final = ("block", "drop_oldest")


class Broadcast(AbstractAsyncContextManager["Broadcast[T]"], Generic[T]):
    """Hands each event of a stream to every subscriber; made by `broadcast`.

    The first subscriber that iterates starts the stream, and leaving the context closes it. The stream runs with the
    context variables (`contextvars`) of the code that made the hub: its requests are no part of a subscriber's trace.
    """

    def __init__(self, stream: Stream[T], size: int, on_overflow: str, history: int) -> None:
        self._stream = stream
        self._size = size
        self._drops = on_overflow == "drop_oldest"
        self._history: deque[T] = deque(maxlen=history)
        self._subscribers: list[_Subscriber[T]] = []
        self.delivered = 0
        self._position: Position | None = None
        self._room = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: asyncio.Task[None] | None = None
        self._over = False
        self._error: Exception | None = None
        self._context = contextvars.copy_context()

    def subscribe(self, *, last: int = 0) -> Subscription[T]:
        """Return an iterator over the `last` events, as far as the hub has them, and all from now on.

        Close it, or drop it, to unsubscribe. Once the stream or the hub has ended, it yields the `last` events, and
        then ends, or raises the stream's error. Raises `ValueError` or `TypeError` unless `last` is between 0 and the
        `history` of the hub.
        """
        limit = self._history.maxlen or 0
        if validation.int_in_range("last", last, 0) > limit:
            raise ValueError(
                f"last={last}: the hub keeps the last {limit} events; ask for more with broadcast(history=)"
            )
        skipped = len(self._history) - last
        subscription = Subscription(self, self.delivered, tuple(self._history)[max(skipped, 0) :])
        if self._over:
            subscription.close_queue(self._error)
        else:
            self._subscribers.append(_Subscriber(ref(subscription, self._on_collected), subscription.progress))
        return subscription

    def processed(self) -> int:
        """Return how many events all subscribers processed or dropped; a closed one counts until the next event."""
        return min((subscriber.progress.processed for subscriber in self._subscribers), default=self.delivered)

    async def __aenter__(self) -> Self:
        self._position = self._stream.share_with(self) if isinstance(self._stream, Stream) else None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(None)
        try:
            await self._end_pump()
        finally:
            try:
                # The pump has closed the stream, unless it never started or was cancelled before its first step.
                await self._stream.aclose()
            finally:
                if self._position is not None:
                    await self._position.unshare()

    async def _end_pump(self) -> None:
        """End the task that reads the stream; if this is cancelled meanwhile, raise only once it has ended."""
        if self._pump is None:
            return
        self._pump.cancel()
        try:
            await wait_until_done(self._pump)
        except asyncio.CancelledError:
            # The pump's own end by `cancel` above, or a cancellation of the code that leaves the hub.
            task = asyncio.current_task()
            if not self._pump.cancelled() or (task is not None and task.cancelling()):
                raise

    def start(self) -> None:
        """Start to read the stream, at the first call."""
        if self._pump is None and not self._over:
            self._loop = asyncio.get_running_loop()
            self._pump = self._loop.create_task(self._run(), context=self._context)

    def notify(self) -> None:
        """Wake the hub: a subscriber has taken an event, or was closed."""
        self._room.set()

    async def _run(self) -> None:
        failure: Exception | None = None
        try:
            # Closed here and not only by `__aexit__`: a cancellation of the exit does not reach this task, so it does
            # not interrupt the last save.
            async with aclosing(self._stream):
                async for event in self._stream:
                    self._history.append(event)
                    self._subscribers = [subscriber for subscriber in self._subscribers if not subscriber.closed]
                    self.delivered += 1
                    # A copy: a consumer that subscribes while this waits for room gets only the events after this one.
                    for subscriber in tuple(self._subscribers):
                        await self._publish(event, subscriber)
        except Exception as error:
            if self._over:  # no subscriber would see that the stream cannot be closed
                raise
            failure = error  # raised by every subscriber
        finally:
            self._end(failure)

    async def _publish(self, event: T, subscriber: _Subscriber[T]) -> None:
        """Put an event into a subscriber's queue; holds no reference to the subscription while there is no room."""
        number = self.delivered
        if self._drops and subscriber.full(self._size):
            await asyncio.sleep(0)  # a burst, as after an outage, does not make a waiting consumer a slow one
        while not self._drops and subscriber.full(self._size):
            self._room.clear()
            await self._room.wait()
        if (subscription := subscriber.subscription()) is not None:
            subscription.enqueue(number, event, self._size)

    def _end(self, error: Exception | None) -> None:
        """End all subscriptions, present and future, at the first call."""
        if self._over:
            return
        self._over, self._error = True, error
        for subscriber in self._subscribers:
            if (subscription := subscriber.subscription()) is not None:
                subscription.close_queue(error)
        self._room.set()

    def _on_collected(self, _: ref[Subscription[T]]) -> None:
        """Wake the hub: a subscription was dropped. Called by the garbage collector, in any thread, at any time."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._room.set)


class Subscription(AsyncIterator[T]):
    """A consumer's view of a broadcast. `dropped` counts the events that it lost because it was slow.

    A timeout or cancellation of one `anext()` loses nothing: the next one returns the event.
    """

    def __init__(self, hub: Broadcast[T], delivered: int, past: Iterable[T] = ()) -> None:
        self.dropped = 0
        self._hub = hub
        events = list(past)
        self._taken = delivered - len(events)
        self._events: deque[tuple[int, T]] = deque(enumerate(events, self._taken + 1))
        self.progress = _Progress(self._taken)
        self._filled = asyncio.Event()
        self._over = False
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._hub.start()
        # Coming back for the next event says that the last one is done: until then a crash repeats it.
        self.progress.processed = max(self.progress.processed, self._taken)
        while not self._events:
            if self._error is not None:
                _raise(self._error)
            if self._over:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        self._taken, event = self._events.popleft()
        self._hub.notify()
        return event

    async def aclose(self) -> None:
        """Unsubscribe; other subscribers are not affected."""
        self._events.clear()
        self.progress.closed = self._over = True
        self._error = None
        self._filled.set()
        self._hub.notify()

    def full(self, size: int) -> bool:
        """Whether the queue is full."""
        return len(self._events) >= size and not self._over

    def enqueue(self, number: int, event: T, size: int) -> None:
        """Add an event and its number to the queue; drops the oldest if that is full."""
        if self._over:
            return
        if self.full(size):
            lost, _ = self._events.popleft()
            # A dropped event counts as done, or it would hold the checkpoint back for ever.
            self.progress.processed = max(self.progress.processed, lost)
            self.dropped += 1
            if self.dropped == 1:
                log.warning("a subscriber is slow and loses events; its `dropped` counts them")
        self._events.append((number, event))
        self._filled.set()

    def close_queue(self, error: Exception | None) -> None:
        """Record that no further event comes."""
        if not self._over:
            self._over, self._error = True, error
            self._filled.set()


@attrs.define
class _Progress:
    """How many of the hub's events a subscriber has processed, and whether it is closed; outlives the subscription."""

    processed: int
    closed: bool = False


@attrs.frozen
class _Subscriber(Generic[T]):
    """A subscriber of a hub: a weak reference, so that one that was left with `break` does not block the others."""

    subscription: ref[Subscription[T]]
    progress: _Progress

    @property
    def closed(self) -> bool:
        return self.progress.closed or self.subscription() is None

    def full(self, size: int) -> bool:
        subscription = self.subscription()
        return subscription is not None and subscription.full(size)


def _raise(error: Exception) -> NoReturn:
    """Raise a copy of an error: raising the same one again and again would grow its traceback."""
    try:
        fresh = copy.copy(error)
    except Exception:  # noqa: BLE001 - any class of error may refuse to be copied
        fresh = error
    if type(fresh) is not type(error) or fresh is error:
        raise error.with_traceback(None)
    raise fresh from error


def broadcast(
    stream: Stream[T], *, size: int = 100, on_overflow: Literal["block", "drop_oldest"] = "block", history: int = 0
) -> Broadcast[T]:
    """Share a stream between several consumers, each with a queue of at most `size` events.

    ```python
    async with AnalyticsClient.from_env() as client, broadcast(client.calls.follow()) as hub:
        async for event in hub.subscribe():
            print(event)
            break
    ```

    If a queue is full, `on_overflow="block"` makes the stream and the other consumers wait; `on_overflow="drop_oldest"`
    drops that consumer's oldest event and counts it in `dropped`; the first one of each consumer is logged.

    Delivery is at least once: a named checkpoint moves past an event once every subscriber that got it has asked for
    the next one. After a crash some events are repeated. Lost are only events that `drop_oldest` drops, and what was in
    the queue of a subscription that was closed or dropped: it holds the checkpoint back until the next event.

    A late subscriber gets the events from then on, preceded by up to `history` past ones on request:
    `hub.subscribe(last=…)`. Raises `ValueError` or `TypeError` for bad arguments; entering the context raises
    `RuntimeError` if the stream has another hub.
    """
    validation.with_members("stream", stream, "a stream, such as client.realtime.watch(…)", "__aiter__", "aclose")
    chosen = validation.one_of("on_overflow", on_overflow, _OVERFLOW)
    return Broadcast(
        stream, validation.int_in_range("size", size, 1), chosen, validation.int_in_range("history", history, 0)
    )
