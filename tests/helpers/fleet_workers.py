"""Workers of a fleet in this process, and what they deliver."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import asynccontextmanager, suppress

from helpers.fleet_service import described

from agora_analytics import Window
from agora_analytics.fleet import Fleet

BACK = 600
"""Seconds before the newest window: half a minute of windows comes at once, so no test waits for the next."""


class Seen:
    """The events of a fleet, and a wait for some of them."""

    def __init__(self) -> None:
        self.windows: Counter = Counter()
        self.by_worker: dict[str, set[str]] = defaultdict(set)

    def sink(self, worker: str):
        async def take(key, event):
            if isinstance(event, Window):
                self.windows[key, event.ts] += 1
            self.by_worker[worker].add(key)

        return take

    @property
    def jobs(self) -> set[str]:
        return {key for key, _ in self.windows}


@asynccontextmanager
async def working(fleet: Fleet, seen: Seen, name: str):
    task = asyncio.create_task(fleet.run_worker(seen.sink(name), worker=name))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of whatever the test looks at
            await asyncio.sleep(0.02)


async def status_when(fleet: Fleet, condition, seconds: float = 30):
    async with asyncio.timeout(seconds):
        while not condition(status := await fleet.status()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
    return status


def fleet_of(service, *, store="memory://", turn=1.0, **options) -> Fleet:
    return Fleet(*described(4, service.url, back=BACK), store=store, turn=turn, **options)
