"""The turns of watches and follows: events go to the sink until the turn is over, and no request is wasted."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping
from typing import Final

from agora_analytics.client import AnalyticsClient
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.description import Account, FollowJob, WatchJob
from agora_analytics.fleet.reporter import Reporter
from agora_analytics.fleet.sinks import EventSink, Place
from agora_analytics.fleet.status import JobStatus
from agora_analytics.fleet.turns import DECLINED, IsEnded, Turns
from agora_analytics.protocols import ResumableSink
from agora_analytics.streams.events import CallEvent, Event, Gap, Window
from agora_analytics.streams.follow.follow import Follow
from agora_analytics.streams.watch.watch import Watch

_SLACK: Final = 1.1
"""By how much a worker may have more than its share: jobs would move to and fro for each that comes or goes."""

Stream = Watch | Follow


class StreamTurns:
    """Does turns of watches and follows, of about `seconds` each."""

    def __init__(
        self,
        jobs: Mapping[str, tuple[Account, WatchJob | FollowJob]],
        *,
        pool: ClientPool,
        sink: EventSink,
        reporter: Reporter,
        seconds: float,
    ) -> None:
        self._jobs = jobs
        self._pool = pool
        self._sink = sink
        self._reporter = reporter
        self._seconds = seconds
        self._turns = Turns(pool, reporter)
        self._running: dict[str, Stream] = {}

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all jobs."""
        return frozenset(self._jobs)

    async def take(self, key: str) -> float | None:
        """Do a turn of a job; return the seconds until the next may begin, on any worker."""
        # One of a newer description than this worker's, or one that its successor should have.
        if key not in self._jobs or key in self._turns or self._turns.is_draining or self._is_full():
            return DECLINED
        account, job = self._jobs[key]
        return await self._turns.run(key, account, lambda status, ended: self._turn(status, account, job, ended))

    async def _turn(self, status: JobStatus, account: Account, job: WatchJob | FollowJob, is_ended: IsEnded) -> float:
        key = status.key
        async with self._pool.client(account) as client:
            # Not if the turns were ended while this one began: its place would be taken from a successor.
            if not is_ended():
                async with self._sink.place(key) as place:
                    if not is_ended():
                        await self._deliver(key, place, _stream(client, job, place.checkpoint))
        await self._turns.leave_if_taken(key, is_ended)
        await self._reporter.end(key)
        return 0.0

    def drain(self) -> None:
        """End all turns without wasting a request, and begin no other."""
        self._turns.drain()
        self.drain_running()

    def drain_running(self) -> None:
        """End the turns that are under way without wasting a request."""
        self._turns.end()
        for stream in self._running.values():
            stream.drain()

    def stop(self) -> None:
        """End all turns now."""
        self._turns.end()
        for stream in self._running.values():
            stream.stop()

    def cancel(self) -> None:
        """Cancel all turns, also those that wait for a store."""
        self._turns.cancel()

    def _is_full(self) -> bool:
        return len(self._turns) >= math.ceil(_SLACK * len(self._jobs) / self._reporter.alive)

    async def _deliver(self, key: str, place: Place, stream: Stream) -> None:
        self._running[key] = stream
        # Turns of different lengths, so that jobs that began together do not end together.
        length = random.uniform(0.5, 1.0) * self._seconds  # noqa: S311 - no secret
        timer = asyncio.get_running_loop().call_later(length, stream.drain)
        try:
            async with stream:
                async for event in stream:
                    await place.write(event, stream.checkpoint)
                    self._reporter.delivered(key, _read_to(event, stream))
            if isinstance(stream, Follow) and (read_to := stream.health.last_window) is not None:
                # Calls may not change for hours, and what was read of them is new all the same.
                self._reporter.note(key, read_to=float(read_to))
            self._reporter.note(key, failures=0, error="")
        finally:
            timer.cancel()
            del self._running[key]


def _stream(client: AnalyticsClient, job: WatchJob | FollowJob, resume: str | ResumableSink) -> Stream:
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
