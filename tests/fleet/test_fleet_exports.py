"""Exports of a fleet: each shard is done once, by any worker, and another resumes where one was drained."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import attrs
import pytest
from helpers.fleet_service import FRESH, Accounts, app, listening, secrets

from agora_analytics import AnalyticsClient, Selection
from agora_analytics.fleet import Account, ExportJob, Fleet, Secret
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
    end = int(service.services["customer0"].clock()) // DAY * DAY
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


async def test_a_shard_is_resumed_where_a_worker_was_drained(service, tmp_path):
    chosen = selection(service, days=1)
    job = ExportJob(name="h", selection=chosen, to=str(tmp_path / "fleet"), format="jsonl", shard_days=30)
    fleet, customer = fleet_of(service, job, "memory://resumed"), service.services["customer0"]
    await worked(fleet, "one", lambda status: sum(customer.counts.values()) > 20)
    assert not is_done(await fleet.status())
    await worked(fleet, "two", is_done)
    spent = sum(customer.counts.values())
    async with AnalyticsClient("customer0", "secret0", plan=FRESH, base_url=service.url, app_id=app(0)) as client:
        await client.export.run(chosen, tmp_path / "plain", format="jsonl")
    whole = sum(customer.counts.values()) - spent
    # What was under way when it was drained, and no more, is requested again.
    assert spent <= whole + 16
    assert rows(tmp_path / "fleet") == rows(tmp_path / "plain") != []


async def test_an_export_that_gets_a_later_end_or_another_place_is_run_again(service, tmp_path):
    whole = selection(service, days=2, datasets=("calls",))
    async with AnalyticsClient("customer0", "secret0", plan=FRESH, base_url=service.url, app_id=app(0)) as client:
        await client.export.run(whole, tmp_path / "plain", format="jsonl")
    first = attrs.evolve(whole, end=whole.end - DAY)
    job = ExportJob(name="h", selection=first, to=str(tmp_path / "fleet"), format="jsonl", shard_days=30)
    await worked(fleet_of(service, job, "memory://grown"), "one", is_done)
    grown = attrs.evolve(job, selection=whole)
    for changed in (grown, attrs.evolve(grown, to=str(tmp_path / "moved"))):
        assert changed.shards()[0].name == job.shards()[0].name, "so that the keys are the same"

        def is_whole(status, place=Path(changed.to)) -> bool:
            return is_done(status) and rows(place) == rows(tmp_path / "plain")

        await worked(fleet_of(service, changed, "memory://grown"), "two", is_whole)


async def test_an_export_that_cannot_be_written_says_why_and_is_tried_again(service, tmp_path):
    wrong = tmp_path / "file"
    wrong.write_text("")
    job = ExportJob(name="h", selection=selection(service), to=str(wrong), format="jsonl")
    fleet = fleet_of(service, job, "memory://unwritable")
    await worked(fleet, "one", lambda status: any(job.failures > 0 for job in status.jobs))
    (status,) = (await fleet.status()).jobs[:1]
    assert "ExportError" in status.error
    assert not status.done
