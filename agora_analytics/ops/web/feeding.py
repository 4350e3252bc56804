"""Reads one stream for as long as the server runs: a stream that ends by an error is started again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, Generic, Literal, TypeVar

import attrs

from agora_analytics.errors import AgoraError
from agora_analytics.ops.web.restarts import STEADY, restart_pause
from agora_analytics.spans import iso
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.health import Health
from agora_analytics.streams.stream import Stream

T = TypeVar("T")

StreamName = Literal["windows", "calls"]

_TROUBLE: Final = frozenset({"outage", "refused", "stopped"})
"""States that a person should look at: the others pass by themselves."""

log = logging.getLogger("agora_analytics.ops")


@attrs.frozen(kw_only=True)
class StreamView:
    """A stream as JSON: the fields of its `Health`; `error` is why it ended, and `restarts_at` when it starts again."""

    name: StreamName
    health: Health
    error: str = ""
    restarts_at: int | None = None

    @property
    def waits(self) -> bool:
        """Whether the stream is well, and waits for its quota: in an outage it may wait for that of its next retry."""
        return self.health.state == "waiting for quota" and not self.health.failures

    @property
    def trouble(self) -> str:
        """What is wrong with the stream; empty if it polls, or waits for its quota."""
        if self.error:
            at = "" if self.restarts_at is None else f" at {iso(self.restarts_at)}"
            return f"{self.name}: ended by an error, starts again{at}: {self.error}"
        fails = self.health.state in _TROUBLE or (self.health.state == "waiting for quota" and not self.waits)
        return f"{self.name}: {self.health}" if fails else ""


class StreamReader(Generic[T]):
    """Reads the streams that `open_stream` returns, one after the other, and passes each event on.

    `open_stream` gets the checkpoint of the stream before, None at first. `read` reads one stream to its end and passes
    each event to the function that it gets.
    """

    def __init__(
        self,
        name: StreamName,
        open_stream: Callable[[Checkpoint | None], Stream[T]],
        on_event: Callable[[T], None],
        now: Callable[[], float],
        read: Callable[[Stream[T], Callable[[T], None]], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.stream: Stream[T] | None = None
        self.open = open_stream
        self._on_event = on_event
        self._now = now
        self._read = read or _read
        self._random = Random()  # noqa: S311 - spreads restarts
        self._error = ""
        self._restarts_at: int | None = None

    def view(self) -> StreamView:
        """Return the state of the stream."""
        health = Health() if self.stream is None else self.stream.health
        return StreamView(name=self.name, health=health, error=self._error, restarts_at=self._restarts_at)

    async def run(self) -> None:
        """Read for ever."""
        reached, failures, monotonic = None, 0, asyncio.get_running_loop().time
        while True:
            self._error, self._restarts_at, started = "", None, monotonic()
            ended = await self._run_stream(reached)
            # The new stream starts there: otherwise the page would lose what happened during the pause.
            reached = self._reached()
            failures = 1 if monotonic() - started >= STEADY else failures + 1
            pause = restart_pause(ended, failures, self._now(), self._random)
            self._error, self._restarts_at = str(ended or ""), int(self._now() + pause)
            log.warning("%s ended, starts again in %.0f s: %s", self.name, pause, self._error)
            await asyncio.sleep(pause)

    async def _run_stream(self, reached: Checkpoint | None) -> AgoraError | OSError | None:
        """Read a stream to its end and return the error that ended it."""
        try:
            self.stream = self.open(reached)
            async with self.stream as stream:
                await self._read(stream, self._on_event)
        # Anything else is a fault of this library: it ends the task, and the liveness probe fails.
        except (AgoraError, OSError) as error:
            return error
        return None

    def _reached(self) -> Checkpoint | None:
        """Return where the last stream was, None if it has delivered nothing."""
        checkpoint = None if self.stream is None else self.stream.checkpoint
        return checkpoint if checkpoint is not None and checkpoint.done else None


async def _read(stream: Stream[T], deliver: Callable[[T], None]) -> None:
    async for event in stream:
        deliver(event)
