"""`drain` ends a run in good order: what was sent is saved, nothing more is sent, and another run does the rest."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from helpers.export_runs import NOON, all_rows, export, last_hours, request_count
from helpers.ledgers import FailingLedger

from agora_analytics import Plan, Selection
from agora_analytics.export.fetch.run import _CLOCK_INTERVAL
from agora_analytics.simulator import Fault, Faults, Service, Simulation, Variants, VirtualLoop, World

SELECTION = last_hours(3)

SLOW = (2.0, 3.0)
"""Seconds to the service and back: some requests are always on their way."""


def now() -> float:
    return asyncio.get_running_loop().time()


async def drained(simulation, folder, after: float, *, latency=SLOW, selection=SELECTION, **options):
    """Run an export that is drained after so many seconds; return its report and how long it took to end."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(after, event.set)
    begun = now()
    ledger = options.pop("ledger", None)
    transport = simulation.transport(latency=latency, hosts=1)
    async with simulation.client(transport=transport, **({"ledger": ledger} if ledger else {})) as client:
        report = await client.export.run(selection, folder, format="jsonl", drain=event, **options)
    took = now() - begun - after
    assert took >= 0, "it ended by itself"
    return report, took


@pytest.mark.slow_except("0.1", "5.5", "12.5")
@pytest.mark.parametrize("after", [0.1, 3.9, 5.5, 9.0, 12.5, 16.0])
async def test_answers_on_their_way_are_saved_and_no_request_is_made_again(tmp_path, simulation, whole, after):
    rows, requests, _ = await whole(SELECTION)
    before = request_count(simulation)
    report, took = await drained(simulation, tmp_path / "two", after)
    assert took <= sum(SLOW) + 0.1
    assert report.requests == request_count(simulation) - before < requests
    assert not report.complete
    assert report.pending
    last = await export(simulation, SELECTION, tmp_path / "two")
    assert last.complete
    assert report.requests + last.requests == requests
    assert all_rows(tmp_path / "two") == rows


async def test_a_run_that_is_drained_before_it_begins_sends_nothing(tmp_path, simulation):
    event = asyncio.Event()
    event.set()
    report = await export(simulation, SELECTION, tmp_path, drain=event)
    assert (report.requests, report.complete) == (0, False)
    assert not simulation.service.log


async def test_a_run_that_waits_for_the_quota_of_tomorrow_ends_at_once(tmp_path, simulation):
    simulation.service.plan = Plan.of("enterprise").with_limits("call_details", per_day=12)
    report, took = await drained(simulation, tmp_path, 3_600)
    assert took < 0.1
    assert report.requests == request_count(simulation)
    assert report.pending


async def test_a_run_that_has_no_permit_before_its_clock_is_confirmed_ends_at_once(tmp_path, simulation):
    simulation.service.plan = Plan.of("enterprise").with_limits("call_lists", per_day=1)
    # The only request of the day is left to a person.
    report, took = await drained(simulation, tmp_path, 60, selection=last_hours(1, "calls"))
    assert took < 0.1
    assert (report.requests, report.pending) == (0, 1)
    assert not simulation.service.log


async def test_a_run_in_an_outage_ends_at_once(tmp_path, simulation):
    simulation.faults = Faults.script([None] * 4 + [Fault("status", status=503)] * 500)
    report, took = await drained(simulation, tmp_path, 200, latency=(0.0, 0.0))
    assert took < 0.1
    assert report.requests > request_count(simulation) == 4
    assert report.pending


async def test_a_run_whose_ledger_is_down_ends_at_once(tmp_path, simulation):
    reported = []
    ledger = FailingLedger(6, 500)
    report, took = await drained(simulation, tmp_path, 60, ledger=ledger, on_progress=reported.append)
    assert took < 0.1
    assert report.requests == request_count(simulation)
    assert reported
    assert report.pending
    assert (tmp_path / "manifest.json").exists()


async def test_a_run_that_waits_for_late_data_ends_at_once(tmp_path, clock):
    simulation = Simulation(Service(World(seed=1, calls_per_hour=30), Plan.of("enterprise"), clock=clock))
    selection = Selection(NOON - 3_600, NOON, datasets=("calls", "sessions"))
    report, took = await drained(simulation, tmp_path, 20, latency=(0.0, 0.0), selection=selection)
    assert took < 0.1
    assert report.requests == request_count(simulation)
    assert report.pending


async def test_a_drained_run_can_still_be_cancelled(tmp_path, simulation):
    event = asyncio.Event()
    async with simulation.client(transport=simulation.transport(latency=(2.0, 60.0), hosts=1)) as client:
        running = asyncio.ensure_future(client.export.run(SELECTION, tmp_path, format="jsonl", drain=event))
        await asyncio.sleep(5)
        event.set()
        await asyncio.sleep(5)
        assert not running.done()
        begun = now()
        running.cancel()
        await asyncio.wait((running,))
        assert now() - begun < 0.1
        assert running.cancelled()


async def test_a_run_without_dates_whose_ledger_is_down_ends_at_once(tmp_path, clock, world):
    service = Service(world, Plan.of("enterprise"), clock=clock, variants=Variants(date="absent"))
    report, took = await drained(Simulation(service), tmp_path, 20, ledger=FailingLedger(4, 600))
    assert took <= _CLOCK_INTERVAL
    assert report.pending


async def test_a_run_drains_although_the_event_is_cleared_for_the_next(tmp_path, simulation):
    simulation.service.plan = Plan.of("enterprise").with_limits("call_lists", per_day=4)
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(3_000, lambda: (event.set(), event.clear()))
    channels = last_hours(3, "calls", "sessions", channels=[f"room-{number}" for number in range(10)])
    async with simulation.client() as client:
        report = await client.export.run(channels, tmp_path, format="jsonl", concurrency=1, drain=event)
    assert now() < 3_001
    assert report.pending


def test_an_event_of_another_loop_is_an_error(tmp_path, simulation):
    event = asyncio.Event()

    async def use() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await event.wait()

    asyncio.run(use())
    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        pytest.raises(RuntimeError, match="another event loop"),
    ):
        runner.run(export(simulation, SELECTION, tmp_path, drain=event))
    assert not simulation.service.log


async def test_one_event_drains_several_runs(tmp_path, simulation):
    event = asyncio.Event()
    async with simulation.client(transport=simulation.transport(latency=SLOW, hosts=1)) as client:
        runs = [client.export.run(SELECTION, tmp_path / name, format="jsonl", drain=event) for name in ("one", "two")]
        asyncio.get_running_loop().call_later(9, event.set)
        reports = await asyncio.gather(*runs)
    assert sum(report.requests for report in reports) == request_count(simulation)
    assert all(report.pending for report in reports)
