"""A worker: takes its fair share of the jobs, does them in short turns, and hands them over when it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import Collection
from typing import Final

from agora_analytics._core import validation
from agora_analytics._core.futures import cancellations, raise_lost_cancellation, retrieve_error
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.export_turns import ExportTurns
from agora_analytics.fleet.freeze_watch import FreezeWatch
from agora_analytics.fleet.job_list import JobList
from agora_analytics.fleet.queue import Run, WorkQueue
from agora_analytics.fleet.reporter import DRAIN, Reporter
from agora_analytics.fleet.stream_turns import StreamTurns

_GRACE: Final = 12.0
_SHORT_GRACE: Final = 3.0
"""Seconds in which turns may end by themselves before they are stopped, and then before they are cancelled.

Together with the last report less than the 30 seconds after which Kubernetes kills.
"""

_LONGEST: Final = 128
_NAME: Final = re.compile(rf"[\w.:@#-]{{1,{_LONGEST}}}")
"""A host may be called by 64 characters, and has dots."""

log = logging.getLogger("agora_analytics.fleet")


def worker_name(given: str | None = None) -> str:
    """Return a worker's name, by default its host and process number.

    Raises `ValueError` or `TypeError` for one that is empty or too long, or is not one word.
    """
    if given is None:
        return f"{socket.gethostname()}-{os.getpid()}"
    name = validation.non_empty_str("worker", given)
    if not _NAME.fullmatch(name):
        allowed = f"1 to {_LONGEST} letters, digits and . _ : @ # -"
        raise ValueError(f"worker={validation.short_repr(name)}: allowed are {allowed}")
    return name


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
        turn: float,
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
        self._jobs = JobList(stream_queue, self._queues, turn)
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Take no further job, hand over those that are under way, and end."""
        self._draining.set()
        self._streams.drain()
        self._exports.drain()

    async def apply(self) -> None:
        """Add the jobs of the description, and remove those that it does not have, unless those are another fleet's."""
        await self._jobs.check_name()
        await self._jobs.apply()
        await self._main.write(DRAIN, {}, remove=[self._reporter.worker])

    async def run(self, *, concurrency: int, exports: int) -> None:
        """Work until drained or cancelled."""
        # What is started is ended in the same place: longer than 25 lines for that.
        before = cancellations()
        await self._reporter.report(draining=False)
        raise_lost_cancellation(before)
        limits = (concurrency, exports)
        working = [
            asyncio.ensure_future(queue.work(take, worker=self._reporter.worker, concurrency=limit))
            for (queue, _, take), limit in zip(self._queues, limits, strict=True)
        ]
        reporting = asyncio.ensure_future(
            self._reporter.report_forever(draining=self._draining, drain=self.drain, lost=self._lost)
        )
        tidying = asyncio.ensure_future(self._pool.close_idle_forever())
        listing = asyncio.ensure_future(self._jobs.keep_forever())
        draining = asyncio.ensure_future(self._draining.wait())
        helpers = (reporting, tidying, listing, draining)
        freezes = FreezeWatch(self._stop)
        for task in (*working, *helpers):
            task.add_done_callback(retrieve_error)
        try:
            await asyncio.wait((*working, draining), return_when=asyncio.FIRST_COMPLETED)
        finally:
            try:
                await self._end(working)
            finally:
                # Also when it is cancelled once more, by one who does not want to wait.
                for task in (*working, *helpers):
                    task.cancel()
                freezes.stop()
                self._cancel()
            await self._reporter.sign_off()
        for task in working:
            if task.done() and not task.cancelled():
                task.result()

    def _lost(self) -> None:
        """End what is under way: others may have it already."""
        self._reporter.discard_changes()
        self._streams.drain_running()
        self._exports.stop()

    def _stop(self) -> None:
        self._reporter.discard_changes()
        self._streams.stop()
        self._exports.stop()

    def _cancel(self) -> None:
        self._streams.cancel()
        self._exports.cancel()

    async def _end(self, working: Collection[asyncio.Future[None]]) -> None:
        """Let the turns end by themselves, then stop them, then cancel them."""
        for task in working:
            task.cancel()
        # Cancelled twice: the first time a turn may still save where it is, in a store that does not answer.
        for end in (self.drain, self._stop, self._cancel, self._cancel):
            end()
            if await self._ended(working, _GRACE if end == self.drain else _SHORT_GRACE):
                return
        log.warning("worker %s: %d jobs did not end in time", self._reporter.worker, len(self._reporter.running))
        # docket itself waits for a store that is frozen.
        for task in working:
            task.cancel()
        await asyncio.wait(working, timeout=_SHORT_GRACE)

    async def _ended(self, working: Collection[asyncio.Future[None]], seconds: float) -> bool:
        """Wait for the queues; return whether they ended in time, or False earlier while the store is away."""
        until = asyncio.get_running_loop().time() + seconds
        while (left := until - asyncio.get_running_loop().time()) > 0:
            if not (await asyncio.wait(working, timeout=min(left, _SHORT_GRACE)))[1]:
                return True
            # Nothing can be handed over, so there is nothing to wait for.
            if self._reporter.is_away:
                break
        return False
