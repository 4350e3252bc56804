"""What a worker writes down of itself and its jobs, and what it reads of the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import attrs

from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.fleet.status import JobStatus, WorkerStatus, encoded, job_status, worker_status

JOBS: Final = "agora:jobs"
WORKERS: Final = "agora:workers"
"""The tables beside the queue in which workers write down what they do."""

DRAIN: Final = "agora:drain"
"""The table of workers that are to hand over what they have."""

_PATIENCE: Final = 3.0
"""Seconds after which the store counts as away: docket's connections wait without end for one that is frozen."""

_RECENT: Final = 60.0
"""Seconds without a report after which a worker is not looked for: each that was killed is in the table for an hour."""

_EVERY: Final = 2.0
"""Seconds between two reports of a worker, each a few commands for all its jobs."""

log = logging.getLogger("agora_analytics.fleet")


class Reporter:
    """Keeps the statuses of a worker's jobs, and writes those down that changed.

    Attributes:
        is_listed: whether the queue knows this worker; if not, others may have its jobs.
        is_away: whether the store could not be used for the last report.
        alive: how many workers share the work, by the last report.
        running: the keys of the jobs that the worker is at work on.

    """

    def __init__(self, worker: str, queue: WorkQueue) -> None:
        self.worker = worker
        self.alive = 1
        self.is_listed = True
        self.is_away = False
        self.running: set[str] = set()
        self._queue = queue
        self._since = 0.0
        self._is_doubled = False
        self._statuses: dict[str, JobStatus] = {}
        self._changed: set[str] = set()
        self._ended_away: set[str] = set()
        # One at a time: what a report read a moment ago must not replace what the end of a turn has written since.
        self._writing = asyncio.Lock()

    async def begin(self, key: str) -> JobStatus:
        """Begin a turn of a job: read what was written down of it, count a takeover, and write that down at once.

        A worker that comes back after a freeze reads it in `is_taken`, maybe before the next report.
        """
        async with asyncio.timeout(_PATIENCE):
            known = job_status(key, await self._queue.read_one(JOBS, key))
            status = known.taken_by(self.worker, self._queue.now())
            await self._queue.write(JOBS, {key: encoded(status)})
        if status.takeovers > known.takeovers:
            log.warning("worker %s took over %s from %s", self.worker, key, known.worker)
        self._statuses[key] = status
        self._ended_away.discard(key)
        # Once more: a report under way may replace it with the end of the turn before.
        self._changed.add(key)
        self.running.add(key)
        return status

    def note(self, key: str, **changes: Any) -> None:
        """Change the status of a job, for the next report."""
        self._statuses[key] = attrs.evolve(self._statuses[key], seen=self._queue.now(), **changes)
        self._changed.add(key)

    def delivered(self, key: str, read_to: float | None) -> None:
        """Count an event of a job, which shows that what its last turn failed with is over."""
        self.note(key, events=self._statuses[key].events + 1, read_to=read_to, failures=0, error="")

    async def end(self, key: str, **changes: Any) -> None:
        """End a turn, and write that down at once: the next worker would believe that it takes the job over."""
        self.running.discard(key)
        self.note(key, running=False, **changes)
        if self.is_away:
            self._ended_away.add(key)  # the next report says it
            return
        # Twice: a connection that the store has closed is found out by the first that uses it.
        for _ in range(2):
            with suppress(Exception):  # of any store; the next report says it
                async with asyncio.timeout(_PATIENCE / 2), self._writing:
                    await self._queue.write(JOBS, {key: encoded(self._statuses[key])})
                self._changed.discard(key)
                return

    async def is_taken(self, key: str) -> bool:
        """Return whether another worker is at work on a job, as far as that can be read."""
        if self.is_away:
            return False
        with suppress(Exception):  # of any store
            async with asyncio.timeout(_PATIENCE):
                status = job_status(key, await self._queue.read_one(JOBS, key))
            return status.running and status.worker != self.worker
        return False

    def discard_changes(self) -> None:
        """Do not report what has changed of the jobs under way: other workers may have them, and have reported so."""
        self._changed -= self.running

    def forget(self, key: str) -> None:
        """End a turn of a job that another worker has now, and leave its status to that one."""
        self.running.discard(key)
        self._changed.discard(key)
        self._ended_away.discard(key)

    async def report(self, *, draining: bool) -> bool:
        """Write down what changed, read how many share the work, and return whether this worker is to drain."""
        async with asyncio.timeout(_PATIENCE):
            return await self._reported(draining=draining)

    async def _reported(self, *, draining: bool) -> bool:
        await self._queue.read_clock()
        workers = await self._queue.read(WORKERS)
        self._look_for_double(workers.get(self.worker))
        await self._leave_taken()
        await self._write_changed()
        now = self._queue.now()
        status = WorkerStatus(name=self.worker, since=self._since, seen=now, jobs=len(self.running), draining=draining)
        await self._queue.write(WORKERS, {self.worker: encoded(status)})
        recent = {name for name, text in workers.items() if worker_status(name, text).seen > now - _RECENT}
        alive = await self._queue.alive({*recent, self.worker})
        self.is_listed = self.worker in alive
        self.alive = len(alive | {self.worker})
        return await self._queue.read_one(DRAIN, self.worker) is not None

    async def _leave_taken(self) -> None:
        """Leave to others the jobs that ended here while the store was away, and that they have begun since."""
        ended = self._ended_away - self.running
        if ended:
            written = await self._queue.read(JOBS)
            # Looked at again: a turn may have begun here meanwhile.
            taken = {key for key in ended if job_status(key, written.get(key)).worker not in {self.worker, ""}}
            self._changed -= taken - self.running
        self._ended_away -= ended

    async def _write_changed(self) -> None:
        async with self._writing:
            changed, self._changed = self._changed, set()
            try:
                await self._queue.write(JOBS, {key: encoded(self._statuses[key]) for key in changed})
            except BaseException:
                self._changed |= changed
                raise
        # Jobs come and go; only those of now are kept in memory.
        for key in [key for key in self._statuses if key not in self.running and key not in self._changed]:
            del self._statuses[key]

    def _look_for_double(self, text: str | None) -> None:
        """Say once that another live worker has this name: what it wrote has come since the last report."""
        if not self._since:
            self._since = self._queue.now()  # what is there now may be of one that died
        elif text is not None and worker_status(self.worker, text).since != self._since and not self._is_doubled:
            self._is_doubled = True
            log.warning("two workers are called %s: give each its own name, or their shares are wrong", self.worker)

    async def report_forever(
        self, *, draining: asyncio.Event, drain: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        """Report every few seconds; call `drain` when that was asked for, and `lost` while the store cannot be used."""
        while True:
            await asyncio.sleep(_EVERY)
            try:
                if await self.report(draining=draining.is_set()):
                    drain()
                if self.is_away:
                    log.warning("worker %s: the store can be used again", self.worker)
                self.is_away = False
                # A worker that drains is never listed: docket has ended its heartbeat, and waits for the turns.
                if not self.is_listed and not draining.is_set():
                    # docket lost its connection, or the loop was blocked: it takes no job until these turns end.
                    lost()
            except Exception as error:  # noqa: BLE001 - of any store; the next report says the same and more
                if not self.is_away:
                    reason = self._queue.reason(error)
                    log.warning("worker %s: the store cannot be used, jobs wait until it can: %s", self.worker, reason)
                self.is_away = True
                lost()

    async def sign_off(self) -> None:
        """Write the last report, and leave the list of workers."""
        with suppress(Exception):  # the store may be gone; the row is shown as lost then
            await self.report(draining=True)
            async with asyncio.timeout(_PATIENCE):
                await self._queue.write(WORKERS, {}, remove=[self.worker])
