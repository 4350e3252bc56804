"""Where the events of jobs go: to a function, or to PostgreSQL with the position in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import attrs

from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.events import CallEvent, Event
from agora_analytics.streams.postgres_sink import PostgresSink

OnEvent = Callable[[str, Event | CallEvent], Awaitable[object]]
"""Takes an event of a job, given its key; the next one comes when it has returned."""


class Place(Protocol):
    """Where one turn of a job resumes (a checkpoint, or its name in the client's store), and where its events go."""

    @property
    def checkpoint(self) -> str | Checkpoint | None:
        """Where to resume."""

    async def write(self, event: Event | CallEvent, checkpoint: Checkpoint) -> None:
        """Take an event, and the checkpoint once it is done."""


class EventSink(Protocol):
    """Opens the place of each job."""

    def place(self, key: str) -> AbstractAsyncContextManager[Place]:
        """Take the job's place over while inside."""

    async def aclose(self) -> None:
        """Close what it opened."""


@attrs.frozen
class _Handed:
    checkpoint: str
    on_event: OnEvent

    async def write(self, event: Event | CallEvent, checkpoint: Checkpoint) -> None:  # noqa: ARG002 - see Place
        await self.on_event(self.checkpoint, event)


class FunctionSink:
    """Hands events to a function; the stream saves its position itself, so the last event may come again."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    @asynccontextmanager
    async def place(self, key: str) -> AsyncIterator[Place]:
        """Return the place of a job; the stream takes its name over."""
        yield _Handed(key, self._on_event)

    async def aclose(self) -> None:
        """Do nothing."""


class DatabaseSink:
    """Writes events to tables of PostgreSQL, each exactly once, and shows them to a function afterwards."""

    def __init__(self, url: str, on_event: OnEvent | None = None) -> None:
        self._sink = PostgresSink(url, "fleet")
        self._on_event = on_event

    @asynccontextmanager
    async def place(self, key: str) -> AsyncIterator[Place]:
        """Take the job's place over."""
        async with self._sink.beside(key) as sink:
            yield sink if self._on_event is None else _Shown(sink, key, self._on_event)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sink.close()


@attrs.frozen
class _Shown:
    sink: PostgresSink
    key: str
    on_event: OnEvent

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self.sink.checkpoint

    async def write(self, event: Event | CallEvent, checkpoint: Checkpoint) -> None:
        await self.sink.write(event, checkpoint)
        await self.on_event(self.key, event)
