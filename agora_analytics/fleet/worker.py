"""A worker: takes its fair share of the jobs, does them in short turns, and hands them over when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from agora_analytics._core.futures import retrieve_error
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.export_turns import ExportTurns
from agora_analytics.fleet.queue import Run, WorkQueue
from agora_analytics.fleet.reporter import DRAIN, JOBS, Reporter
from agora_analytics.fleet.status import JobStatus, encoded, job_status
from agora_analytics.fleet.stream_turns import StreamTurns

_GRACE: Final = 20.0
"""Seconds in which turns may end by themselves before they are stopped."""

log = logging.getLogger("agora_analytics.fleet")


class FleetWorker:
    """Does jobs until `drain()`: streams and exports have a queue each, since an export may take hours."""

    def __init__(
        self,
        reporter: Reporter,
        pool: ClientPool,
        *,
        streams: StreamTurns,
        stream_queue: WorkQueue,
        exports: ExportTurns,
        export_queue: WorkQueue,
    ) -> None:
        self._reporter = reporter
        self._pool = pool
        self._streams = streams
        self._exports = exports
        self._queues: tuple[tuple[WorkQueue, frozenset[str], Run], ...] = (
            (stream_queue, streams.keys, streams.take),
            (export_queue, exports.keys, exports.take),
        )
        self._main = stream_queue
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Take no further job, hand over those that are under way, and end."""
        self._draining.set()
        self._streams.drain()
        self._exports.drain()

    async def apply(self) -> None:
        """Add the jobs of the description, and remove those that it does not have."""
        known = await self._main.read(JOBS)
        for queue, keys, take in self._queues:
            await self._apply(queue, keys, take, known)
        gone = set(known) - self._streams.keys - self._exports.keys
        new = (self._streams.keys | self._exports.keys) - set(known)
        await self._main.write(JOBS, {key: encoded(JobStatus(key=key)) for key in sorted(new)}, remove=gone)
        await self._main.write(DRAIN, {}, remove=[self._reporter.worker])

    async def _apply(self, queue: WorkQueue, keys: Iterable[str], take: Run, known: dict[str, str]) -> None:
        gone = set(known) - self._streams.keys - self._exports.keys
        await queue.remove(sorted(gone))
        # All, since a job may have been lost with the store while what was written down was not.
        done = {key for key in keys if job_status(key, known.get(key)).done}
        await queue.add(sorted(set(keys) - done), take)

    async def run(self, *, concurrency: int, exports: int) -> None:
        """Work until drained or cancelled."""
        await self._reporter.report(draining=False)
        limits = (concurrency, exports)
        working = [
            asyncio.ensure_future(queue.work(take, worker=self._reporter.worker, concurrency=limit))
            for (queue, _, take), limit in zip(self._queues, limits, strict=True)
        ]
        reporting = asyncio.ensure_future(
            self._reporter.report_forever(draining=self._draining, drain=self.drain, lost=self._streams.drain_running)
        )
        tidying = asyncio.ensure_future(self._pool.close_idle_forever())
        draining = asyncio.ensure_future(self._draining.wait())
        helpers = (reporting, tidying, draining)
        for task in (*working, *helpers):
            task.add_done_callback(retrieve_error)
        try:
            await asyncio.wait((*working, draining), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(working)
            for task in helpers:
                task.cancel()
            await asyncio.wait(helpers)
            await self._reporter.sign_off()
        for task in working:
            if not task.cancelled():
                task.result()

    async def _end(self, working: Iterable[asyncio.Future[None]]) -> None:
        """Let the turns end by themselves, then stop them."""
        for task in working:
            task.cancel()
        for end in (self.drain, self._streams.stop):
            end()
            await asyncio.wait(working, timeout=_GRACE)
        if self._reporter.running:
            log.warning("worker %s: %d jobs did not end in time", self._reporter.worker, len(self._reporter.running))
