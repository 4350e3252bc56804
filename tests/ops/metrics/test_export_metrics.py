"""Exports in a scrape: what `on_progress` and the report say."""

from __future__ import annotations

import asyncio

import pytest
from helpers.scraping import scrape
from helpers.streaming import BUSY, HOUR, NOON, simulated

from agora_analytics import Selection
from agora_analytics.ops import Collector
from agora_analytics.plans import CALL_SESSIONS, PREMIUM
from agora_analytics.simulator import Faults


async def test_an_export_is_shown_as_its_progress_and_its_report_say(tmp_path):
    simulation = simulated(world=BUSY)
    async with simulation.client() as client:
        collector = Collector(client)
        show, seen = collector.export("nightly"), []

        def on_progress(progress) -> None:
            show(progress)
            seen.append(progress)

        selection = Selection(NOON - 3 * HOUR, NOON - 2 * HOUR, datasets=("calls", "sessions"))
        report = await client.export.run(selection, tmp_path, format="jsonl", on_progress=on_progress)
        found = await scrape(collector)
        assert found.by("agora_export_rows", "dataset", export="nightly") == report.rows
        assert found.value("agora_export_requests", export="nightly") == report.requests
        assert found.value("agora_export_written_rows", export="nightly") == sum(report.rows.values())
        assert found.by("agora_export_pending", "kind", export="nightly") == {"slices": 0, "calls": 0}
        assert found.value("agora_export_skipped", export="nightly") == len(report.skipped) == 0
        assert found.value("agora_export_expires_in_seconds", export="nightly") is None
        assert found.value("agora_export_updated_timestamp_seconds", export="nightly") == pytest.approx(
            simulation.clock(), abs=2
        )
        assert seen[0].expires_at is not None


@pytest.mark.slow
async def test_an_export_that_waits_for_quota_shows_when_its_oldest_data_expires(tmp_path):
    plan = PREMIUM.with_limits("call_details", per_day=20)
    simulation = simulated(plan, world=BUSY)
    async with simulation.client(plan=plan) as client:
        collector = Collector(client)
        selection = Selection(NOON - 3 * HOUR, NOON - HOUR, datasets=("calls", "sessions"))
        run = asyncio.create_task(
            client.export.run(selection, tmp_path, format="jsonl", on_progress=collector.export())
        )
        await asyncio.sleep(HOUR)
        found, labels = await scrape(collector), {"export": "export"}
        assert found.by("agora_export_pending", "kind", **labels)["calls"] > 0
        left = found.value("agora_export_expires_in_seconds", **labels)
        keeps = plan.of_endpoint(CALL_SESSIONS).retention
        assert keeps - 5 * HOUR < left < keeps - HOUR
        run.cancel()
        await asyncio.wait((run,))


async def test_calls_that_the_service_refuses_are_shown_as_skipped(tmp_path):
    simulation = simulated(world=BUSY)
    async with simulation.client() as client:
        calls = [call async for call in client.calls.search(NOON - 3 * HOUR, NOON - 2 * HOUR) if call.is_over]
        simulation.faults = Faults.of_call(calls[0].call_id)
        collector = Collector(client)
        selection = Selection(NOON - 3 * HOUR, NOON - 2 * HOUR, datasets=("calls", "sessions"))
        report = await client.export.run(selection, tmp_path, format="jsonl", on_progress=collector.export())
        assert [skipped.calls for skipped in report.skipped] == [1]
        assert (await scrape(collector)).value("agora_export_skipped", export="export") == 1


async def test_a_name_shows_the_last_run_and_old_names_are_forgotten():
    async with simulated().client() as client:
        collector = Collector(client)
        for number in range(150):
            collector.export(f"export {number}")
        assert len(collector._exports) == 100
        with pytest.raises(ValueError, match="name="):
            collector.export("")
