"""A fault of one job, of docket or of the store ends no job for good, and no worker hangs on it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress

import attrs
import docket
import pytest
from helpers.fleet_service import USERS, described
from helpers.fleet_workers import BACK, Seen, fleet_of, status_when, until, working
from helpers.redis_server import MISSING, REDIS, RedisServer

from agora_analytics import FleetError, MemoryCheckpoints, Series
from agora_analytics.fleet import Fleet, freeze_watch, job_list
from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.quota.store_clock import elapsed

pytestmark = pytest.mark.real_time
on_redis = pytest.mark.skipif(REDIS is None, reason=MISSING)


@pytest.fixture
def redis(tmp_path):
    with RedisServer(tmp_path) as server:
        yield server


async def ended(task: asyncio.Task, seconds: float) -> None:
    done, _ = await asyncio.wait([task], timeout=seconds)
    assert done, f"the worker did not end within {seconds} seconds"


@pytest.mark.slow_except("CancelledError")
@pytest.mark.parametrize("fault", [KeyError, asyncio.CancelledError, StopAsyncIteration])
async def test_any_fault_of_the_function_is_shown_and_tried_again_later(service, fault):
    calls: Counter[str] = Counter()
    seen = Seen()
    take = seen.sink("one")

    async def fail(key, event):
        calls[key] += 1
        if key.startswith("a1"):
            raise fault("of a program")
        await take(key, event)

    fleet = fleet_of(service, store=f"memory://{fault.__name__}")
    task = asyncio.create_task(fleet.run_worker(fail, worker="one"))
    status = await status_when(fleet, lambda status: any(job.failures > 1 for job in status.jobs))
    await until(lambda: len(seen.jobs) == 3)
    task.cancel()
    await ended(task, 20)
    failed = [job for job in status.jobs if job.failures]
    assert [(job.key[:2], job.error.partition(":")[0]) for job in failed] == [("a1", fault.__name__)]
    assert max(count for key, count in calls.items() if key.startswith("a1")) <= 4, "it is not repeated at once"


@pytest.mark.slow
async def test_a_fault_of_docket_ends_no_worker(service, monkeypatch, caplog):
    failures, whole = [], docket.Worker._scheduler_loop

    async def fail_once(worker, redis):
        if not failures:
            failures.append(worker)
            raise ZeroDivisionError
        await whole(worker, redis)

    monkeypatch.setattr(docket.Worker, "_scheduler_loop", fail_once)
    fleet, seen = fleet_of(service, store="memory://docket"), Seen()
    async with working(fleet, seen, "one") as task:
        await until(lambda: len(seen.jobs) == 4)
        assert not task.done()
    assert "the queue failed, and goes on in 2 seconds" in caplog.text


async def test_a_job_with_other_series_says_what_to_do(service):
    (account,) = described(1, service.url, back=BACK)
    store, checkpoints = "memory://series", MemoryCheckpoints()
    async with working(Fleet(account, store=store, turn=1, checkpoints=checkpoints), seen := Seen(), "one"):
        await until(lambda: seen.jobs)
    other = attrs.evolve(account.jobs[0], series=[USERS, Series("channelCount", product="Native")])
    fleet = Fleet(attrs.evolve(account, jobs=[other]), store=store, turn=1, checkpoints=checkpoints)
    async with working(fleet, Seen(), "two"):
        status = await status_when(fleet, lambda status: status.jobs[0].failures)
    assert "belongs to another stream" in status.jobs[0].error
    assert "give a job with other series another name" in status.jobs[0].error


@pytest.mark.slow
@on_redis
async def test_jobs_come_back_when_the_store_lost_everything(service, redis):
    fleet, seen, ready = fleet_of(service, store=redis.url), Seen(), []
    take = seen.sink("one")

    async def fail_first(key, event):
        if not ready:
            raise ValueError("not ready")
        await take(key, event)

    task = asyncio.create_task(fleet.run_worker(fail_first, worker="one"))
    # Between two turns: docket adds a job by itself at the end of one.
    await status_when(fleet, lambda status: all(job.failures and not job.running for job in status.jobs))
    redis.command("FLUSHALL")
    ready.append(True)
    await until(lambda: len(seen.jobs) == 4)
    task.cancel()
    await ended(task, 20)


@pytest.mark.slow
@on_redis
async def test_turns_end_when_docket_lost_its_connections_before_others_take_them_over(service, redis):
    fleet, seen = fleet_of(service, store=redis.url, turn=60), Seen()
    async with working(fleet, seen, "one"):
        await until(lambda: len(seen.jobs) == 4)
        async with working(fleet, seen, "two"):
            redis.command("CLIENT", "KILL", "TYPE", "normal")
            status = await status_when(fleet, lambda status: status.held.get("two", 0) >= 2)
    # One may have ended at the very moment at which that could not be written down.
    assert sum(job.takeovers for job in status.jobs) <= 1
    assert set(seen.windows.values()) == {1}


async def test_turns_end_as_soon_as_a_worker_that_stood_still_goes_on(service, monkeypatch):
    fleet, seen = fleet_of(service, store="memory://stood-still", turn=600), Seen()
    async with working(fleet, seen, "one"):
        await until(lambda: len(seen.jobs) == 4)
        async with working(fleet, seen, "two"):
            # Again and again, until the first one knows of the second.
            monkeypatch.setattr(freeze_watch, "elapsed", lambda: 100 * elapsed())
            await status_when(fleet, lambda status: status.held.get("two", 0) >= 2)
            monkeypatch.undo()
    assert set(seen.windows.values()) == {1}


@pytest.mark.slow
@on_redis
@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_worker_ends_within_seconds_while_the_store_is_away(service, redis, fault):
    fleet, seen = fleet_of(service, store=redis.url, turn=60), Seen()
    task = asyncio.create_task(fleet.run_worker(seen.sink("one"), worker="one"))
    await until(lambda: len(seen.jobs) == 4)
    getattr(redis, fault)()
    task.cancel()
    await ended(task, 28)


async def test_what_died_long_ago_is_removed_and_a_job_that_was_lost_comes_back(service, monkeypatch):
    for name, value in {"_EVERY": 0.1, "_TIDY_EVERY": 1, "_IDLE": 1.0}.items():
        monkeypatch.setattr(job_list, name, value)
    fleet, seen = fleet_of(service, store="memory://tidy", turn=0.3), Seen()
    async with working(fleet, seen, "one"), WorkQueue("memory://tidy", fleet.name).opened() as queue:
        await queue.write("agora:workers", {"dead": '{"seen":1}'})
        await queue.write("agora:drain", {"gone": ""})
        await queue.write("agora:jobs", {"a9.watch.old": '{"seen":1}'})
        await until(lambda: len(seen.jobs) == 4)
        lost = min(fleet.jobs)
        await queue.remove([lost])
        at = time.time()
        status = await status_when(fleet, lambda status: status.jobs[0].seen > at + 1.5 and len(status.jobs) == 4)
        assert [worker.name for worker in status.workers] == ["one"]
        async with asyncio.timeout(10):
            while await queue.read("agora:drain"):  # noqa: ASYNC110 - it is in the store
                await asyncio.sleep(0.05)


async def test_a_worker_that_is_cancelled_twice_leaves_nothing_behind(service):
    fleet, inside = fleet_of(service, store="memory://twice", turn=60), asyncio.Event()

    async def linger(_key, _event):
        inside.set()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    task = asyncio.create_task(fleet.run_worker(linger, worker="one"))
    await inside.wait()
    task.cancel()
    await asyncio.sleep(0.1)
    task.cancel()
    await ended(task, 10)
    with suppress(TimeoutError):
        await until(lambda: asyncio.all_tasks() <= before, 5)
    assert asyncio.all_tasks() <= before


@pytest.mark.parametrize("call", ["status", "drain"])
async def test_a_store_that_is_down_is_an_error_of_the_system(service, call):
    fleet = fleet_of(service, store="redis://127.0.0.1:1/0")
    with pytest.raises(FleetError, match=r"the store of the fleet in .* cannot be used: .* 127\.0\.0\.1:1"):
        await getattr(fleet, call)()


@on_redis
@pytest.mark.parametrize("call", ["status", "drain"])
async def test_a_store_that_is_frozen_is_not_waited_for_without_end(service, redis, monkeypatch, call):
    monkeypatch.setattr("agora_analytics.fleet.fleet._PATIENCE", 0.5)
    fleet = fleet_of(service, store=redis.url)
    redis.freeze()
    async with asyncio.timeout(10):
        with pytest.raises(FleetError, match=r"the store of the fleet does not answer in 0\.5 s"):
            await getattr(fleet, call)()
