"""Status lines on standard error while a command waits: for its quota, or for the next event of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from agora_analytics._core.futures import cancel_and_wait
from agora_analytics.cli.formatting import format_duration, format_number
from agora_analytics.cli.throttle import MessageThrottle, ReminderInterval
from agora_analytics.errors import LedgerError
from agora_analytics.quota import Priority, Quota, QuotaState

if TYPE_CHECKING:
    from agora_analytics.cli.output import Screen
    from agora_analytics.streams import Health
    from agora_analytics.streams.stream import Stream

# As often as a person looks, and rarely enough that reading a ledger in a file costs nothing.
_CHECK_EVERY: Final = 1.0
_LONG_WAIT: Final = 5.0
"""Seconds of a wait for the quota that is worth a line; a shorter one is not noticed."""

_HEALTHY: Final = frozenset({"polling", "stopped"})


@asynccontextmanager
async def report_quota_waits(quota: Quota, write: Callable[[str], None]) -> AsyncIterator[None]:
    """Report long waits of interactive requests while inside: a silent command looks as if it hangs.

    Streams and exports report their own waits.
    """
    # Waited for below and not awaited: its own error must not replace what is raised inside.
    task = asyncio.create_task(_poll_quota(quota, write))
    try:
        yield
    finally:
        await cancel_and_wait(task)


async def _poll_quota(quota: Quota, write: Callable[[str], None]) -> None:
    throttle, known, now = MessageThrottle(), set[str](), asyncio.get_running_loop().time
    with suppress(LedgerError):  # the waiting request raises the same error
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            waits = _long_waits((await quota.snapshot()).states)
            # Once for each wait: a line a second would scroll everything else away.
            for counter in waits.keys() - known:
                wait = format_duration(waits[counter])
                line = f"waiting for the quota of {counter}: the next request is sent in {wait}"
                for shown in throttle.add(counter, line, now()):
                    write(shown)
            known = set(waits)


def _long_waits(states: tuple[QuotaState, ...]) -> dict[str, float]:
    """Return the seconds until the next interactive request, by counter, where that is long."""
    waits: dict[str, float] = {}
    for state in states:
        if state.priorities.get(Priority.INTERACTIVE) and state.resets_in > _LONG_WAIT:
            waits[state.counter] = max(waits.get(state.counter, 0.0), state.resets_in)
    return waits


@asynccontextmanager
async def heartbeat(stream: Stream[Any], screen: Screen, quiet: float = 0.0) -> AsyncIterator[Callable[[], None]]:
    """Write the state of a stream after a minute without an event, then at doubling intervals.

    Yields a function to call at each event. A healthy stream may be silent for `quiet` seconds. With `--json` only a
    stream in trouble is reported.
    """
    monitor = _SilenceMonitor(stream, screen, quiet)
    # Not a task group: it would wrap what is raised inside.
    task = asyncio.create_task(monitor.run())
    try:
        yield monitor.record_event
    finally:
        await cancel_and_wait(task)


class _SilenceMonitor:
    def __init__(self, stream: Stream[Any], screen: Screen, quiet: float) -> None:
        self._stream, self._screen, self._quiet = stream, screen, quiet
        self._events = 0

    def record_event(self) -> None:
        self._events += 1

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        events, state = self._events, "polling"
        interval = ReminderInterval(loop.time())
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            health, now = self._stream.health, loop.time()
            if (self._events, health.state) != (events, state):
                events, state = self._events, health.state
                interval = ReminderInterval(now)
            elif now >= interval.due and now - interval.started > (self._quiet if state in _HEALTHY else 0):
                self._write(health, now - interval.started)
                interval.restart(now)

    def _write(self, health: Health, seconds: float) -> None:
        line = f"{format_duration(seconds)} without an event: {describe(health)}"
        (self._screen.note if health.state in _HEALTHY else self._screen.warn)(line)


def describe(health: Health) -> str:
    """Describe a stream: its state, its failed attempts, and how far behind it is."""
    # The error is in the log already, and would fill the line.
    short = attrs.evolve(health, last_error="")
    failures = f", {format_number(health.failures)} attempts failed" if health.failures else ""
    lag = "" if health.lag is None else f", read to {format_duration(health.lag)} ago"
    return f"{short}{failures}{lag}"
