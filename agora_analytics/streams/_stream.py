"""What all streams share: how they are iterated over, stopped, watched over, and which errors they live with."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final, Generic, Self, TypeVar

import attrs

from agora_analytics.errors import AgoraError, BadRequest, LedgerError, NotFound, PlanRefused, Unauthorized
from agora_analytics.quota import Quota
from agora_analytics.streams._checkpoints import Checkpoint
from agora_analytics.streams._place import Place

T = TypeVar("T")

log = logging.getLogger("agora_analytics.streams")

_FATAL: Final = (Unauthorized, BadRequest, NotFound, LedgerError)
_REFUSED: Final = 3
"""Refusals of the span in a row that may be a clock's fault; more are the plan's."""


@attrs.frozen(kw_only=True)
class Health:
    """How a stream is doing, for a liveness probe.

    `last_window` is the start of the last window, or the moment up to which calls were read (UTC seconds), `lag` how
    many seconds ago that ended, `requests_left` what it can count on for the rest of the day, `failures` how many polls
    in a row failed. All but the last are None before there are any.
    """

    last_window: int | None = None
    lag: float | None = None
    requests_left: int | None = None
    failures: int = 0


class Stream(AsyncIterator[T], ABC, Generic[T]):
    """An endless source: iterate over it; `aclose()` or `stop()` end it."""

    _length = 0
    """Seconds from the moment that `Health.last_window` names to what has been read."""

    def __init__(self, quota: Quota, place: Place) -> None:
        self._quota = quota
        self._place = place
        self._health = Health()
        self._refused = 0
        self._stopped = asyncio.Event()
        self._events = self._run()

    @property
    def health(self) -> Health:
        """How it is doing now."""
        last = self._health.last_window
        return attrs.evolve(self._health, lag=None if last is None else self._quota.utc() - last - self._length)

    @property
    @abstractmethod
    def checkpoint(self) -> Checkpoint:
        """Where it will be once the event being worked on is done: for a sink that keeps that with what it writes."""

    def stop(self) -> None:
        """End after the event that is being worked on, which is noted as done; then iterating stops."""
        self._stopped.set()

    async def aclose(self) -> None:
        """End now; an event being worked on counts as not delivered."""
        await self._events.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await anext(self._events)

    @abstractmethod
    def _run(self) -> AsyncGenerator[T]:
        """Yield without end, or until stopped."""

    def _judge(self, errors: Sequence[AgoraError]) -> None:
        """Raise what asking again will not mend; the rest is told in the log, and asked again in its time."""
        self._health = attrs.evolve(self._health, failures=self._health.failures + 1 if errors else 0)
        refused = [error for error in errors if isinstance(error, PlanRefused)]
        self._refused = self._refused + 1 if refused else 0
        for error in errors:
            plan = isinstance(error, PlanRefused) and (error.kind == "access" or self._refused > _REFUSED)
            if plan or isinstance(error, _FATAL):
                raise error
            log.warning("a poll failed and will be made up for: %s", error)

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless stopped meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass
