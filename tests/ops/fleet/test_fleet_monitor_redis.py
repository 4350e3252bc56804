"""A monitor on a real store: many jobs over few connections, and a store that is killed and comes back."""

from __future__ import annotations

import asyncio

import pytest
from helpers.redis_server import MISSING, REDIS, RedisServer, free_port
from helpers.written_fleet import WrittenFleet

from agora_analytics.fleet import Fleet, JobStatus
from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.fleet.reporter import JOBS
from agora_analytics.fleet.status import encoded
from agora_analytics.ops import FleetMonitor

pytest.importorskip("docket", reason="needs the extra fleet")

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(REDIS is None, reason=MISSING),
]

MANY = 2_300


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)


async def test_all_jobs_are_read_and_a_store_that_comes_back_is_read_again(tmp_path):
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        fleet = Fleet(store=redis.url)
        jobs = {f"a{number}.watch.x": encoded(JobStatus(key="", events=number)) for number in range(MANY)}
        async with WorkQueue(redis.url, "agora").opened() as queue:
            await queue.write(JOBS, jobs)
            await WrittenFleet(queue, fleet).worker("one")
        async with FleetMonitor(fleet, every=0.2) as monitor:
            await until(lambda: monitor.snapshot is not None)
            assert sum(job.events for job in monitor.snapshot.jobs) == MANY * (MANY - 1) // 2
            redis.kill()
            await until(lambda: monitor.error)
            assert len(monitor.snapshot.jobs) == MANY
            redis.start()
            await until(lambda: not monitor.error)
            assert monitor.age < 5
    finally:
        redis.kill()


async def test_a_store_that_was_away_from_the_start_is_logged_once(caplog):
    fleet = Fleet(store=f"redis://:geheim@127.0.0.1:{free_port()}/0")
    async with FleetMonitor(fleet, every=0.02) as monitor:
        await until(lambda: "cannot be used" in monitor.error)
        await asyncio.sleep(0.3)  # some readings
    assert caplog.text.count("the fleet agora cannot be read: the store of the fleet in 127.0.0.1:") == 1
    assert "geheim" not in caplog.text + monitor.error
