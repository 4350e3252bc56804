"""The turns of exports: each shard is an export of its own, which resumes wherever its last turn ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from agora_analytics._core.futures import retrieve_error
from agora_analytics._core.redaction import fingerprint
from agora_analytics._core.retry import backoff
from agora_analytics.client import AnalyticsClient
from agora_analytics.export.report import ExportProgress, ExportReport
from agora_analytics.export.selection import Shard
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.description import Account, ExportJob
from agora_analytics.fleet.reporter import Reporter
from agora_analytics.fleet.status import JobStatus
from agora_analytics.fleet.turns import DECLINED, Turns

_INCOMPLETE: Final = 600.0
_MAX_INCOMPLETE: Final = 21_600.0
"""Seconds after which a shard is run again of which the service refused a part, at first and at most."""


class ShardTask(NamedTuple):
    """A shard of an export job."""

    account: Account
    job: ExportJob
    shard: Shard

    @property
    def version(self) -> str:
        """A fingerprint of what it does: with another one, a shard that was complete is not."""
        chosen, job = self.shard.selection, self.job
        return fingerprint(repr((job.to, job.format, job.every, chosen.span, chosen.apps, chosen.identity())))


def shard_tasks(account: Account, key: str, job: ExportJob) -> dict[str, ShardTask]:
    """Return the shards of a job by key."""
    return {f"{key}.{shard.name}": ShardTask(account, job, shard) for shard in job.shards()}


class ExportTurns:
    """Runs shards until they are complete, or this worker drains."""

    def __init__(self, tasks: Mapping[str, ShardTask], *, pool: ClientPool, reporter: Reporter) -> None:
        self._tasks = tasks
        self._pool = pool
        self._reporter = reporter
        self._turns = Turns(pool, reporter)
        self._running: set[asyncio.Task[ExportReport]] = set()
        self._is_draining = False

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of all shards by key."""
        return {key: task.version for key, task in self._tasks.items()}

    async def take(self, key: str) -> float | None:
        """Run a shard; return the seconds until it is to be run again, or None if it is done."""
        if key not in self._tasks or key in self._turns or self._is_draining:
            return DECLINED
        task = self._tasks[key]
        return await self._turns.run(key, task.account, lambda status: self._turn(status, task))

    async def _turn(self, status: JobStatus, task: ShardTask) -> float | None:
        key = status.key
        async with self._pool.client(task.account) as client:
            report = await self._run(key, task, client)
            if report is not None:
                await client.export.merge(task.job.shards(), task.job.to)
        if report is None:
            await self._reporter.end(key)
            return 0.0
        if not report.complete:
            return await self._incomplete(status, report)
        done = task.job.every is None
        await self._reporter.end(key, failures=0, error="", done=done, version=task.version)
        return task.job.every

    async def _incomplete(self, status: JobStatus, report: ExportReport) -> float:
        """Write down what is missing, and return the seconds until that is tried again: less often each time."""
        missing = f"incomplete: {len(report.skipped)} skipped, {report.pending} pending"
        await self._reporter.end(status.key, failures=status.failures + 1, error=missing)
        return backoff(_INCOMPLETE, status.failures, _MAX_INCOMPLETE)

    async def _run(self, key: str, task: ShardTask, client: AnalyticsClient) -> ExportReport | None:
        """Run an export to its end; None if it was interrupted for another worker, which resumes it."""

        def show(progress: ExportProgress) -> None:
            self._reporter.note(key, events=sum(progress.rows.values()))

        export = asyncio.ensure_future(
            client.export.run(
                task.shard.selection, task.shard.place(task.job.to), format=task.job.format, on_progress=show
            )
        )
        export.add_done_callback(retrieve_error)
        self._running.add(export)
        try:
            await asyncio.wait((export,))
        except asyncio.CancelledError:
            export.cancel()
            await asyncio.wait((export,))
            raise
        finally:
            self._running.discard(export)
        # Cancelled by `drain`: what was answered is saved.
        return None if export.cancelled() else export.result()

    def drain(self) -> None:
        """End all exports where they are, and begin no other."""
        self._is_draining = True
        self.stop()

    def stop(self) -> None:
        """End all exports where they are."""
        for export in self._running:
            export.cancel()

    def cancel(self) -> None:
        """Cancel all turns, also those that wait for a store."""
        self._turns.cancel()
