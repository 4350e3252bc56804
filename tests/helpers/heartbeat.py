"""How long work holds the event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Self


class Heartbeat:
    """Measures how long the event loop is held, in CPU time, as the machine may be busy."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Self:
        gc.collect()
        gc.freeze()  # what earlier tests have left is no part of the work
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_) -> None:
        self._task.cancel()
        gc.unfreeze()

    async def _beat(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now
