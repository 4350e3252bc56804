"""A monitor keeps the newest status of a fleet, says how old it is, and what is wrong."""

from __future__ import annotations

import asyncio

import pytest
from helpers.written_fleet import written_fleet

from agora_analytics.fleet import Fleet, Secret
from agora_analytics.fleet.queue import WorkQueue
from agora_analytics.ops import FleetMonitor

pytest.importorskip("docket", reason="needs the extra fleet")


@pytest.fixture
async def written():
    async with written_fleet() as found:
        yield found


@pytest.fixture
async def monitor(written):
    async with FleetMonitor(written.fleet) as opened:
        yield opened


async def states(monitor: FleetMonitor) -> dict[str, str]:
    """Return the state of each job once it was read again."""
    await asyncio.sleep(6)
    return {job.key: job.state for job in monitor.snapshot.jobs}


async def test_a_job_is_held_only_by_a_worker_that_is_alive(written, monitor):
    await written.worker("one")
    await written.worker("gone", seen=60)
    await written.job("a.watch.held", "one")
    await written.job("a.watch.lost", "gone")
    await written.job("a.watch.between", "one", running=False)
    await written.job("a.watch.failing", "one", running=False, failures=2)
    await written.job("a.watch.forgotten", "one", running=False, failures=2, seen=600)
    await written.job("a.export.waits")
    await written.job("a.export.complete", done=True)
    assert await states(monitor) == {
        "a.export.complete": "done",
        "a.export.waits": "queued",
        "a.watch.between": "nobody",
        "a.watch.failing": "retrying",
        "a.watch.forgotten": "nobody",
        "a.watch.held": "held",
        "a.watch.lost": "nobody",
    }
    assert {worker.name: (worker.state, worker.jobs) for worker in monitor.snapshot.workers} == {
        "gone": ("lost", {}),
        "one": ("working", {"watch": 1}),
    }


async def test_a_monitor_whose_close_was_cancelled_can_be_opened_again(written):
    monitor = FleetMonitor(written.fleet)
    await monitor.__aenter__()
    await asyncio.sleep(6)
    closing = asyncio.create_task(monitor.__aexit__(None, None, None))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await written.worker("one")
    async with monitor:
        await asyncio.sleep(6)
        assert [worker.name for worker in monitor.snapshot.workers] == ["one"]


async def test_without_a_worker_nobody_has_an_export_or_a_job_that_failed(written, monitor):
    await written.job("a.export.waits")
    await written.job("a.watch.failing", "one", failures=2)
    assert set((await states(monitor)).values()) == {"nobody"}


async def test_a_job_with_nobody_for_a_minute_is_a_trouble_and_a_shorter_time_is_none(written, monitor):
    await written.worker("one")
    await written.job("a.watch.x", "one", running=False)
    await asyncio.sleep(55)
    assert monitor.trouble == ""
    await asyncio.sleep(20)
    assert monitor.trouble.startswith("fleet agora: 1 job with nobody for ")
    assert monitor.trouble.endswith(" s: a.watch.x")
    await written.worker("one", seen=60)
    await asyncio.sleep(6)
    assert "; no worker is alive: a.watch.x" in monitor.trouble
    await written.worker("one")
    await written.job("a.watch.x", "one")
    await asyncio.sleep(6)
    assert monitor.trouble == ""


async def test_a_sign_of_life_between_two_readings_starts_the_minute_again(written, monitor):
    await written.worker("one")
    for turn in range(30):
        # Seen between its turns each time, as a job whose turns are short.
        await written.job("a.watch.x", "one", running=False, seen=1_000 - turn)
        await asyncio.sleep(10)
        assert monitor.trouble == ""
    assert (await states(monitor)) == {"a.watch.x": "nobody"}


async def test_takeovers_count_from_the_first_reading_and_never_fall(written, monitor):
    await written.job("a.watch.x", takeovers=7)
    await written.job("a.watch.y", takeovers=5)
    await asyncio.sleep(6)
    before = monitor.takeovers
    await written.job("a.watch.x", takeovers=9)
    await asyncio.sleep(6)
    assert monitor.takeovers - before == 2
    await written.forget("a.watch.y")
    await asyncio.sleep(6)
    assert monitor.takeovers - before == 2


async def test_takeovers_of_before_the_first_reading_do_not_count(written):
    await written.job("a.watch.x", takeovers=7)
    async with FleetMonitor(written.fleet) as opened:
        await asyncio.sleep(6)
        assert opened.takeovers == 0


async def test_one_connection_serves_many_readings(written, monkeypatch):
    opened, read = [], []
    real = WorkQueue.opened
    monkeypatch.setattr(WorkQueue, "opened", lambda queue: opened.append(queue) or real(queue))
    async with FleetMonitor(written.fleet, every=2) as monitor:
        monitor.on_status(read.append)
        await asyncio.sleep(61)
    assert len(read) >= 30
    assert len(opened) == 1


async def test_a_store_that_fails_leaves_the_last_status_which_becomes_old(written, monitor, monkeypatch, caplog):
    await written.worker("one")
    await written.job("a.watch.x", "one")
    await asyncio.sleep(6)
    assert (monitor.error, monitor.age < 6) == ("", True)

    async def fail(queue, table):
        raise ConnectionRefusedError("nothing listens there")

    monkeypatch.setattr(WorkQueue, "read", fail)
    await asyncio.sleep(58)
    assert monitor.error == "ConnectionRefusedError: nothing listens there"
    assert monitor.trouble == ""
    await asyncio.sleep(20)
    assert monitor.age > 70
    assert [job.state for job in monitor.snapshot.jobs] == ["held"]
    assert monitor.trouble.startswith("the fleet agora could not be read for ")
    assert caplog.text.count("cannot be read") == 1
    monkeypatch.undo()
    await asyncio.sleep(6)
    assert (monitor.error, monitor.trouble, monitor.age < 6) == ("", "", True)


async def test_a_store_that_never_answers_is_asked_again(written, monitor, monkeypatch):
    await asyncio.sleep(6)

    async def freeze(queue, table):
        await asyncio.sleep(10**9)

    monkeypatch.setattr(WorkQueue, "read", freeze)
    await asyncio.sleep(20)
    assert monitor.error == "TimeoutError"
    monkeypatch.undo()
    await asyncio.sleep(20)
    assert monitor.error == ""


@pytest.mark.real_time
async def test_an_error_of_the_store_holds_no_credential(monkeypatch, caplog):
    monkeypatch.setenv("STORE", "redis://user:hunter2hunter2@127.0.0.1:1/0")
    async with FleetMonitor(Fleet(store=Secret(env="STORE")), every=0.1) as monitor:
        async with asyncio.timeout(20):
            while "Error" not in monitor.error:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
        assert "127.0.0.1:1" in monitor.error
        assert "hunter2" not in f"{monitor.error} {monitor!r} {caplog.text}"


async def test_what_no_worker_writes_counts_as_nothing(written, monitor):
    for number, text in enumerate(
        ("[1]", "{", '{"seen": "now"}', '{"events": 1e999, "takeovers": true}', '{"read_to": NaN, "error": 5}')
    ):
        await written.damage(f"a.watch.{number}", text)
    await written.damage("no dots at all", "{}")
    await written.damage("a.watch.huge", f'{{"takeovers": {10**400}}}')
    await asyncio.sleep(6)
    assert monitor.error == ""
    assert {job.state for job in monitor.snapshot.jobs} == {"nobody"}
    assert {(job.events, job.takeovers, job.age, job.error) for job in monitor.snapshot.jobs} == {(0, 0, None, "")}


async def test_workers_that_are_lost_for_a_day_are_left_out(written, monitor):
    await written.worker("host-1-4711", seen=90_000)
    await written.worker("host-1-4712", seen=3_600)
    await asyncio.sleep(6)
    assert [worker.name for worker in monitor.snapshot.workers] == ["host-1-4712"]


async def test_it_reads_only_while_it_is_open(written, monitor):
    with pytest.raises(RuntimeError, match="open"):
        await monitor.__aenter__()
    closed = FleetMonitor(written.fleet)
    assert (closed.status, closed.age, closed.trouble, closed.error) == (None, None, "", "it was not read yet")
    async with closed:
        await asyncio.sleep(6)
    status = closed.status
    await asyncio.sleep(60)
    assert closed.status is status
    async with closed:
        await asyncio.sleep(6)
        assert closed.status is not status


async def test_a_store_whose_secret_is_missing_is_an_error_at_once(monkeypatch):
    monkeypatch.delenv("NO_STORE", raising=False)
    with pytest.raises(ValueError, match=r"\$NO_STORE is not set"):
        await FleetMonitor(Fleet(store=Secret(env="NO_STORE"))).__aenter__()
