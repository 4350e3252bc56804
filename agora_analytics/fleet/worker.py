"""A worker: takes its fair share of the jobs, does them in short turns, and hands them over when it ends."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import attrs

from agora_analytics._core.futures import retrieve_error
from agora_analytics.client import AnalyticsClient
from agora_analytics.errors import AgoraError, CheckpointError, LedgerError, Unauthorized
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.description import Account, FollowJob, WatchJob
from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.fleet.sinks import EventSink, Place
from agora_analytics.fleet.status import JobStatus, WorkerStatus, encoded, job_status, now
from agora_analytics.streams.checkpoints import Checkpoint
from agora_analytics.streams.events import CallEvent, Event, Gap, Window
from agora_analytics.streams.follow.follow import Follow
from agora_analytics.streams.watch.watch import Watch

JOBS: Final = "agora:jobs"
WORKERS: Final = "agora:workers"
"""The tables beside the queue in which workers write down what they do."""

DRAIN: Final = "agora:drain"
"""The table of workers that are to hand over what they have; `*` is all."""

_REPORT_EVERY: Final = 2.0
"""Seconds between two reports of a worker, each one command for all its jobs."""

_SLACK: Final = 1.1
"""By how much a worker may have more than its share: jobs would move to and fro for each that comes or goes."""

_DECLINE: Final = 0.5
"""Seconds after which a job that a full worker declined is offered again, to any of them."""

_MAX_PAUSE: Final = 300.0
_MAX_STORE_PAUSE: Final = 5.0
"""Longest pauses in seconds before a job is tried again: after an error of its own, and after one of a store."""

_GRACE: Final = 20.0
"""Seconds in which turns may end by themselves before they are stopped."""

log = logging.getLogger("agora_analytics.fleet")

Stream = Watch | Follow


@attrs.frozen
class _Task:
    account: Account
    job: WatchJob | FollowJob


class FleetWorker:
    """Does jobs until `drain()`; each in turns of about `turn` seconds, so that they spread over the workers."""

    def __init__(
        self,
        name: str,
        jobs: Mapping[str, tuple[Account, WatchJob | FollowJob]],
        *,
        queue: WorkQueue,
        pool: ClientPool,
        sink: EventSink,
        turn: float,
    ) -> None:
        self.name = name
        self._tasks = {key: _Task(account, job) for key, (account, job) in jobs.items()}
        self._queue = queue
        self._pool = pool
        self._sink = sink
        self._turn = turn
        self._since = now()
        self._running: dict[str, Stream] = {}
        self._statuses: dict[str, JobStatus] = {}
        self._changed: set[str] = set()
        self._alive = 1
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Take no further job, hand over those that are under way, and end."""
        self._draining.set()
        self._drain_streams()

    async def apply(self) -> None:
        """Add the jobs of the description, and remove those that it does not have."""
        known = await self._queue.read(JOBS)
        gone = sorted(set(known) - set(self._tasks))
        await self._queue.remove(gone)
        new = {key: encoded(JobStatus(key=key)) for key in self._tasks if key not in known}
        await self._queue.write(JOBS, new, remove=gone)
        # All, since a job may have been lost with the store while what was written down was not.
        await self._queue.add(self._tasks, self._take_turn)
        await self._queue.write(DRAIN, {}, remove=[self.name])

    async def run(self, *, concurrency: int) -> None:
        """Work until drained or cancelled."""
        await self._report()
        working = asyncio.ensure_future(self._queue.work(self._take_turn, worker=self.name, concurrency=concurrency))
        reporting = asyncio.ensure_future(self._report_forever())
        draining = asyncio.ensure_future(self._draining.wait())
        for task in (working, reporting, draining):
            task.add_done_callback(retrieve_error)
        try:
            await asyncio.wait((working, draining), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(working)
            reporting.cancel()
            draining.cancel()
            await asyncio.wait((reporting, draining))
            await self._sign_off()
        if not working.cancelled():
            working.result()

    async def _end(self, working: asyncio.Future[None]) -> None:
        """Let the turns end by themselves, then stop them."""
        self._draining.set()
        working.cancel()
        for end in (self._drain_streams, self._stop_streams):
            end()
            await asyncio.wait((working,), timeout=_GRACE)
        if not working.done():
            log.warning("worker %s: %d jobs did not end in time", self.name, len(self._running))

    def _drain_streams(self) -> None:
        for stream in self._running.values():
            stream.drain()

    def _stop_streams(self) -> None:
        for stream in self._running.values():
            stream.stop()

    # Turns.

    async def _take_turn(self, key: str) -> float | None:
        """Do a turn of a job; return the seconds until the next may begin, on any worker."""
        task = self._tasks.get(key)
        if task is None or key in self._running or self._draining.is_set() or self._is_full():
            return _DECLINE
        status = await self._begin(key)
        try:
            async with self._pool.client(task.account) as client, self._sink.place(key) as place:
                await self._deliver(key, place, _stream(client, task.job, place.checkpoint))
        except (AgoraError, ValueError, TypeError, OSError) as error:
            return await self._failed(key, task, status, error)
        await self._end_turn(key, failures=0, error="")
        return 0.0

    def _is_full(self) -> bool:
        return len(self._running) >= math.ceil(_SLACK * len(self._tasks) / self._alive)

    async def _begin(self, key: str) -> JobStatus:
        known = await self._queue.read_one(JOBS, key)
        status = job_status(key, known).taken_by(self.name, now())
        if status.takeovers > job_status(key, known).takeovers:
            log.warning("worker %s took over %s", self.name, key)
        self._statuses[key] = status
        self._changed.add(key)
        return status

    async def _deliver(self, key: str, place: Place, stream: Stream) -> None:
        self._running[key] = stream
        # Turns of different lengths, so that jobs that began together do not end together.
        timer = asyncio.get_running_loop().call_later(random.uniform(0.5, 1.0) * self._turn, stream.drain)  # noqa: S311
        try:
            async with stream:
                async for event in stream:
                    await place.write(event, stream.checkpoint)
                    self._note(key, events=self._statuses[key].events + 1, read_to=_read_to(event, stream))
        finally:
            timer.cancel()
            del self._running[key]

    async def _failed(self, key: str, task: _Task, status: JobStatus, error: Exception) -> float:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, CheckpointError) and error.kind == "taken_over":
            log.warning("worker %s: %s was taken over", self.name, key)
            return 0.0
        if isinstance(error, Unauthorized):
            await self._pool.forget(task.account.name)
        failures = status.failures + 1
        await self._end_turn(key, failures=failures, error=text)
        log.warning("worker %s: %s failed, %d in a row: %s", self.name, key, failures, text)
        longest = _MAX_STORE_PAUSE if isinstance(error, LedgerError | CheckpointError) else _MAX_PAUSE
        return min(longest, 2.0 ** min(failures, 10))

    async def _end_turn(self, key: str, **changes: Any) -> None:
        self._note(key, running=False, **changes)
        # At once: the next worker would believe that it takes the job over.
        with suppress(Exception):  # of any store; the next report says it
            await self._queue.write(JOBS, {key: encoded(self._statuses[key])})
            self._changed.discard(key)

    # Reports.

    def _note(self, key: str, **changes: Any) -> None:
        self._statuses[key] = attrs.evolve(self._statuses[key], seen=now(), **changes)
        self._changed.add(key)

    async def _report_forever(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            try:
                await self._report()
                await self._pool.close_idle()
            except Exception as error:  # noqa: BLE001 - of any store; the next report says the same and more
                log.debug("worker %s: no report: %s", self.name, error)
                # docket connects again only when all that is under way has ended.
                self._drain_streams()

    async def _report(self) -> None:
        """Write down what changed, and read how many share the work and whether to drain."""
        changed, self._changed = self._changed, set()
        try:
            await self._queue.write(JOBS, {key: encoded(self._statuses[key]) for key in changed})
            status = WorkerStatus(
                name=self.name, since=self._since, seen=now(), jobs=len(self._running), draining=self._draining.is_set()
            )
            await self._queue.write(WORKERS, {self.name: encoded(status)})
        except BaseException:
            self._changed |= changed
            raise
        for key in [key for key in self._statuses if key not in self._running and key not in self._changed]:
            del self._statuses[key]
        self._alive = max(1, len(await self._queue.workers() | {self.name}))
        asked = await self._queue.read(DRAIN)
        if {self.name, "*"} & set(asked):
            self.drain()

    async def _sign_off(self) -> None:
        with suppress(Exception):  # the store may be gone; the row is removed as lost then
            await self._report()
            await self._queue.write(WORKERS, {}, remove=[self.name])


def _stream(client: AnalyticsClient, job: WatchJob | FollowJob, resume: str | Checkpoint | None) -> Stream:
    scoped = client.with_app(job.app_id)
    if isinstance(job, WatchJob):
        return scoped.realtime.watch(*job.series, checkpoint=resume, **job.arguments())
    return scoped.calls.follow(checkpoint=resume, **job.arguments())


def _read_to(event: Event | CallEvent, stream: Stream) -> float | None:
    """Return up to when events were delivered, with this one."""
    if isinstance(event, Window | Gap):
        return float(event.span.end)
    read_to = stream.health.last_window
    return None if read_to is None else float(read_to)
