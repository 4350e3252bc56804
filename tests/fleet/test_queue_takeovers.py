"""A worker that has lost a job leaves it to its successor, and to nobody else if that one dies."""

from __future__ import annotations

import asyncio
import secrets
from types import SimpleNamespace

import docket.worker
import pytest
from helpers.fleet_workers import until
from helpers.redis_server import MISSING, REDIS

from agora_analytics.fleet import queue as work_queue
from agora_analytics.fleet.queue import JobTakenError, WorkQueue
from agora_analytics.fleet.turns import Turns

pytestmark = [pytest.mark.real_time, pytest.mark.skipif(REDIS is None, reason=MISSING)]
KEY = "a0.watch.web"
LEASE = 1.0


class Jobs:
    """Two workers with one job: each begins a turn; `lost` ends those of a worker as a fence does, `ended` in order."""

    def __init__(self, url: str) -> None:
        self.offers: list[str] = []
        self.lost = {"one": asyncio.Event(), "two": asyncio.Event()}
        self.ended = {"one": asyncio.Event(), "two": asyncio.Event()}
        self._url, self._name = url, f"jobs-{secrets.token_hex(4)}"

    async def work(self, worker: str) -> None:
        reporter = SimpleNamespace(worker=worker, begin=self._begin, forget=lambda _: None)
        turns = Turns(SimpleNamespace(), reporter)

        async def turn(*_):
            self.offers.append(worker)
            ends = [asyncio.ensure_future(one.wait()) for one in (self.lost[worker], self.ended[worker])]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for one in ends:
                one.cancel()
            if self.lost[worker].is_set():
                raise JobTakenError
            return 0.0

        async def run(key):
            return await turns.run(key, None, turn)

        async with WorkQueue(self._url, self._name).opened() as queue:
            await queue.add([KEY], run)
            await queue.work(run, worker=worker, concurrency=1)

    async def _begin(self, key):
        return SimpleNamespace(key=key)


@pytest.fixture
def frozen(monkeypatch):
    """Names of workers that renew no lease."""
    names, docket_renews, queue_renews = set(), docket.worker.renew_leases, WorkQueue._renew_leases

    async def renew_unless_frozen(redis, **options):
        if options["consumer_name"] not in names:
            await docket_renews(redis, **options)

    async def renew_too_unless_frozen(queue, worker):
        if worker not in names:
            await queue_renews(queue, worker)

    monkeypatch.setattr(docket.worker, "renew_leases", renew_unless_frozen)
    monkeypatch.setattr(WorkQueue, "_renew_leases", renew_too_unless_frozen)
    monkeypatch.setattr(work_queue, "REDELIVERY", LEASE)
    return names


@pytest.mark.slow
async def test_a_job_that_was_lost_stays_with_its_successor_and_comes_back_when_that_one_dies(redis, frozen):
    jobs = Jobs(redis.url)
    one = asyncio.create_task(jobs.work("one"))
    await until(lambda: jobs.offers == ["one"])
    two = asyncio.create_task(jobs.work("two"))
    frozen.add("one")
    await until(lambda: jobs.offers == ["one", "two"])
    frozen.clear()
    jobs.lost["one"].set()
    await asyncio.sleep(3 * LEASE)
    assert jobs.offers == ["one", "two"], "nobody is offered the job beside the successor"
    # Its slot is free again, though it has but one.
    frozen.add("two")
    await until(lambda: len(jobs.offers) > 2, 20)
    for task in (one, two):
        task.cancel()
    jobs.lost["two"].set()
    await asyncio.gather(one, two)


@pytest.mark.slow
async def test_a_worker_that_waits_for_the_end_of_its_turns_keeps_their_jobs(redis, monkeypatch):
    """Such as for the answer of a slow service: its request would be made again elsewhere."""
    # Long enough for a machine that is busy for seconds: Redis goes on counting.
    lease = 3.0
    monkeypatch.setattr(work_queue, "REDELIVERY", lease)
    jobs = Jobs(redis.url)
    one = asyncio.create_task(jobs.work("one"))
    await until(lambda: jobs.offers == ["one"])
    two = asyncio.create_task(jobs.work("two"))
    await asyncio.sleep(lease / 4)
    one.cancel()
    await asyncio.sleep(1.8 * lease)
    assert jobs.offers == ["one"]
    jobs.ended["one"].set()
    await until(lambda: jobs.offers == ["one", "two"])
    two.cancel()
    jobs.ended["two"].set()
    await asyncio.gather(one, two)
