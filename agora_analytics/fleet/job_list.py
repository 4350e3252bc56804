"""The list of jobs in the store: as the description says, also after the store lost it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from agora_analytics._core.dispatcher import in_turns
from agora_analytics.errors import FleetError
from agora_analytics.fleet.queue import Run, WorkQueue
from agora_analytics.fleet.reporter import DRAIN, JOBS, WORKERS
from agora_analytics.fleet.status import FleetStatus, JobStatus, encoded, fleet_status, worker_state

_DESCRIPTION: Final = "agora:description"
_KEYS: Final = "keys"
"""The entry that says which jobs the fleet has, by the worker that started last; gone if the store lost its data."""

_EVERY: Final = 5.0
_TIDY_EVERY: Final = 12
"""Seconds between two looks at the store, and how many of them are without a look at each job."""

_IDLE: Final = 120.0
"""Seconds without a turn after which a job is added again: longer than a turn; one that is in the list stays."""

_FORGOTTEN: Final = 3_600.0
"""Seconds after which a worker that died is no longer shown."""

log = logging.getLogger("agora_analytics.fleet")


class JobList:
    """Adds the jobs of a description to the queues, each with what does it, and removes the others."""

    def __init__(self, main: WorkQueue, queues: Iterable[tuple[WorkQueue, frozenset[str], Run]], turn: float) -> None:
        self._main = main
        self._queues = tuple(queues)
        self._keys = frozenset[str]().union(*(keys for _, keys, _ in self._queues))
        self._digest = hashlib.sha256("\n".join(sorted(self._keys)).encode()).hexdigest()
        self._idle = max(_IDLE, 2 * turn)
        self._is_other = False

    async def check_name(self) -> None:
        """Raise `FleetError` if workers of another fleet use this name: each would remove the jobs of the other.

        It is another if it has no job in common with this one, whatever the spans of exports.
        """
        await self._main.read_clock()
        known, workers = await self._main.read(JOBS), await self._main.read(WORKERS)
        status = await self._status({}, workers)
        running = [worker.name for worker in status.workers if worker_state(worker, status.at) == "working"]
        if known and running and _without_shards(known).isdisjoint(_without_shards(self._keys)):
            raise FleetError(
                f"another fleet of this name works in the store, with other jobs; its workers: {', '.join(running)}",
                hint="Give one of the two another `name`. If it is the same fleet, drain those workers first.",
            )

    async def apply(self) -> None:
        """Make the list as the description says."""
        # First: a worker with another description leaves the list alone from now on.
        await self._main.write(_DESCRIPTION, {_KEYS: self._digest})
        known = await self._main.read(JOBS)
        await self._remove(set(known) - self._keys)
        # All, since a job may have been lost with the store while what was written down was not.
        await self._add(job.key for job in (await self._status(known)).jobs if not job.done)
        await self._main.write(JOBS, dict.fromkeys(sorted(self._keys - set(known)), encoded(JobStatus(key=""))))

    async def keep_forever(self) -> None:
        """Add the jobs again that the store lost, and remove what is of no use, every few seconds."""
        count = 0
        while True:
            await asyncio.sleep(_EVERY)
            count += 1
            try:
                await self._keep(whole=count % _TIDY_EVERY == 0)
            except Exception as error:  # noqa: BLE001 - of any store; the next look is soon
                log.debug("the list of jobs cannot be used: %s", error)

    async def _keep(self, *, whole: bool) -> None:
        stored = await self._main.read_one(_DESCRIPTION, _KEYS)
        if stored is None:
            log.warning("the store lost the list of jobs: they are added again")
            await self.apply()
        elif stored != self._digest:
            if not self._is_other:
                log.warning("a worker of this fleet started with other jobs: this one keeps to those that both have")
        elif whole:
            await self._tidy()
        self._is_other = stored not in (None, self._digest)

    async def _tidy(self) -> None:
        # Before the workers: one that starts in between, and is asked to end, is among those then.
        draining = await self._main.read(DRAIN)
        known, workers = await self._main.read(JOBS), await self._main.read(WORKERS)
        status = await self._status(known, workers)
        await self._add(job.key for job in status.jobs if not job.done and job.seen < status.at - self._idle)
        # The last turn of a job that was removed may have written its status after that.
        await self._remove(set(known) - self._keys)
        gone = [worker.name for worker in status.workers if worker.seen < status.at - _FORGOTTEN]
        await self._main.write(WORKERS, {}, remove=gone)
        # One that was asked to end, and died first.
        await self._main.write(DRAIN, {}, remove=set(draining) - set(workers))

    async def _status(self, known: Mapping[str, str], workers: Mapping[str, str] | None = None) -> FleetStatus:
        """Return what was written down of the jobs of the description, and of workers."""
        described = {key: text for key, text in known.items() if key in self._keys}
        return await in_turns(fleet_status("", self._main.now(), described, workers or {}, self._keys))

    async def _add(self, keys: Iterable[str]) -> None:
        wanted = frozenset(keys)
        for queue, its, run in self._queues:
            await queue.add(sorted(its & wanted), run)

    async def _remove(self, keys: set[str]) -> None:
        for queue, _, _ in self._queues:
            await queue.remove(sorted(keys))
        await self._main.write(JOBS, {}, remove=keys)


def _without_shards(keys: Iterable[str]) -> set[str]:
    """Return the keys of jobs: that of a shard has the key of its export before it, and changes as that grows."""
    return {".".join(key.split(".")[:3]) for key in keys}
