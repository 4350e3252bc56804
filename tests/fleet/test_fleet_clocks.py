"""Clocks of hosts may differ by more than a lease: nothing is decided by them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from helpers.fleet_service import secrets
from helpers.fleet_workers import Seen, fleet_of, status_when, until, working
from helpers.paths import ROOT
from helpers.redis_server import MISSING, REDIS, RedisServer

from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.quota.store_clock import StoreClock

pytestmark = [pytest.mark.real_time, pytest.mark.skipif(REDIS is None, reason=MISSING)]


@pytest.fixture
def redis(tmp_path):
    with RedisServer(tmp_path) as server:
        yield server


def start(redis, url: str, name: str, *, fast: float) -> subprocess.Popen:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return subprocess.Popen(
        [sys.executable, "-m", "helpers.fleet_process", redis.url, url, "4", name, "2"],
        env={**os.environ, **secrets(4), "PYTHONPATH": path, "FLEET_CLOCK": str(fast)},
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("fast", [3_600, -3_600])
async def test_a_worker_whose_clock_is_wrong_has_its_share_and_others_keep_theirs(service, redis, fast):
    fleet = fleet_of(service, store=redis.url, turn=60)
    process = start(redis, service.url, "wrong", fast=fast)
    try:
        await status_when(fleet, lambda status: status.held.get("wrong") == 4)
        async with working(fleet, Seen(), "right"):
            status = await status_when(fleet, lambda status: status.held.get("right", 0) > 1 and status.held["wrong"])
            assert all(abs(worker.seen - time.time()) < 10 for worker in status.workers), "by the clock of the store"
            mine = [job.key for job in status.jobs if job.running and job.worker == "right"]
            await asyncio.sleep(3)  # the status is written before the place is taken
            epochs = [redis.whole("HGET", f"agora:checkpoint:{key}", "epoch") for key in mine]
            await asyncio.sleep(8)  # four reports
            assert [redis.whole("HGET", f"agora:checkpoint:{key}", "epoch") for key in mine] == epochs, "turns go on"
            await status_when(fleet, lambda status: status.held.get("wrong"))
            process.kill()
            await status_when(fleet, lambda status: status.held == {"right": 4}, 30)
    finally:
        process.kill()
        process.wait()


async def test_a_job_that_a_fast_clock_put_off_is_offered_in_time(redis, monkeypatch):
    clock, ran = StoreClock(), asyncio.Event()

    async def run(_key):
        ran.set()
        return 30.0

    async with WorkQueue(redis.url, "one", clock).opened() as queue:
        await queue.read_clock()
        await queue.add(["job"], run)
        monkeypatch.setattr(time, "time", lambda right=time.time: right() + 3_600)
        monkeypatch.setattr("agora_analytics.fleet.queue.datetime", Fast)
        task = asyncio.create_task(queue.work(run, worker="one", concurrency=1))
        await until(ran.is_set)
        async with asyncio.timeout(10):
            while not (when := await _due(queue)):  # noqa: ASYNC110 - it is in the store
                await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
    assert 0 < when - datetime.now(UTC).timestamp() < 31


class Fast(datetime):
    """The time of a host whose clock is an hour fast."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(hours=1)


async def _due(queue: WorkQueue) -> float | None:
    docket = queue._opened()
    async with docket.redis() as redis:
        return await redis.zscore(docket.queue_key, "job")
