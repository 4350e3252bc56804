"""A run waits for a ledger that has worked and fails, as for other outages, and sends nothing meanwhile."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.export_runs import DAY, NOON, all_rows, last_hours
from helpers.ledgers import FailingLedger
from helpers.redis_server import MISSING, REDIS, RedisServer

from agora_analytics import ExportReport, LedgerError, MemoryLedger, Plan, Selection
from agora_analytics.protocols import Request, Response, Transport
from agora_analytics.quota import RedisLedger, shared_account
from agora_analytics.simulator import Fault, Faults, Service, Simulation

LATENCY = (0.5, 0.5)
"""Seconds of each request: some are in flight when the ledger fails."""

SELECTION = last_hours(2, "calls", "sessions")


async def export_with(ledger: Any, simulation: Simulation, folder: Path, **options: Any) -> ExportReport:
    """Run an export that counts its requests in a ledger, with a short latency."""
    transport = simulation.transport(latency=options.pop("latency", LATENCY), hosts=1)
    async with simulation.client(ledger=ledger, transport=transport) as client:
        selection = options.pop("selection", SELECTION)
        return await client.export.run(selection, folder, format="jsonl", **options)


def now() -> float:
    return asyncio.get_running_loop().time()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("seconds", [3, 60, 600])
async def test_a_run_waits_for_the_ledger_and_exports_every_row(tmp_path, simulation, whole, caplog, seconds):
    expected, _, report = await whole(SELECTION)
    begun = now()
    ledger = FailingLedger(begun + 2, begun + 2 + seconds)
    saved = await export_with(ledger, simulation, tmp_path / "outage")
    assert saved.complete
    assert all_rows(tmp_path / "outage", *SELECTION.datasets) == expected
    assert saved.requests == report.requests
    assert simulation.service.refusals == {}
    assert now() - begun > 2 + seconds
    assert any("the quota ledger failed, retrying in" in text for text in warnings(caplog)) is (seconds > 10)


async def test_no_request_is_sent_while_the_ledger_is_down_and_soon_after_it_they_go_on(tmp_path, simulation):
    await export_with(FailingLedger(2, 302), simulation, tmp_path)
    sent = [entry.at - NOON for entry in simulation.service.log]
    assert min(sent) < 2
    assert not [at for at in sent if 3 < at < 302]
    assert min(at for at in sent if at >= 302) < 312


async def test_waits_for_the_ledger_cost_nothing_of_max_requests(tmp_path, simulation):
    report = await export_with(FailingLedger(1.2, 60), simulation, tmp_path, max_requests=8)
    assert report.requests == sum(simulation.service.counts.values()) == 8


async def test_a_ledger_that_has_never_worked_ends_the_run_at_once(tmp_path, simulation):
    with pytest.raises(LedgerError, match="the disk is full"):
        await export_with(FailingLedger(0, 3), simulation, tmp_path)
    assert now() < 1
    assert not simulation.service.log


async def test_a_ledger_that_stays_away_ends_the_run_after_a_quarter_of_an_hour(tmp_path, simulation):
    with pytest.raises(LedgerError, match="the disk is full"):
        await export_with(FailingLedger(2, 10_000), simulation, tmp_path)
    assert 850 < now() < 920
    assert (await export_with(MemoryLedger(), simulation, tmp_path)).complete


async def test_two_outages_with_a_wait_for_the_next_day_between_them_are_two(tmp_path, simulation):
    simulation.service.plan = Plan.of("enterprise").with_limits("call_details", per_day=12)
    midnight = NOON // DAY * DAY + DAY - NOON
    ledger = FailingLedger(2, 30, ledger=FailingLedger(midnight - 5, midnight + 600))
    report = await export_with(ledger, simulation, tmp_path, selection=last_hours(2, "sessions"))
    assert report.complete
    assert now() > midnight + 600


async def test_progress_is_reported_again_after_an_outage_and_does_not_end_the_run(tmp_path, simulation):
    reported = []
    ledger = FailingLedger(2, 62)
    report = await export_with(ledger, simulation, tmp_path, on_progress=lambda _: reported.append(now()))
    assert report.complete
    assert not [at for at in reported if 2 <= at < 62]
    assert min(reported) < 2
    assert max(reported) > 62


class FailureAfterRefusal:
    """A transport that makes the ledger fail for a minute once a request was refused."""

    def __init__(self, transport: Transport, ledger: FailingLedger) -> None:
        self._transport, self._ledger = transport, ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def send(self, request: Request, host: int) -> Response:
        response = await self._transport.send(request, host)
        if response.status == 404:
            self._ledger.start, self._ledger.end = now(), now() + 60
        return response


async def test_a_probe_after_a_refusal_waits_for_the_ledger_too(tmp_path, simulation, whole):
    found, cost, _ = await whole(SELECTION)
    # The last one: no other call is answered after it, so that a probe decides.
    refused = max(found["calls"], key=lambda row: row[3])[1]
    simulation.faults = Faults.of_call(refused, Fault("refusal", code=404, status=404))
    ledger = FailingLedger()
    transport = FailureAfterRefusal(simulation.transport(latency=LATENCY, hosts=1), ledger)
    async with simulation.client(ledger=ledger, transport=transport) as client:
        report = await client.export.run(SELECTION, tmp_path / "rest", format="jsonl", concurrency=1)
    assert [skipped.call_ids for skipped in report.skipped] == [(refused,)]
    assert report.requests == cost + 1
    assert ledger.end <= now() < ledger.end + 15


@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.process
@pytest.mark.skipif(REDIS is None, reason=MISSING)
async def test_an_export_goes_on_when_the_redis_of_its_ledger_is_back(tmp_path, world, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(shared_account, "_PATIENCE", 0.3)
    monkeypatch.setattr(shared_account, "_GATHERING", 0.5)
    simulation = Simulation(Service(world, Plan.of("enterprise"), clock=time.time))
    end = int(time.time()) - 3_600
    span = Selection(end - 4 * 3_600, end, datasets=("calls", "sessions"))
    with RedisServer(tmp_path) as server:
        async with RedisLedger(server.url) as ledger:
            running = export_with(ledger, simulation, tmp_path / "data", selection=span, latency=(0.1, 0.2))
            work = asyncio.create_task(running)
            while sum(simulation.service.counts.values()) < 3:  # noqa: ASYNC110 - the service has no event for it
                await asyncio.sleep(0.02)
            server.kill()
            async with asyncio.timeout(20):
                while "the quota ledger failed, retrying in" not in caplog.text:  # noqa: ASYNC110 - nor has the log
                    await asyncio.sleep(0.02)
            server.start()
            report = await work
    assert report.complete
    assert report.requests == sum(simulation.service.counts.values())
