"""What a worker writes down of its jobs: the end of a turn stays, whatever a report was about to write."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from helpers.redis_server import MISSING, REDIS

from agora_analytics.fleet.export_turns import ExportTurns
from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.fleet.reporter import JOBS, Reporter
from agora_analytics.fleet.status import job_status
from agora_analytics.fleet.stream_turns import StreamTurns
from agora_analytics.fleet.worker import FleetWorker

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


async def test_a_worker_that_comes_back_reads_at_once_that_a_job_was_taken_over(redis):
    async with WorkQueue(redis.url, "begins").opened() as queue:
        one, two = Reporter("one", queue), Reporter("two", queue)
        # Frozen before its first report, and the other one asked for before its own.
        await one.begin(KEY)
        assert not await one.is_taken(KEY)
        assert (await two.begin(KEY)).takeovers == 1
        assert await one.is_taken(KEY)
        assert not await two.is_taken(KEY)
        await two.end(KEY)
        assert not await one.is_taken(KEY)


@pytest.mark.parametrize("end", ["_stop", "_lost"])
async def test_a_worker_that_comes_back_does_not_report_the_jobs_that_others_have(redis, end):
    async with WorkQueue(redis.url, f"back{end}").opened() as queue:
        one, two = Reporter("one", queue), Reporter("two", queue)
        pool = SimpleNamespace()
        worker = FleetWorker(
            one,
            pool,
            streams=StreamTurns({}, pool=pool, sink=SimpleNamespace(), reporter=one, seconds=60),
            stream_queue=queue,
            exports=ExportTurns({}, pool=pool, reporter=one),
            export_queue=queue,
            turn=60,
        )
        await one.begin(KEY)
        one.delivered(KEY, 1.0)  # just before the freeze
        await two.begin(KEY)
        getattr(worker, end)()
        await one.report(draining=False)
        assert await one.is_taken(KEY)


async def test_a_turn_that_ended_in_an_outage_is_not_reported_over_that_of_a_successor(redis):
    async with WorkQueue(redis.url, "outage").opened() as queue:
        one, two = Reporter("one", queue), Reporter("two", queue)
        for key in (KEY, "mine"):
            await one.begin(key)
        one.is_away = True
        for key in (KEY, "mine"):
            await one.end(key, failures=1)
        await two.begin(KEY)
        await one.report(draining=False)
        assert await one.is_taken(KEY) is False  # as it cannot know
        one.is_away = False
        assert await one.is_taken(KEY)
        written = await queue.read(JOBS)
        assert (job_status("mine", written["mine"]).failures, job_status(KEY, written[KEY]).failures) == (1, 0)


async def test_nor_is_a_turn_that_ends_while_the_report_after_the_outage_is_under_way(redis, monkeypatch):
    async with WorkQueue(redis.url, "outage's end").opened() as queue:
        one, two = Reporter("one", queue), Reporter("two", queue)
        await one.begin(KEY)
        one.is_away, alive = True, queue.alive

        async def alive_later(names):
            await one.end(KEY, failures=1)
            return await alive(names)

        monkeypatch.setattr(queue, "alive", alive_later)
        await one.report(draining=False)
        monkeypatch.undo()
        one.is_away = False
        await two.begin(KEY)
        await one.report(draining=False)
        written = job_status(KEY, (await queue.read(JOBS))[KEY])
        assert (written.worker, written.running, written.failures) == ("two", True, 0)


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
