"""The turns of a worker that are under way: each ends with a status and a pause, whatever it fails with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.description import Account
from agora_analytics.fleet.failures import is_takeover, pause_after
from agora_analytics.fleet.queue import JobTakenError
from agora_analytics.fleet.reporter import Reporter
from agora_analytics.fleet.status import JobStatus

DECLINED: Final = 0.5
"""Seconds after which a job that a worker declined is offered again, to any of them."""

IsEnded = Callable[[], bool]
"""Whether a turn is to end, as the worker drains or may have been frozen."""

Turn = Callable[[JobStatus, IsEnded], Awaitable[float | None]]
"""Does a turn, given the status before it; returns the seconds until the next, None for no other."""


class Turns:
    """Runs turns, each key once at a time."""

    def __init__(self, pool: ClientPool, reporter: Reporter) -> None:
        self._pool = pool
        self._reporter = reporter
        self._tasks: dict[str, asyncio.Task[object] | None] = {}
        self._is_draining = False
        self._ends = 0

    def __contains__(self, key: str) -> bool:
        return key in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def is_draining(self) -> bool:
        """Whether no other turn is to begin."""
        return self._is_draining

    async def run(self, key: str, account: Account, turn: Turn) -> float | None:
        """Run a turn; return its result, or the seconds until it is tried again.

        Raises `JobTakenError` if another worker has the job.
        """
        # Before anything is awaited: a hundred jobs may be offered at once, and one of them twice.
        self._tasks[key], ends = asyncio.current_task(), self._ends
        try:
            return await self._begun(key, account, turn, lambda: self._ends != ends)
        finally:
            del self._tasks[key]

    async def _begun(self, key: str, account: Account, turn: Turn, is_ended: IsEnded) -> float | None:
        try:
            status = await self._reporter.begin(key)
        except Exception:  # noqa: BLE001 - of any store: a worker that can reach it takes the job
            return DECLINED
        try:
            return await self._tried(status, account, turn, is_ended)
        except asyncio.CancelledError:
            await self._reporter.end(key)
            raise

    async def _tried(self, status: JobStatus, account: Account, turn: Turn, is_ended: IsEnded) -> float | None:
        """Run a turn; return its result, or write down what it fails with."""
        try:
            return await turn(status, is_ended)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            # A fault of one job must not end, or hurry, any other; and after a cancellation by the user's function, of
            # something of its own, docket would take the job off the list for good.
            is_taken = is_takeover(error) or await self._is_left(status.key, is_ended)
            return await pause_after(error, status, account, self._reporter, self._pool, is_taken=is_taken)

    async def leave_if_taken(self, key: str, is_ended: IsEnded) -> None:
        """Raise `JobTakenError` if a turn is to end, and another worker may have the job: it writes the status."""
        if await self._is_left(key, is_ended):
            raise JobTakenError

    async def _is_left(self, key: str, is_ended: IsEnded) -> bool:
        # A worker that drains hands its jobs over by itself: it asks for no successor.
        return is_ended() and not self._is_draining and await self._reporter.is_taken(key)

    def drain(self) -> None:
        """Begin no other turn, and end those that are under way."""
        self._is_draining = True
        self.end()

    def end(self) -> None:
        """Let the turns that are under way, or begin, know that they are to end."""
        self._ends += 1

    def cancel(self) -> None:
        """Cancel all turns, wherever they wait."""
        for task in self._tasks.values():
            if task is not None:
                task.cancel()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
