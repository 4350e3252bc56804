"""Requests in a scrape: how they ended, and how long each attempt took and waited."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from helpers.scraping import OPENMETRICS, scrape
from helpers.streaming import simulated

from agora_analytics import AgoraError, BadRequest, QuotaExhausted, Retry
from agora_analytics.ops import Collector
from agora_analytics.plans import PREMIUM
from agora_analytics.simulator import Fault, Faults

QUICK = Retry(attempts=2, base=0.1, cap=0.1)


async def page(client) -> None:
    await client.calls.page(*client.calls.recent(timedelta(hours=1)))


async def test_requests_are_counted_by_outcome_and_attempts_are_measured():
    plan = PREMIUM.with_limits("call_lists", per_day=5)
    failures = Faults.script([None, Fault("status", status=503), None, Fault("refusal", code=400)])
    simulation = simulated(plan, faults=failures)
    async with simulation.client(plan=plan, retry=QUICK, max_wait=10) as client:
        collector = Collector(client)
        await page(client)
        await page(client)  # fails, and is answered when it is sent again
        with pytest.raises(BadRequest):
            await page(client)
        await page(client)
        with pytest.raises(QuotaExhausted):
            await page(client)
        waiting = asyncio.create_task(page(client.with_priority("export")))
        await asyncio.sleep(5)
        waiting.cancel()
        await asyncio.wait((waiting,))
        seen = await scrape(collector)
        assert seen.by("agora_requests_total", "outcome", endpoint="call_lists") == {
            "ok": 3,
            "error": 1,
            "quota": 1,
            "cancelled": 1,
        }
        assert seen.value("agora_request_duration_seconds_count", endpoint="call_lists") == 5
        waited = {"counter": "call_lists", "priority": "interactive"}
        assert seen.value("agora_quota_wait_seconds_count", **waited) == 5


async def test_durations_and_waits_are_those_of_the_loop():
    plan = PREMIUM.with_limits("call_lists", per_second=1)
    simulation = simulated(plan)
    transport = simulation.transport(latency=(0.3, 0.3))  # there, and back
    async with simulation.client(plan=plan, transport=transport) as client:
        collector = Collector(client)
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(page(client), page(client), page(client))
        passed = asyncio.get_running_loop().time() - begun
        seen = await scrape(collector)
        assert seen.value("agora_request_duration_seconds_sum", endpoint="call_lists") == pytest.approx(3 * 0.6)
        waited = seen.value("agora_quota_wait_seconds_sum", counter="call_lists", priority="interactive")
        assert passed < waited < 3 * passed
        durations = seen.by("agora_request_duration_seconds_bucket", "le", endpoint="call_lists")
        assert (durations["0.5"], durations["0.75"], durations["+Inf"]) == (0, 3, 3)


async def test_a_failed_request_has_its_id_as_an_exemplar_in_openmetrics_alone():
    simulation = simulated(faults=Faults.always(Fault("refusal", code=400)))
    async with simulation.client() as client:
        collector = Collector(client)
        with pytest.raises(AgoraError) as raised:
            await page(client)
        body, _ = await collector.render(OPENMETRICS)
        (line,) = [line for line in body.decode().splitlines() if line.startswith("agora_requests_total{")]
        assert f'# {{request_id="{raised.value.request_id}"}} 1.0' in line
        assert raised.value.request_id.encode() not in (await collector.render())[0]


async def test_a_collector_counts_the_requests_of_all_clients_that_share_the_account():
    async with simulated().client() as client:
        first, second = Collector(client), Collector(client)
        await page(client)
        await page(client.with_priority("export"))
        for collector in (first, second):
            seen = await scrape(collector)
            assert seen.value("agora_requests_total", endpoint="call_lists", outcome="ok") == 2
