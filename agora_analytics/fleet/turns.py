"""The turns of a worker that are under way: each ends with a status and a pause, whatever it fails with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.description import Account
from agora_analytics.fleet.failures import has_successor, pause_after
from agora_analytics.fleet.reporter import Reporter
from agora_analytics.fleet.status import JobStatus

DECLINED: Final = 0.5
"""Seconds after which a job that a worker declined is offered again, to any of them."""

Turn = Callable[[JobStatus], Awaitable[float | None]]
"""Does a turn, given the status before it; returns the seconds until the next, None for no other."""


class Turns:
    """Runs turns, each key once at a time."""

    def __init__(self, pool: ClientPool, reporter: Reporter, seconds: float) -> None:
        self._pool = pool
        self._reporter = reporter
        self._seconds = seconds
        self._waiting: dict[str, asyncio.Event] = {}
        self._is_drained = False
        self._tasks: dict[str, asyncio.Task[object] | None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._tasks

    def __len__(self) -> int:
        """Return how many are at work."""
        return len(self._tasks) - len(self._waiting)

    async def run(self, key: str, account: Account, turn: Turn) -> float | None:
        """Run a turn; return its result, or the seconds until it is tried again."""
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
            pause = await pause_after(error, status, account, self._reporter, self._pool)
            if has_successor(error):
                await self._wait_for_successor(key)
            return pause
        except asyncio.CancelledError as error:
            if not _is_cancelled():
                # By the user's function, of something of its own: docket would take the job off the list for good.
                return await pause_after(error, status, account, self._reporter, self._pool)
            await self._reporter.end(key)
            raise

    async def _wait_for_successor(self, key: str) -> None:
        """Wait for the length of a turn: to end offers the job, and who took it would work beside the successor."""
        if self._is_drained:
            return
        offered = self._waiting[key] = asyncio.Event()
        try:
            async with asyncio.timeout(self._seconds):
                await offered.wait()
        except TimeoutError:
            pass
        finally:
            del self._waiting[key]

    def decline(self, key: str) -> float:
        """Decline a job, and return the pause; one of which a successor has ended its turn can be taken after that."""
        if key in self._waiting:
            self._waiting[key].set()
        return DECLINED

    def drain(self) -> None:
        """Wait for no successor any more."""
        self._is_drained = True
        for offered in self._waiting.values():
            offered.set()

    def cancel(self) -> None:
        """Cancel all turns, wherever they wait."""
        for task in self._tasks.values():
            if task is not None:
                task.cancel()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
