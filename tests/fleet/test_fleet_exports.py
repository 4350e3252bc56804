"""Exports of a fleet: each shard is done once, by any worker, and another resumes where one was drained."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress

import attrs
import pytest
from helpers.fleet_service import FRESH, Accounts, app, listening, secrets

from agora_analytics import AnalyticsClient, MemoryCheckpoints, Selection
from agora_analytics.fleet import Account, ExportJob, Fleet, Secret
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.fleet.export_turns import ExportTurns, shard_tasks
from agora_analytics.fleet.reporter import Reporter
from agora_analytics.quota import MemoryLedger
from agora_analytics.spans import DAY

pytestmark = pytest.mark.real_time


async def nothing(key, event) -> None:
    """Take an event; exports have none."""


@pytest.fixture
async def service(monkeypatch):
    accounts = Accounts(2)
    for name, value in secrets(2).items():
        monkeypatch.setenv(name, value)
    async with listening(accounts) as url:
        accounts.url = url
        yield accounts


def selection(service, *, days=2, datasets=("calls", "sessions")) -> Selection:
    # A call lasts half a day at most: none of the span is still open, and ends between two exports.
    end = int(service.services["customer0"].clock()) // DAY * DAY - DAY
    return Selection(end - days * DAY, end, apps=[app(0)], datasets=datasets)


def fleet_of(service, job: ExportJob, store: str) -> Fleet:
    account = Account(
        name="a0",
        plan=FRESH,
        customer_id=Secret(env="FLEET_ID_0"),
        customer_secret=Secret(env="FLEET_SECRET_0"),
        base_url=service.url,
        jobs=[job],
    )
    return Fleet(account, store=store)


async def worked(fleet: Fleet, worker: str, until, seconds: float = 60) -> None:
    """Run a worker until a condition of the status holds."""
    task = asyncio.create_task(fleet.run_worker(nothing, worker=worker))
    try:
        async with asyncio.timeout(seconds):
            while not until(await fleet.status()):
                assert not task.done(), await task
                await asyncio.sleep(0.05)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def is_done(status) -> bool:
    return all(job.done for job in status.jobs)


def rows(folder) -> list[str]:
    return sorted(
        line for path in folder.rglob("*.jsonl") if "calls" in path.parts for line in path.read_text().splitlines()
    )


async def test_shards_are_exported_once_and_together_they_are_the_whole(service, tmp_path):
    chosen = selection(service, datasets=("calls",))
    job = ExportJob(name="history", selection=chosen, to=str(tmp_path / "fleet"), format="jsonl", shard_days=1)
    fleet = fleet_of(service, job, "memory://exports")
    assert len(job.shards()) == 2
    await worked(fleet, "one", is_done)
    spent = sum(service.services["customer0"].counts.values())
    async with AnalyticsClient("customer0", "secret0", plan=FRESH, base_url=service.url, app_id=app(0)) as client:
        await client.export.run(chosen, tmp_path / "plain", format="jsonl")
    assert rows(tmp_path / "fleet") == rows(tmp_path / "plain") != []
    assert spent <= sum(service.services["customer0"].counts.values()) - spent + len(job.shards())
    assert json.loads((tmp_path / "fleet" / "manifest.json").read_text())["complete"] is True
    # Done for good: a worker that starts asks for nothing.
    await worked(fleet, "two", lambda status: bool(status.held))
    assert not (await fleet.status()).unheld


@pytest.mark.slow
async def test_a_shard_is_resumed_where_a_worker_was_drained(service, tmp_path):
    chosen = selection(service, days=1)
    job = ExportJob(name="h", selection=chosen, to=str(tmp_path / "fleet"), format="jsonl", shard_days=30)
    fleet, customer = fleet_of(service, job, "memory://resumed"), service.services["customer0"]

    def is_waiting(status) -> bool:
        made = sum(customer.counts.values())
        service.delay = 3.0 if made > 20 else 0.0  # longer than a worker goes on without a report
        return made > 36

    await worked(fleet, "one", is_waiting)
    service.delay = 0.0
    assert not is_done(await fleet.status())
    await worked(fleet, "two", is_done)
    spent = sum(customer.counts.values())
    async with AnalyticsClient("customer0", "secret0", plan=FRESH, base_url=service.url, app_id=app(0)) as client:
        await client.export.run(chosen, tmp_path / "plain", format="jsonl")
    whole = sum(customer.counts.values()) - spent
    # What was under way when it was drained was answered.
    assert spent == whole
    assert rows(tmp_path / "fleet") == rows(tmp_path / "plain") != []


async def test_a_shard_that_is_done_and_grows_with_the_description_is_exported_again(service, tmp_path):
    chosen = selection(service, datasets=("calls",))
    shorter = attrs.evolve(chosen, end=chosen.span.end - DAY)

    def fleet_for(part: Selection) -> Fleet:
        job = ExportJob(name="h", selection=part, to=str(tmp_path / "fleet"), format="jsonl", shard_days=3_650)
        assert len(job.shards()) == 1
        return fleet_of(service, job, "memory://grows")

    await worked(fleet_for(shorter), "one", is_done)
    counts = service.services["customer0"].counts
    spent = sum(counts.values())
    await worked(fleet_for(shorter), "two", lambda status: bool(status.held))
    assert sum(counts.values()) == spent, "it was done"
    await worked(fleet_for(chosen), "three", is_done)
    async with AnalyticsClient("customer0", "secret0", plan=FRESH, base_url=service.url, app_id=app(0)) as client:
        await client.export.run(chosen, tmp_path / "plain", format="jsonl")
    assert rows(tmp_path / "fleet") == rows(tmp_path / "plain") != []
    assert len((await fleet_for(chosen).status()).jobs) == 1


async def test_an_export_that_cannot_be_written_says_why_and_is_tried_again(service, tmp_path):
    wrong = tmp_path / "file"
    wrong.write_text("")
    job = ExportJob(name="h", selection=selection(service), to=str(wrong), format="jsonl")
    fleet = fleet_of(service, job, "memory://unwritable")
    await worked(fleet, "one", lambda status: any(job.failures > 0 for job in status.jobs))
    (status,) = (await fleet.status()).jobs[:1]
    assert "ExportError" in status.error
    assert not status.done


class Statuses:
    """The statuses of jobs; none is stored, and each takes a moment to read."""

    def now(self) -> float:
        return time.time()

    async def read_one(self, table: str, key: str) -> str | None:
        await asyncio.sleep(0.01)

    async def write(self, table: str, entries: dict[str, str]) -> None:
        """Store nothing."""


async def test_a_shard_whose_turn_begins_as_the_worker_drains_is_left_to_others(service, tmp_path):
    job = ExportJob(name="h", selection=selection(service), to=str(tmp_path / "fleet"), format="jsonl")
    (account,) = fleet_of(service, job, "memory://").accounts
    tasks = shard_tasks(account, "a0.export.h", job)
    pool = ClientPool(MemoryLedger(), MemoryCheckpoints())
    turns = ExportTurns(tasks, pool=pool, reporter=Reporter("one", Statuses()))
    turn = asyncio.create_task(turns.take(min(tasks)))
    await asyncio.sleep(0)  # it reads the status of its job
    turns.drain()
    assert await turn == 0
    assert not service.services["customer0"].log
    await pool.close()
