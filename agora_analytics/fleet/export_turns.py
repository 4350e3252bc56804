"""The turns of exports: each shard is an export of its own, which resumes wherever its last turn ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from agora_analytics._core.decoding.json import encode
from agora_analytics._core.futures import cancel_and_wait, retrieve_error
from agora_analytics._core.redaction import fingerprint
from agora_analytics._core.retry import backoff
from agora_analytics.client import AnalyticsClient
from agora_analytics.export.report import ExportProgress, ExportReport
from agora_analytics.export.selection import Shard
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.description import Account, ExportJob
from agora_analytics.fleet.reporter import Reporter
from agora_analytics.fleet.status import JobStatus
from agora_analytics.fleet.turns import DECLINED, IsEnded, Turns

_INCOMPLETE: Final = 600.0
_MAX_INCOMPLETE: Final = 21_600.0
"""Seconds after which a shard is run again of which the service refused a part, at first and at most."""


class ShardTask(NamedTuple):
    """A shard of an export job."""

    account: Account
    job: ExportJob
    shard: Shard


def shard_tasks(account: Account, key: str, job: ExportJob) -> dict[str, ShardTask]:
    """Return the shards of a job by key: that of the job, the name of the shard, and a fingerprint of what it exports.

    A shard keeps its name when the description gets later days or more App IDs. Then it is another job, since the one
    before may be done.
    """
    return {f"{key}.{shard.name}.{_exported(job, shard)}": ShardTask(account, job, shard) for shard in job.shards()}


def _exported(job: ExportJob, shard: Shard) -> str:
    selection = shard.selection
    what = [selection.identity(), selection.span, selection.apps, job.to, job.format, job.every is None]
    return fingerprint(encode(what).decode())[:8]


class ExportTurns:
    """Runs shards until they are complete, or this worker drains."""

    def __init__(self, tasks: Mapping[str, ShardTask], *, pool: ClientPool, reporter: Reporter) -> None:
        self._tasks = tasks
        self._pool = pool
        self._reporter = reporter
        self._turns = Turns(pool, reporter)
        self._running: dict[asyncio.Task[ExportReport], asyncio.Event] = {}

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all shards."""
        return frozenset(self._tasks)

    async def take(self, key: str) -> float | None:
        """Run a shard; return the seconds until it is to be run again, or None if it is done."""
        if key not in self._tasks or key in self._turns or self._turns.is_draining:
            return DECLINED
        task = self._tasks[key]
        return await self._turns.run(key, task.account, lambda status, ended: self._turn(status, task, ended))

    async def _turn(self, status: JobStatus, task: ShardTask, is_ended: IsEnded) -> float | None:
        key = status.key
        async with self._pool.client(task.account) as client:
            # While the turn began, those that ran were ended.
            report = None if is_ended() else await self._run(key, task, client)
            if report is not None:
                await client.export.merge(task.job.shards(), task.job.to)
        if report is None:
            await self._turns.leave_if_taken(key, is_ended)
            await self._reporter.end(key)
            return 0.0
        if not report.complete:
            return await self._incomplete(status, report)
        await self._reporter.end(key, failures=0, error="", done=task.job.every is None)
        return task.job.every

    async def _incomplete(self, status: JobStatus, report: ExportReport) -> float:
        """Write down what is missing, and return the seconds until that is tried again: less often each time."""
        missing = f"incomplete: {len(report.skipped)} skipped, {report.pending} pending"
        await self._reporter.end(status.key, failures=status.failures + 1, error=missing)
        return backoff(_INCOMPLETE, status.failures, _MAX_INCOMPLETE)

    async def _run(self, key: str, task: ShardTask, client: AnalyticsClient) -> ExportReport | None:
        """Run an export to its end; None if another worker is to resume it."""
        draining = asyncio.Event()
        export = asyncio.ensure_future(self._export(key, task, client, draining))
        export.add_done_callback(retrieve_error)
        self._running[export] = draining
        try:
            await asyncio.wait((export,))
        except asyncio.CancelledError:
            await cancel_and_wait(export)
            raise
        finally:
            del self._running[export]
        if export.cancelled():  # by `stop`
            return None
        report = export.result()
        return None if draining.is_set() and report.pending else report

    async def _export(
        self, key: str, task: ShardTask, client: AnalyticsClient, draining: asyncio.Event
    ) -> ExportReport:
        def show(progress: ExportProgress) -> None:
            self._reporter.note(key, events=sum(progress.rows.values()))

        shard, job = task.shard, task.job
        return await client.export.run(
            shard.selection, shard.place(job.to), format=job.format, on_progress=show, drain=draining
        )

    def drain(self) -> None:
        """End all exports without wasting a request, and begin no other."""
        self._turns.drain()
        for draining in self._running.values():
            draining.set()

    def stop(self) -> None:
        """End all exports now: answers that are under way are lost."""
        self._turns.end()
        for export in self._running:
            export.cancel()

    def cancel(self) -> None:
        """Cancel all turns, also those that wait for a store."""
        self._turns.cancel()
