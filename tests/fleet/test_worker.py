"""Workers share the jobs, hand them over when they end, and one wrong account harms no other."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import attrs
import pytest
from helpers.fleet_service import app, described
from helpers.fleet_workers import BACK, Seen, fleet_of, status_when, until, working

from agora_analytics.fleet import Fleet, FollowJob, WorkerStatus
from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.fleet.reporter import WORKERS
from agora_analytics.fleet.status import encoded

pytestmark = pytest.mark.real_time


async def test_two_workers_share_the_jobs_and_each_window_comes_once(service):
    fleet, seen = fleet_of(service, store="memory://shared"), Seen()
    async with working(fleet, seen, "one"), working(fleet, seen, "two"):
        await until(lambda: len(seen.jobs) == 4)
        status = await status_when(fleet, lambda status: all(status.held.get(name) for name in ("one", "two")))
        assert {worker.name for worker in status.workers} == {"one", "two"}
    assert set(seen.windows.values()) == {1}
    assert len(seen.windows) >= 4 * (BACK // 20 - 2)
    assert service.refused == 0


async def test_a_worker_that_ends_hands_over_at_once(service):
    fleet, seen = fleet_of(service, store="memory://over", turn=60), Seen()
    async with working(fleet, seen, "one") as first:
        await until(lambda: len(seen.jobs) == 4)
        async with working(fleet, seen, "two"):
            first.cancel()
            await until(first.done)
            status = await status_when(fleet, lambda status: status.held == {"two": 4})
            assert not status.unheld
            assert [job.takeovers for job in status.jobs] == [0] * 4
    status = await fleet.status()
    assert (status.held, len(status.unheld)) == ({}, 4)
    assert set(seen.windows.values()) == {1}


@pytest.mark.slow
async def test_a_drained_worker_ends(service):
    fleet, seen = fleet_of(service, store="memory://drain", turn=60), Seen()
    async with working(fleet, seen, "one") as task:
        await until(lambda: len(seen.jobs) == 4)
        with pytest.raises(ValueError, match=r"worker='two' is not listed; listed are: one$"):
            await fleet.drain("two")
        assert await fleet.drain("one") == ("one",)
        await until(task.done)
        assert task.exception() is None
    # The next one of this name is not drained by what was said to the last.
    async with working(fleet, seen, "one") as task:
        await asyncio.sleep(3)
        assert not task.done()


async def test_a_drain_of_an_unknown_worker_says_which_of_the_listed_are_lost(service):
    fleet = fleet_of(service, store="memory://unknown")
    async with WorkQueue("memory://unknown", fleet.name).opened() as queue:
        killed, alive = (WorkerStatus(name="", since=0, seen=queue.now() - age) for age in (39, 1))
        await queue.write(WORKERS, {"two": encoded(killed), "one": encoded(alive)})
        with pytest.raises(ValueError, match=r"worker='nosuch' is not listed; listed are: one, two \(lost\)$"):
            await fleet.drain("nosuch")


@pytest.mark.slow
async def test_one_wrong_account_harms_no_other_and_goes_on_when_it_is_right(service, monkeypatch, caplog):
    monkeypatch.setenv("FLEET_SECRET_2", "wrong-secret")
    fleet, seen = fleet_of(service, store="memory://wrong"), Seen()
    async with working(fleet, seen, "one"):
        await until(lambda: len(seen.jobs) == 3)
        status = await status_when(fleet, lambda status: any(job.failures for job in status.jobs))
        assert ["Unauthorized" in job.error for job in status.jobs] == [False, False, True, False]
        monkeypatch.setenv("FLEET_SECRET_2", "secret2")
        await until(lambda: len(seen.jobs) == 4)
    assert "wrong-secret" not in caplog.text
    # So that a command that counts repeated warnings does so for each account.
    assert {getattr(record, "throttle_kind", "") for record in caplog.records} >= {"a2 Unauthorized"}


async def test_a_follow_without_events_shows_how_far_it_has_read(service):
    (account, *_) = described(1, service.url)
    quiet = attrs.evolve(account, jobs=[FollowJob(app_id=app(0), name="quiet")])
    fleet, seen = Fleet(quiet, store="memory://quiet", turn=1.0), Seen()
    async with working(fleet, seen, "one"):
        status = await status_when(fleet, lambda status: status.jobs[0].read_to is not None)
    assert status.jobs[0].age(status.at) < 300


async def test_a_job_that_the_description_lacks_is_removed(service):
    fleet, seen = fleet_of(service, store="memory://less"), Seen()
    async with working(fleet, seen, "one"):
        await until(lambda: len(seen.jobs) == 4)
    fewer, rest = Fleet(*described(2, service.url, back=BACK), store="memory://less", turn=1), Seen()
    async with working(fewer, rest, "two"):
        status = await status_when(fewer, lambda status: status.held == {"two": 2})
        assert [job.key.partition(".")[0] for job in status.jobs] == ["a0", "a1"]


async def test_a_consumer_that_fails_gets_the_event_again(service):
    fleet, seen, failures = fleet_of(service, store="memory://fails"), Seen(), []
    take = seen.sink("one")

    async def fail_once(key, event):
        if len(failures) < 3:
            failures.append((key, event))
            raise ValueError("the consumer is not ready")
        await take(key, event)

    task = asyncio.create_task(fleet.run_worker(fail_once, worker="one"))
    await until(lambda: len(failures) == 3 and all(seen.windows[key, event.ts] for key, event in failures))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert all(seen.windows[key, event.ts] == 1 for key, event in failures)


@pytest.mark.parametrize("name", ["", "a b", "a\x1b[31m", "a\nb", "x" * 200, 5])
async def test_a_name_of_a_worker_that_no_list_could_show_is_refused(service, name):
    with pytest.raises((ValueError, TypeError), match="worker="):
        await fleet_of(service).run_worker(Seen().sink("one"), worker=name)


async def test_a_fleet_without_a_place_for_events_is_refused(service):
    with pytest.raises(ValueError, match="on_event is missing"):
        await fleet_of(service).run_worker()


@pytest.mark.slow
async def test_two_live_workers_of_one_name_are_reported_and_one_that_died_is_not(service, caplog):
    fleet, seen = fleet_of(service, store="memory://name"), Seen()
    async with WorkQueue("memory://name", fleet.name).opened() as queue:
        await queue.write(WORKERS, {"one": '{"since":1,"seen":1}'})
    async with working(fleet, seen, "one"):
        await asyncio.sleep(5)  # two reports
        assert "are called" not in caplog.text
        async with working(fleet, seen, "one"):
            await until(lambda: "two workers are called one: give each its own name" in caplog.text)
