"""A fleet in a scrape: who has what, how old it is, and a bounded number of samples."""

from __future__ import annotations

import asyncio

import pytest
from helpers.scraping import Scrape, scrape
from helpers.streaming import HOUR, NOON, simulated
from helpers.web_server import site
from helpers.written_fleet import written_fleet
from prometheus_client.parser import text_string_to_metric_families

from agora_analytics.ops import Collector, FleetMonitor
from agora_analytics.ops.metrics.request_metrics import RequestMetrics
from agora_analytics.ops.metrics.worker_metrics import WorkerMetrics
from agora_analytics.ops.web.scraping import metrics_only

pytest.importorskip("docket", reason="needs the extra fleet")

FLEET = {"fleet": "agora"}


@pytest.fixture
async def written():
    async with written_fleet() as found:
        yield found


@pytest.fixture
async def monitor(written):
    async with FleetMonitor(written.fleet) as opened:
        yield opened


@pytest.fixture
async def collector(monitor):
    async with simulated().client() as client:
        collector = Collector(client)
        collector.fleet(monitor)
        yield collector


async def test_a_fleet_is_shown_as_its_workers_wrote_it_down(written, collector):
    await written.worker("one")
    await written.worker("two", draining=True)
    await written.worker("gone", seen=60)
    await written.job("a.watch.x", "one", age=100)
    await written.job("a.watch.y", "one", age=20, failures=1)
    await written.job("a.watch.z", "gone", age=600)
    await written.job("a.follow.x", "two", age=5)
    await written.job("b.export.x")
    await asyncio.sleep(6)
    await written.job("a.watch.z", "one", age=300, takeovers=1)
    await asyncio.sleep(6)
    found = await scrape(collector)
    assert found.value("agora_fleet_up", **FLEET) == 1
    assert found.value("agora_fleet_status_age_seconds", **FLEET) < 6
    assert found.by("agora_fleet_workers", "state") == {"working": 1, "draining": 1, "lost": 1}
    assert found.by("agora_fleet_worker_jobs", "kind", worker="one") == {"watch": 3}
    assert found.by("agora_fleet_worker_jobs", "kind", worker="two") == {"follow": 1}
    assert found.by("agora_fleet_jobs", "state", kind="watch") == {
        "held": 3,
        "retrying": 0,
        "queued": 0,
        "nobody": 0,
        "done": 0,
    }
    assert found.value("agora_fleet_jobs", kind="export", state="queued", **FLEET) == 1
    assert found.by("agora_fleet_failing_jobs", "kind") == {"watch": 1, "follow": 0, "export": 0}
    assert found.value("agora_fleet_age_max_seconds", account="a", kind="watch", **FLEET) == pytest.approx(300, abs=5)
    assert found.value("agora_fleet_age_median_seconds", account="a", kind="watch", **FLEET) == pytest.approx(
        100, abs=5
    )
    assert found.value("agora_fleet_takeovers_total", **FLEET) == 1
    assert found.value("agora_fleet_unheld_jobs", **FLEET) == 0


async def test_the_time_for_which_nobody_has_a_job_is_shown(written, collector):
    await written.worker("one")
    await written.job("a.watch.x")
    await asyncio.sleep(126)
    found = await scrape(collector)
    assert found.value("agora_fleet_unheld_jobs", **FLEET) == 1
    assert 110 < found.value("agora_fleet_unheld_seconds", **FLEET) < 126


async def test_a_fleet_that_was_not_read_is_down_and_has_no_numbers(written):
    async with simulated().client() as client:
        collector = Collector(client)
        collector.fleet(FleetMonitor(written.fleet))
        found = await scrape(collector)
    assert found.value("agora_fleet_up", **FLEET) == 0
    assert {name for name in found.names() if "fleet" in name} == {"agora_fleet_up"}


async def test_a_large_fleet_has_a_bounded_number_of_samples_and_keeps_the_oldest(written, collector):
    for number in range(150):
        await written.worker(f"w{number}")
    for number in range(600):
        await written.job(f"a{number}.watch.x", f"w{number % 150}", age=number)
    await asyncio.sleep(6)
    found = await scrape(collector)
    assert len([name for name, _ in found.samples if "fleet" in name]) < 400
    oldest = found.by("agora_fleet_age_max_seconds", "account")
    assert set(oldest) == {f"a{number}" for number in range(500, 600)}
    assert found.value("agora_fleet_jobs", kind="watch", state="held", **FLEET) == 600


@pytest.mark.real_time
async def test_a_worker_exports_its_requests_and_its_fleet_on_a_port_of_its_own(written):
    await written.worker("one")
    requests = RequestMetrics()
    async with simulated().client(observers=[requests]) as client:
        await client.calls.page(NOON - 2 * HOUR, NOON - HOUR)
    async with (
        FleetMonitor(written.fleet) as monitor,
        site(metrics_only(WorkerMetrics("one", requests, monitor), any_host=False)) as here,
    ):
        async with asyncio.timeout(20):
            while monitor.error:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.02)
        async with here.http.get("/metrics") as response:
            found = Scrape(text_string_to_metric_families(await response.text()))
        assert found.by("agora_fleet_workers", "state")["working"] == 1
        assert found.by("agora_fleet_worker_info", "worker") == {"one": 1}
        assert sum(found.by("agora_requests_total", "outcome").values()) == 1
        assert await here.status("/metrics", headers={"Host": "evil.example"}) == 421
        assert await here.status("/") == 404
