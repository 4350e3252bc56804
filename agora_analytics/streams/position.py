"""A stream's place in time: its checkpoint, and where that is saved."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Self

import attrs

from agora_analytics._core import validation
from agora_analytics.errors import CheckpointError
from agora_analytics.protocols import CheckpointStore
from agora_analytics.spans import Instant, length, seconds
from agora_analytics.streams.checkpoint_stores import checked
from agora_analytics.streams.checkpoints import Checkpoint

_AHEAD: Final = 300
"""Seconds by which a checkpoint may be later than now: clocks differ."""

_TRIES: Final = 3
_BETWEEN: Final = 0.05
"""How often, and how many seconds apart, a name that is in use is tried again."""

StartPoint = Instant | timedelta | None
"""A moment; a duration before the newest that can be asked for; or the newest."""


@attrs.frozen
class Period:
    """From `start`, or `back` seconds before the newest that can be asked for, to `stop` (None: without end)."""

    start: int | None
    back: int | None
    stop: int | None

    @classmethod
    def of(cls, start: StartPoint, stop: Instant | None) -> Self:
        """Return the period of these arguments; raises `ValueError` or `TypeError` for what is none."""
        back = length(start, "start") if isinstance(start, timedelta) else None
        begin = None if start is None or isinstance(start, timedelta) else _moment(start)
        end = None if stop is None else seconds(stop, "stop")
        if begin is not None and end is not None and end <= begin:
            raise ValueError(f"stop={end} must be after start={begin}")
        return cls(begin, back, end)


def _moment(start: Instant) -> int:
    try:
        return seconds(start, "start")
    except TypeError:
        allowed = "a timedelta, an aware datetime, or whole seconds since 1970 as an int"
        raise validation.wrong("start", start, allowed) from None


class Progress(Protocol):
    """How many events a hub has delivered to its subscribers, and how many all of them have processed.

    Both are counted from when the hub began to read it.
    """

    delivered: int

    def processed(self) -> int:
        """Return how many events everyone is done with."""


class Position:
    """Where a stream is; saved under a name, or left to a sink that keeps it with what it writes."""

    def __init__(
        self, stream: str, *, given: Checkpoint | None = None, store: CheckpointStore | None = None, name: str = ""
    ) -> None:
        self.stream = stream
        self._store = store
        self._name = name
        self._leased = False
        self._progress: Progress | None = None
        self._unsaved: deque[tuple[int, Checkpoint]] = deque()
        self._source = f"checkpoint {name!r}" if name else "the checkpoint"
        self.checkpoint = Checkpoint(stream=stream) if given is None else given.check(stream, self._source)

    @property
    def named(self) -> bool:
        """Whether it is saved under a name."""
        return self._store is not None

    async def resume(self) -> Checkpoint:
        """Lease the name, and return what was saved under it.

        Raises `CheckpointError` for a checkpoint of another stream, and a name that another stream uses; the name is
        not leased then.
        """
        try:
            await self._load()
        except BaseException:
            await self.release()
            raise
        return self.checkpoint

    def share_with(self, progress: Progress) -> None:
        """Save only what those who work on the events are done with, until `let_go`; one hub at a time."""
        if self._progress is not None:
            raise RuntimeError("the stream is shared by another hub: subscribe there, or make a stream for each")
        self._progress = progress

    async def unshare(self) -> None:
        """Save what they are done with at last, and end the lease."""
        try:
            await self._save_processed()
        finally:
            self._progress = None
            await self.release()

    async def release(self) -> None:
        """End the lease of the name, if there is one and nobody works on events still; may be called twice."""
        if self._leased and self._store is not None and self._progress is None:
            self._leased = False
            await self._store.release(self._name)

    async def save(self, checkpoint: Checkpoint) -> None:
        """Note where the stream is."""
        self.checkpoint = checkpoint
        if self._store is None:
            return
        delivered = 0 if self._progress is None else self._progress.delivered
        if self._unsaved and self._unsaved[-1][0] == delivered:
            self._unsaved.pop()
        self._unsaved.append((delivered, checkpoint))
        await self._save_processed()

    async def _save_processed(self) -> None:
        """Save the last of what was kept that is done."""
        done = 0 if self._progress is None else self._progress.processed()
        ready = [checkpoint for delivered, checkpoint in self._unsaved if delivered <= done]
        if ready and self._store is not None:
            await self._store.save(self._name, ready[-1])
        for _ in ready:  # not before that has worked, or nobody would try again
            self._unsaved.popleft()

    async def _load(self) -> None:
        if self._store is None:
            return
        if not self._leased:
            await _acquire(self._store, self._name)
            self._leased = True
        found = await self._store.load(self._name)
        if found is not None:
            self.checkpoint = found.check(self.stream, self._source)

    def check_not_in_future(self, now: float) -> None:
        """Raise `CheckpointError` for a checkpoint that ends after the service's time, if that is known for certain."""
        end = max((span.end for span in self.checkpoint.done), default=0)
        if end > now + _AHEAD:
            raise CheckpointError(
                f"{self._source} lies in the future: it is done up to {_shown(end)}, "
                f"{end - now:.0f} s after the service's time, which is {_shown(now)}",
                hint="A wrong clock wrote it, or it is of another service. Restore an earlier one, or remove it to "
                "begin anew.",
            )


async def _acquire(store: CheckpointStore, name: str) -> None:
    """Lease a name, also from a stream of this process that nobody iterates over any more."""
    for _ in range(_TRIES):
        with suppress(CheckpointError):
            return await store.acquire(name)
        # A stream that was left with `break` and not closed has its name until the event loop has closed it.
        await asyncio.sleep(_BETWEEN)
    return await store.acquire(name)


def _shown(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


def position_for(stream: str, checkpoint: str | Checkpoint | None, store: CheckpointStore | None) -> Position:
    """Return the place of a stream by the argument `checkpoint`; raises `ValueError` for a name without a store."""
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return Position(stream, given=checkpoint)
    name = checked(checkpoint, "checkpoint")
    if store is None:
        raise ValueError(f"checkpoint={name!r} needs AnalyticsClient(checkpoints=FileCheckpoints(folder))")
    return Position(stream, store=store, name=name)
