"""Where the events of jobs go: to a function, or to PostgreSQL with the position in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, Protocol

import attrs

from agora_analytics.errors import CheckpointError, FleetError
from agora_analytics.protocols import ResumableSink
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.events import CallEvent, Event
from agora_analytics.streams.postgres_checkpoints import PostgresCheckpoints
from agora_analytics.streams.postgres_sink import PostgresSink

OnEvent = Callable[[str, Event | CallEvent], Awaitable[object]]
"""Takes an event of a job, given its key; the next one comes when it has returned."""


_PATIENCE: Final = 5.0
"""Seconds for which a worker that starts waits for the database: jobs say by themselves that it is away."""


class Place(Protocol):
    """Where one turn of a job resumes (a checkpoint's name in the client's store, or a sink), and its events go."""

    @property
    def checkpoint(self) -> str | ResumableSink:
        """Where to resume."""

    async def write(self, event: Event | CallEvent, checkpoint: Checkpoint) -> None:
        """Take an event, and the checkpoint once it is done."""


class EventSink(Protocol):
    """Opens the place of each job."""

    async def check(self) -> None:
        """Raise `FleetError` if it refuses what a worker does there; one that is away is waited for by each job."""

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

    async def check(self) -> None:
        """Do nothing."""

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
        self._positions = PostgresCheckpoints(url)  # in the table of the sink
        self._on_event = on_event

    async def check(self) -> None:
        """Look for a position; a refusal comes at once, and what is away is tried again for longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE), self._positions as positions:
                try:
                    await positions.load(self._sink.name)
                except CheckpointError as error:
                    refused = FleetError(f"the sink of the fleet cannot be used: {error.args[0]}", hint=error.hint)
                else:
                    return
            raise refused

    @asynccontextmanager
    async def place(self, key: str) -> AsyncIterator[Place]:
        """Take the job's place over."""
        async with self._sink.beside(key) as sink:
            yield _Written(sink, self._on_event)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sink.close()


@attrs.frozen
class _Written:
    checkpoint: PostgresSink
    on_event: OnEvent | None

    async def write(self, event: Event | CallEvent, checkpoint: Checkpoint) -> None:
        await self.checkpoint.write(event, checkpoint)
        if self.on_event is not None:
            await self.on_event(self.checkpoint.name, event)
