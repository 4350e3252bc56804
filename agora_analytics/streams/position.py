"""Where a stream starts and stops, and where it is: its checkpoint, which may be saved under a name."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol, Self

import attrs

from agora_analytics._core import validation
from agora_analytics.errors import CheckpointError
from agora_analytics.protocols import CheckpointStore, Lease, ResumableSink
from agora_analytics.spans import Instant, Span, iso, length, merged, seconds
from agora_analytics.streams.checkpoint_contract import checked_name, taken_over
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.saver import Saver

_MAX_AHEAD: Final = 300
"""Seconds by which a checkpoint may end after the service's time: clocks differ."""

_LEASE_ATTEMPTS: Final = 3
_LEASE_INTERVAL: Final = 0.05
"""How often, and how many seconds apart, a name that is in use is tried again."""

StartPoint = Instant | timedelta | None
"""An instant, a duration before the newest queryable second, or that second."""


@attrs.frozen
class Period:
    """From `start`, or `back` seconds before the newest queryable second, to `stop` (None: without end)."""

    start: int | None
    back: int | None
    stop: int | None

    @classmethod
    def of(cls, start: StartPoint, stop: Instant | None) -> Self:
        """Return the period of the arguments `start` and `stop`; raises `ValueError` or `TypeError` for others."""
        back = length(start, "start") if isinstance(start, timedelta) else None
        first = None if start is None or isinstance(start, timedelta) else _start_seconds(start)
        end = None if stop is None else seconds(stop, "stop")
        if first is not None and end is not None and end <= first:
            raise ValueError(f"stop={end} must be after start={first}")
        return cls(first, back, end)


def _start_seconds(start: Instant) -> int:
    try:
        return seconds(start, "start")
    except TypeError:
        allowed = "a timedelta, an aware datetime, or whole seconds since 1970 as an int"
        raise validation.type_error("start", start, allowed) from None


class Progress(Protocol):
    """How many events a hub has handed to its subscribers, and how many all of them have processed."""

    delivered: int

    def processed(self) -> int:
        """Return how many events every subscriber has processed."""


class Position:
    """The checkpoint of a stream: saved under a name, or beside the events in a sink, or left to the caller."""

    def __init__(
        self,
        stream: str,
        *,
        given: Checkpoint | None = None,
        store: CheckpointStore | None = None,
        name: str = "",
        sink: ResumableSink | None = None,
    ) -> None:
        self.stream = stream
        self.on_saved: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None
        self._is_lost = False
        self._store = store
        self._name = name
        self._sink = sink
        self._epoch: int | None = None
        # An attribute that a store may have, as the protocol says.
        self._saver = Saver(self._save_now, getattr(store, "every", 0.0))
        self._progress: Progress | None = None
        self._unsaved: deque[tuple[int, Checkpoint]] = deque()
        self._source = f"checkpoint {name!r}" if name else "the checkpoint"
        self._checkpoint = Checkpoint(stream=stream) if given is None else given.check(stream, self._source)
        self._done = self._checkpoint.done

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of what is done."""
        # Only here, as `mark_done` is called at each event, and a checkpoint is seldom read.
        if self._done is not self._checkpoint.done:
            self._checkpoint = attrs.evolve(self._checkpoint, done=self._done)
            self._done = self._checkpoint.done
        return self._checkpoint

    def _set(self, checkpoint: Checkpoint) -> None:
        self._checkpoint, self._done = checkpoint, checkpoint.done

    @property
    def named(self) -> bool:
        """Whether it is saved under a name."""
        return self._store is not None

    @property
    def is_saved(self) -> bool:
        """Whether it is saved: under a name, or in a sink, which saves it with each event."""
        return self._store is not None or self._sink is not None

    def beside(self, suffix: str, stream: str) -> Position | None:
        """Return the position of something that belongs to this stream, in the same store under a longer name.

        None if this one is not saved under a name. Raises `ValueError` if the name is too long for that.
        """
        if self._store is None:
            return None
        beside = Position(stream, store=self._store, name=checked_name(f"{self._name}.{suffix}", "checkpoint"))
        # It must not lag behind: after a crash the stream would not repeat what the other one has not saved.
        self._saver.first.append(beside._saver)
        return beside

    def mark_done(self, span: Span) -> None:
        """Mark a span as done, where nothing is saved."""
        self._done = merged((*self._done, span))

    async def resume(self) -> Checkpoint:
        """Take the name over, and return its checkpoint.

        Raises `CheckpointError` if the checkpoint is of another stream, or the name is in use; the name is not taken
        over then.
        """
        try:
            await self._load()
        except BaseException:
            await self.release()
            raise
        return self.checkpoint

    async def _load(self) -> None:
        if self._sink is not None:
            self._watch(self._sink)
        if self._store is None or self._epoch is not None:
            return
        # Looked at first, so that a stream with the wrong name does not end the one that has it.
        if (found := await self._store.load(self._name)) is not None:
            found.check(self.stream, self._source)
        lease = await _acquire(self._store, self._name)
        self._epoch = lease.epoch
        self._watch(self._store, self._name, lease.epoch)
        if lease.checkpoint is not None:
            self._set(lease.checkpoint.check(self.stream, self._source))

    def _watch(self, keeper: CheckpointStore | ResumableSink, *lease: object) -> None:
        self._is_lost = False
        # A method that a store or a sink may have, as the protocols say.
        if (when_lost := getattr(keeper, "when_lost", None)) is not None:
            when_lost(*lease, self._lost)

    def _lost(self) -> None:
        self._is_lost = True
        self.on_lost()

    def check_held(self) -> None:
        """Raise `CheckpointError` if it is known that another process has taken the name over."""
        if self._is_lost:
            raise taken_over(self._name or getattr(self._sink, "name", ""))

    async def save(self, checkpoint: Checkpoint) -> None:
        """Set the checkpoint, and save it; under a hub, once all subscribers have processed what it covers."""
        self._set(checkpoint)
        if not self.is_saved:
            return
        delivered = 0 if self._progress is None else self._progress.delivered
        # Of several after one event only the newest counts, so the queue is no longer than those of the hub.
        if self._unsaved and self._unsaved[-1][0] == delivered:
            self._unsaved.pop()
        self._unsaved.append((delivered, checkpoint))
        await self._save_processed()

    async def _save_processed(self) -> None:
        processed = 0 if self._progress is None else self._progress.processed()
        ready = [checkpoint for delivered, checkpoint in self._unsaved if delivered <= processed]
        if ready:
            await self._saver.put(ready[-1])
        for _ in ready:  # after the save, so that a failed one is retried
            self._unsaved.popleft()

    async def _save_now(self, checkpoint: Checkpoint) -> None:
        if self._sink is not None:
            await self._sink.save(checkpoint)
        elif self._store is not None and self._epoch is not None:
            await self._store.save(self._name, checkpoint, self._epoch)
            self.on_saved()

    def share_with(self, progress: Progress) -> None:
        """Save only what a hub's subscribers have processed; raises `RuntimeError` for a second hub."""
        if self._progress is not None:
            raise RuntimeError("the stream is shared by another hub: subscribe there, or make a stream for each")
        self._progress = progress

    async def unshare(self) -> None:
        """Save what the subscribers have processed, and release the name."""
        try:
            await self._save_processed()
        finally:
            self._progress = None
            await self.release()

    async def release(self) -> None:
        """Save what has not been saved and release the name, unless a hub still uses it; may be called twice."""
        if self._epoch is None or self._store is None or self._progress is not None:
            return
        try:
            await self._saver.close()
        finally:
            # A second call may have released it while this one saved.
            if (epoch := self._epoch) is not None:
                self._epoch = None
                await self._store.release(self._name, epoch)

    def check_not_in_future(self, now: float) -> None:
        """Raise `CheckpointError` for a checkpoint that ends after `now`, the service's time."""
        end = max((span.end for span in self.checkpoint.done), default=0)
        if end > now + _MAX_AHEAD:
            raise CheckpointError(
                f"{self._source} lies in the future: it is done up to {iso(end)}, "
                f"{end - now:.0f} s after the service's time, which is {iso(now)}",
                hint="It was written with a wrong clock, or for another service. Restore an earlier one, or remove it "
                "to start over.",
            )


async def _acquire(store: CheckpointStore, name: str) -> Lease:
    for _ in range(_LEASE_ATTEMPTS):
        try:
            return await store.acquire(name)
        except CheckpointError as error:
            if error.kind != "in_use":
                raise
        # A stream that was left with `break` keeps its name until the event loop has closed its generator.
        await asyncio.sleep(_LEASE_INTERVAL)
    return await store.acquire(name)


def position_for(
    stream: str, checkpoint: str | Checkpoint | ResumableSink | None, store: CheckpointStore | None
) -> Position:
    """Return the position for the argument `checkpoint`; raises `ValueError` for a name without a store."""
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return Position(stream, given=checkpoint)
    if isinstance(checkpoint, ResumableSink):
        return Position(stream, given=checkpoint.checkpoint, sink=checkpoint)
    name = checked_name(checkpoint, "checkpoint")
    if store is None:
        raise ValueError(f"checkpoint={name!r} needs AnalyticsClient(checkpoints=FileCheckpoints(folder))")
    return Position(stream, store=store, name=name)
