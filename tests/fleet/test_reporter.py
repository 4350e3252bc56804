"""What a worker writes down of its jobs: the end of a turn stays, whatever a report was about to write."""

from __future__ import annotations

import asyncio

import pytest
from helpers.redis_server import MISSING, REDIS

from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.fleet.reporter import JOBS, Reporter

pytestmark = [pytest.mark.real_time, pytest.mark.skipif(REDIS is None, reason=MISSING)]
KEY = "a0.watch.web"


class SlowQueue(WorkQueue):
    """A queue of which a write of two jobs or more, as of a report, waits until it may go on."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.waits, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def write(self, table, entries, *, remove=()) -> None:
        if table == JOBS and len(entries) > 1:
            self.waits.set()
            await self.may_go_on.wait()
        await super().write(table, entries, remove=remove)


async def test_a_report_under_way_does_not_undo_the_end_of_a_turn(redis):
    async with SlowQueue(redis.url, "ends").opened() as queue:
        reporter = Reporter("one", queue)
        for key in (KEY, "a1.watch.web"):
            await reporter.begin(key)
        report = asyncio.create_task(reporter.report(draining=False))
        await queue.waits.wait()
        end = asyncio.create_task(reporter.end(KEY))
        await asyncio.sleep(0.2)  # time to write, if it does not wait
        queue.may_go_on.set()
        await asyncio.gather(report, end)
        status = await Reporter("two", queue).begin(KEY)
    assert (status.worker, status.takeovers) == ("two", 0)


async def test_all_that_live_are_asked_for_at_once(redis):
    async with WorkQueue(redis.url, "lives").opened() as queue:
        docket = queue._opened()
        redis.command("SADD", docket.worker_tasks_set("one"), "task")
        before = redis.whole("INFO", "stats")
        assert await queue.alive({f"w{number}" for number in range(50)} | {"one"}) == {"one"}
        after = redis.whole("INFO", "stats")
        assert await queue.alive(()) == set()
    assert _reads(after) - _reads(before) < 40


def _reads(stats: str) -> int:
    """Return how often the server has read from its clients."""
    return next(int(line.partition(":")[2]) for line in stats.splitlines() if line.startswith("total_reads_processed"))
