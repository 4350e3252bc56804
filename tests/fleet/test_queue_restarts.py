"""The queue of a worker is started again however often it has failed."""

from __future__ import annotations

import asyncio

from agora_analytics.fleet.queue import _supervised

FAILURES = 1_100
"""More than a float can be doubled."""


class FailingWorker:
    """A worker of docket that fails at first, as with a store that is wrong for a night."""

    name = "one"
    runs = 0

    async def run_forever(self) -> None:
        self.runs += 1
        if self.runs <= FAILURES:
            raise ZeroDivisionError


async def test_a_queue_that_fails_for_a_night_is_started_again():
    worker = FailingWorker()
    await _supervised(worker)
    assert worker.runs == FAILURES + 1
    assert asyncio.get_running_loop().time() > (FAILURES - 10) * 30
