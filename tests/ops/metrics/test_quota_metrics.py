"""The quota and the clock in a scrape: what the client itself says, at no request, and without waiting for a lock."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from datetime import timedelta
from functools import partial

import pytest
from helpers.scraping import Scrape, scrape
from helpers.streaming import DAY, MIDNIGHT, simulated
from prometheus_client import CollectorRegistry, generate_latest

from agora_analytics import FileLedger, QuotaExhausted, RateLimited
from agora_analytics.ops import Collector
from agora_analytics.plans import PREMIUM
from agora_analytics.simulator import Fault, Faults, Simulation

UNIT = ("limit", "used", "left")


async def spend(client, requests: int) -> None:
    span = client.calls.recent(timedelta(hours=1))
    for _ in range(requests):
        await client.calls.page(*span)


async def assert_as_the_client_says(client, collector) -> None:
    account = client.quota._limiters.account
    seen, snapshot = await scrape(collector), await client.quota.snapshot()
    for state in snapshot:
        labels = {"account": account, "counter": state.counter}
        unit = labels | {"unit": state.unit}
        assert [seen.value(f"agora_quota_{name}", **unit) for name in UNIT] == [getattr(state, name) for name in UNIT]
        assert seen.value("agora_quota_refusals_total", **labels) == state.refusals
        waiting = seen.by("agora_quota_waiting", "priority", **labels)
        assert waiting == dict(state.priorities)
    assert seen.value("agora_clock_confirmed") == (snapshot.clock is not None and snapshot.clock.confirmed)
    if snapshot.clock is not None:
        assert seen.value("agora_clock_offset_seconds") == pytest.approx(snapshot.clock.offset)
        assert seen.value("agora_clock_error_seconds") == pytest.approx(snapshot.clock.uncertainty)


@pytest.mark.parametrize("plan", ["standard", "premium", "enterprise"])
async def test_the_quota_is_what_the_client_says(plan):
    simulation = simulated(plan)
    async with simulation.client() as client:
        collector = Collector(client)
        await assert_as_the_client_says(client, collector)
        await spend(client, 15)
        sent = len(simulation.service.log)
        await assert_as_the_client_says(client, collector)
        assert len(simulation.service.log) == sent


async def test_a_spent_day_and_who_waits_for_the_next():
    plan = PREMIUM.with_limits("call_lists", per_day=5)
    simulation = simulated(plan)
    async with simulation.client(plan=plan) as client:
        collector = Collector(client, account="prod")
        await spend(client, 5)
        with pytest.raises(QuotaExhausted):
            await spend(client, 1)
        waiting = asyncio.create_task(spend(client.with_priority("export"), 1))
        await asyncio.sleep(10)
        await assert_as_the_client_says(client, Collector(client))
        seen = await scrape(collector)
        day = {"account": "prod", "counter": "call_lists", "unit": "day"}
        assert seen.value("agora_quota_left", **day) == 0
        assert seen.value("agora_quota_resets_timestamp_seconds", **day) == pytest.approx(MIDNIGHT + DAY, abs=5)
        assert seen.by("agora_quota_waiting", "priority", counter="call_lists")["export"] == 1
        waiting.cancel()


async def test_a_unit_ends_with_the_window_of_the_service():
    async with simulated().client() as client:
        collector = Collector(client)
        await spend(client, 1)
        resets = (await scrape(collector)).by("agora_quota_resets_timestamp_seconds", "unit", counter="call_lists")
        assert resets["day"] == MIDNIGHT + DAY
        assert resets["second"] - client.calls._dispatcher.time.utc() <= 1


async def test_refusals_are_counted_and_the_learned_limit_is_shown():
    refusal = Fault("refusal", status=429, code=429, message="QPD Limit 3")
    simulation = simulated(faults=Faults.script([None, refusal]))
    async with simulation.client(max_wait=1) as client:
        collector = Collector(client)
        await spend(client, 1)
        with pytest.raises((RateLimited, QuotaExhausted)):
            await spend(client, 1)
        await assert_as_the_client_says(client, collector)
        assert (await scrape(collector)).by("agora_quota_refusals_total", "counter")["call_lists"] == 1


async def test_a_clock_that_is_wrong_shows_in_offset_and_confirmation():
    simulation = simulated()
    async with simulation.client(clock=lambda: simulation.clock() + 3_600) as client:
        collector = Collector(client)
        assert (await scrape(collector)).value("agora_clock_confirmed") == 0
        assert (await scrape(collector)).value("agora_clock_offset_seconds") is None
        await spend(client, 4)
        await assert_as_the_client_says(client, collector)
        assert (await scrape(collector)).value("agora_clock_offset_seconds") == pytest.approx(-3_600, abs=3)


async def test_a_registry_in_the_same_event_loop_gets_the_present_quota():
    async with simulated().client() as client:
        registry = CollectorRegistry()
        registry.register(Collector(client, account="prod"))
        for used in (1, 2):
            await spend(client, 1)
            value = registry.get_sample_value(
                "agora_quota_used", {"account": "prod", "counter": "call_lists", "unit": "day"}
            )
            assert value == used


async def test_a_second_collector_of_one_registry_is_refused():
    async with simulated().client() as client:
        registry = CollectorRegistry()
        registry.register(Collector(client))
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(Collector(client))


def test_a_collector_can_be_made_and_scraped_without_an_event_loop():
    collector = Collector(Simulation(clock=1_795_521_600).client())
    assert b"agora_build_info" in generate_latest(_Registry(collector))


class _Registry:
    def __init__(self, collector: Collector) -> None:
        self.collect = collector.collect


def hold_lock(path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


async def until_ledger_is(up: float, collector: Collector) -> Scrape:
    async with asyncio.timeout(10):
        while True:
            seen = await scrape(collector)
            if seen.value("agora_ledger_up", account="prod") == up:
                return seen
            await asyncio.sleep(0.05)


@pytest.mark.real_time
async def test_a_scrape_does_not_wait_for_the_lock_of_a_ledger(tmp_path):
    path = tmp_path / "quota.db"
    async with FileLedger(path) as ledger, Simulation().client(ledger=ledger) as client:
        collector = Collector(client, account="prod")
        await spend(client, 2)
        before = await scrape(collector)
        assert before.value("agora_quota_used", account="prod", counter="call_lists", unit="day") == 2
        other = await asyncio.to_thread(hold_lock, path)
        begun = time.perf_counter()
        locked = await scrape(collector)
        assert time.perf_counter() - begun < 0.9
        taken = "agora_quota_snapshot_timestamp_seconds"
        assert locked.by(taken, "account") == before.by(taken, "account")
        await until_ledger_is(0, collector)  # a locked ledger raises after a second
        other.close()
        after = await until_ledger_is(1, collector)
        assert after.by(taken, "account")["prod"] > before.by(taken, "account")["prod"]


@pytest.mark.real_time
async def test_a_scrape_after_the_end_shows_the_last_quota_and_opens_no_ledger(tmp_path):
    async with FileLedger(tmp_path / "quota.db") as ledger:
        async with Simulation().client(ledger=ledger) as client:
            collector = Collector(client, account="prod")
            await spend(client, 1)
            await scrape(collector)
        await ledger.close()
        seen = await scrape(collector)
        assert seen.value("agora_quota_used", account="prod", counter="call_lists", unit="day") == 1
        assert ledger._worker is None


@pytest.mark.real_time
async def test_a_registry_in_another_thread_gets_the_present_quota(tmp_path):
    async with FileLedger(tmp_path / "quota.db") as ledger, Simulation().client(ledger=ledger) as client:
        registry = CollectorRegistry()
        registry.register(Collector(client, account="prod"))
        await spend(client, 3)
        labels = {"account": "prod", "counter": "call_lists", "unit": "day"}
        value = await asyncio.to_thread(partial(registry.get_sample_value, "agora_quota_used", labels))
        assert value == 3


@pytest.mark.slow
async def test_a_day_of_scrapes_costs_no_request_and_no_memory():
    simulation = simulated()
    async with simulation.client() as client:
        collector = Collector(client)
        await spend(client, 1)
        first = len((await scrape(collector)).samples)
        for _ in range(200):
            await asyncio.sleep(DAY / 200)
            seen = await scrape(collector)
        assert len(seen.samples) == first
        assert len(simulation.service.log) == 1
