"""A command that waits for its quota says so, and how long: two silent minutes look like a program that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from agora_analytics.cli.formatting import lasting
from agora_analytics.cli.repeats import Repeats
from agora_analytics.errors import LedgerError
from agora_analytics.quota import Priority, Quota, QuotaState

_TICK: Final = 1.0
_SHORT: Final = 5.0
"""Seconds of a wait that nobody asks about."""


@asynccontextmanager
async def telling_waits(quota: Quota, tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Tell when requests that somebody sits before wait longer; streams and exports tell theirs themselves."""
    task = asyncio.create_task(_look(quota, tell))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _look(quota: Quota, tell: Callable[[str], None]) -> None:
    repeats, known, now = Repeats(), set[str](), asyncio.get_running_loop().time
    with suppress(LedgerError):  # the request that waits will tell that
        while True:
            await asyncio.sleep(_TICK)
            waits = _waits((await quota.snapshot()).states)
            for counter in waits.keys() - known:
                line = f"waiting for the quota of {counter}: the next request goes in {lasting(waits[counter])}"
                for told in repeats.take(counter, line, now()):
                    tell(told)
            known = set(waits)


def _waits(states: tuple[QuotaState, ...]) -> dict[str, float]:
    """Return the seconds that the next request of each counter waits, where that is long."""
    found: dict[str, float] = {}
    for one in states:
        if one.priorities.get(Priority.INTERACTIVE) and one.resets_in > _SHORT:
            found[one.counter] = max(found.get(one.counter, 0.0), one.resets_in)
    return found
