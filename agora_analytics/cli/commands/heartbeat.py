"""A stream that is silent for long is said to be alive, or what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from agora_analytics.cli.formatting import lasting, number
from agora_analytics.cli.repeats import Pauses

if TYPE_CHECKING:
    from agora_analytics.cli.output import Screen
    from agora_analytics.streams import Health
    from agora_analytics.streams.stream import Stream

_TICK: Final = 1.0
_WELL: Final = frozenset({"polling", "stopped"})


@asynccontextmanager
async def pulse(stream: Stream[Any], screen: Screen, usual: float = 0.0) -> AsyncIterator[Callable[[], None]]:
    """Tell on standard error what a stream does while no event comes for a minute, and then ever more seldom.

    Waits of up to `usual` seconds are those of a stream that is well. Yields what is to be called at each event.
    Programs are told of trouble only.
    """
    silence = _Silence(stream, screen, usual)
    # Not a task group's: that would wrap what is raised inside.
    task = asyncio.create_task(silence.run())
    try:
        yield silence.broken
    finally:
        task.cancel()
        await asyncio.wait((task,))


class _Silence:
    def __init__(self, stream: Stream[Any], screen: Screen, usual: float) -> None:
        self._stream, self._screen, self._usual = stream, screen, usual
        self._events = 0

    def broken(self) -> None:
        self._events += 1

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        seen, state = self._events, "polling"
        pauses = Pauses(loop.time())
        while True:
            await asyncio.sleep(_TICK)
            health, now = self._stream.health, loop.time()
            if (self._events, health.state) != (seen, state):
                seen, state = self._events, health.state
                pauses = Pauses(now)
            elif now >= pauses.over and now - pauses.begun > (self._usual if state in _WELL else 0):
                self._tell(health, now - pauses.begun)
                pauses.told(now)

    def _tell(self, health: Health, seconds: float) -> None:
        trouble = health.state not in _WELL
        line = f"{lasting(seconds)} without an event: {told(health)}"
        (self._screen.warn if trouble else self._screen.note)(line)


def told(health: Health) -> str:
    """Tell what a stream does: its state, how often it failed, and what it has read to."""
    short = attrs.evolve(health, last_error="")
    failures = f", {number(health.failures)} tries failed" if health.failures else ""
    lag = "" if health.lag is None else f", read to {lasting(health.lag)} ago"
    return f"{short}{failures}{lag}"
