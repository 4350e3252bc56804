"""The turns of a worker that are under way: each ends with a status and a pause, whatever it fails with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.description import Account
from agora_analytics.fleet.failures import pause_after
from agora_analytics.fleet.reporter import Reporter
from agora_analytics.fleet.status import JobStatus

DECLINED: Final = 0.5
"""Seconds after which a job that a worker declined is offered again, to any of them."""

Turn = Callable[[JobStatus], Awaitable[float | None]]
"""Does a turn, given the status before it; returns the seconds until the next, None for no other."""


class Turns:
    """Runs turns, each key once at a time."""

    def __init__(self, pool: ClientPool, reporter: Reporter) -> None:
        self._pool = pool
        self._reporter = reporter
        self._tasks: dict[str, asyncio.Task[object] | None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, key: str, account: Account, turn: Turn) -> float | None:
        """Run a turn; return its result, or the seconds until it is tried again.

        Raises `JobTakenError` if another worker has the job.
        """
        # Before anything is awaited: a hundred jobs may be offered at once, and one of them twice.
        self._tasks[key] = asyncio.current_task()
        try:
            return await self._begun(key, account, turn)
        finally:
            del self._tasks[key]

    async def _begun(self, key: str, account: Account, turn: Turn) -> float | None:
        try:
            status = await self._reporter.begin(key)
        except Exception:  # noqa: BLE001 - of any store: a worker that can reach it takes the job
            return DECLINED
        try:
            return await turn(status)
        except Exception as error:  # noqa: BLE001 - a fault of one job must not end, or hurry, any other
            return await pause_after(error, status, account, self._reporter, self._pool)
        except asyncio.CancelledError as error:
            if not _is_cancelled():
                # By the user's function, of something of its own: docket would take the job off the list for good.
                return await pause_after(error, status, account, self._reporter, self._pool)
            await self._reporter.end(key)
            raise

    def cancel(self) -> None:
        """Cancel all turns, wherever they wait."""
        for task in self._tasks.values():
            if task is not None:
                task.cancel()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
