"""When a checkpoint is saved: at once, or at most once in so many seconds, the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agora_analytics._core.futures import retrieve_error, wait_until_done
from agora_analytics.streams.checkpoints import Checkpoint


class Saver:
    """Saves the newest checkpoint of a stream, at most once in `every` seconds; with 0, each before `put` returns.

    Otherwise saves run beside the stream, one at a time, each with the newest checkpoint. An error of one is raised by
    the next `put`, or by `close`. `first` are saved before: what would be lost if only this one was saved.
    """

    def __init__(self, save: Callable[[Checkpoint], Awaitable[None]], every: float) -> None:
        self.first: list[Saver] = []
        self._save = save
        self._every = every
        self._newest: Checkpoint | None = None
        self._saved_at = float("-inf")
        self._writing = asyncio.Lock()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def put(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint, now or with the next save."""
        self._newest = checkpoint
        if not self._every:
            await self.flush()
            return
        if self._task is not None and self._task.done():
            self._task.result()
            self._task = None
        if self._task is None:
            self._closing.clear()
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(retrieve_error)  # raised by the next `put`

    async def flush(self) -> None:
        """Save the newest checkpoint, unless that is done."""
        async with self._writing:
            for other in self.first:
                await other.flush()
            checkpoint, self._newest = self._newest, None
            if checkpoint is None:
                return
            self._saved_at = asyncio.get_running_loop().time()
            try:
                await self._save(checkpoint)
            except asyncio.CancelledError:
                # It may have been undone: `close` saves it again.
                self._newest = self._newest or checkpoint
                raise

    async def close(self) -> None:
        """Save what has not been saved; raises the error of the last save, if it failed."""
        task, self._task = self._task, None
        if task is not None:
            self._closing.set()
            # Gathered: a task that a loop cancels when it shuts down is no error, and what it left is saved below.
            try:
                (error,) = await wait_until_done(asyncio.gather(task, return_exceptions=True))
            except asyncio.CancelledError:
                with suppress(Exception):  # the caller gets its cancellation instead
                    await self.flush()
                raise
            if isinstance(error, Exception):
                raise error
        await self.flush()

    async def _run(self) -> None:
        while self._newest is not None:
            due = self._saved_at + self._every
            with suppress(TimeoutError):
                async with asyncio.timeout(max(due - asyncio.get_running_loop().time(), 0)):
                    await self._closing.wait()
            await self.flush()
