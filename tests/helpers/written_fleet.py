"""A fleet whose store holds what a test says that workers wrote down; nobody works."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from agora_analytics.fleet import Fleet, JobStatus, WorkerStatus
from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.fleet.reporter import JOBS, WORKERS
from agora_analytics.fleet.status import encoded

_STORES = count()


class WrittenFleet:
    """The tables of a fleet; times are seconds before now."""

    def __init__(self, queue: WorkQueue, fleet: Fleet) -> None:
        self.queue = queue
        self.fleet = fleet

    async def worker(self, name: str, *, since: float = 100, seen: float = -3_600, **fields: Any) -> None:
        """Write a worker; by default it is alive for an hour."""
        now = time.time()
        status = WorkerStatus(name=name, since=now - since, seen=now - seen, **fields)
        await self.queue.write(WORKERS, {name: encoded(status)})

    async def job(
        self, key: str, worker: str = "", *, age: float | None = None, seen: float = 0, **fields: Any
    ) -> None:
        """Write a job, that a worker is at work on unless the fields say otherwise."""
        now = time.time()
        read_to = None if age is None else now - age
        fields = {"running": bool(worker), "since": now - 60, **fields}
        status = JobStatus(key=key, worker=worker, seen=now - seen, read_to=read_to, **fields)
        await self.queue.write(JOBS, {key: encoded(status)})

    async def forget(self, *keys: str) -> None:
        await self.queue.write(JOBS, {}, remove=keys)

    async def damage(self, key: str, text: str) -> None:
        """Write something about a job that no worker writes."""
        await self.queue.write(JOBS, {key: text})


@asynccontextmanager
async def written_fleet() -> AsyncIterator[WrittenFleet]:
    """Yield a fleet in memory of its own."""
    store = f"memory://written-{next(_STORES)}"
    async with WorkQueue(store, "agora").opened() as queue:
        yield WrittenFleet(queue, Fleet(store=store))
