"""The text of a scrape: valid for Prometheus' own tool and for OpenMetrics, and rendered without holding the loop."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest
from helpers.alerting import window
from helpers.heartbeat import Heartbeat
from helpers.pages import ROOT, rows_below
from helpers.scraping import OPENMETRICS
from helpers.streaming import BUSY, HOUR, NETWORKS, NOON, USERS, consuming, simulated
from helpers.written_fleet import written_fleet
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agora_analytics import MemoryCheckpoints, Selection, Series
from agora_analytics._core.decoding.scanner import finish
from agora_analytics.catalogue import QualityMetric
from agora_analytics.ops import Collector, FleetMonitor
from agora_analytics.ops.metrics.exposition import encode

PROMTOOL = shutil.which("promtool")


async def everything(tmp_path) -> tuple[Collector, CollectorRegistry, list[tuple[bytes, str]]]:
    """Return a collector of a client that has done all that is shown, its registry, and its texts."""
    simulation = simulated("enterprise", world=BUSY)
    async with simulation.client(checkpoints=MemoryCheckpoints()) as client:
        collector, registry = Collector(client), CollectorRegistry()
        registry.register(collector)
        series = [Series(one, product="Native", dimension=by) for one in QualityMetric for by in (None, "net")]
        channels = Series("channelCount", product="WebRTC")
        watch = client.realtime.watch(USERS, channels, NETWORKS, *series, checkpoint="prod", gaps=True)
        follow = client.calls.follow(start=timedelta(hours=1))
        collector.watch(watch)
        collector.follow(follow)
        collector.page(lambda: (2, 5))
        selection = Selection(NOON - 3 * HOUR, NOON - 2 * HOUR, datasets=("calls", "sessions"))
        async with consuming(watch), consuming(follow), fleet() as monitor:
            collector.fleet(monitor)
            export = asyncio.create_task(
                client.export.run(selection, tmp_path, format="jsonl", on_progress=collector.export(), max_requests=30)
            )
            await asyncio.sleep(1_200)
            await export
            texts = [await collector.render(accept) for accept in (None, OPENMETRICS)]
            assert generate_latest(registry).count(b"\n") == texts[0][0].count(b"\n")
    return collector, registry, texts


@asynccontextmanager
async def fleet():
    """Yield the monitor of a fleet with one job."""
    pytest.importorskip("docket", reason="needs the extra fleet")
    async with written_fleet() as written, FleetMonitor(written.fleet) as monitor:
        await written.worker("one")
        await written.job("acme.watch.web", "one", age=100)
        yield monitor


def documented() -> dict[str, tuple[str, set[str]]]:
    """Return type and labels of each metric in the guide, by its name in a scrape."""
    guide, found = "docs/guides/metrics.md", {}
    for heading, common in (("## Metrics", set()), ("## A fleet", {"fleet"})):
        for row in rows_below(guide, heading):
            names, kind, labels, _ = (cell.replace("`", "") for cell in row)
            found |= {name: (kind, common | {*labels.split(", ")} - {""}) for name in names.split(", ")}
    return found


async def test_the_guide_has_every_metric_with_its_type_and_labels(tmp_path):
    collector, _, texts = await everything(tmp_path)
    suffixes = {"counter": "_total", "info": "_info"}
    described = {one.name + suffixes.get(one.type, ""): one.type for one in collector.describe()}
    assert {name: kind for name, (kind, _) in documented().items()} == described
    seen: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(texts[1][0].decode()):
        for sample in family.samples:
            seen[family.name + suffixes.get(family.type, "")] |= sample.labels.keys() - {"le"}
    assert described.keys() - seen == {"agora_realtime_value"}
    assert {name: documented()[name][1] for name in seen} == seen
    guide = (ROOT / "docs/guides/metrics.md").read_text()
    assert set(re.findall(r"`(agora_\w+)", guide)) - described.keys() == {"agora_fleet_worker_info"}


def promtool_says(text: bytes) -> tuple[int, bytes]:
    result = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.process
@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")
async def test_promtool_finds_nothing_to_complain_about(tmp_path):
    _, _, texts = await everything(tmp_path)
    assert promtool_says(texts[0][0]) == (0, b"")
    assert promtool_says(b"# TYPE x counter\nx 1\n") != (0, b"")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4"),
        ("text/plain;version=0.0.4;q=0.2", "text/plain; version=0.0.4"),
        (f"{OPENMETRICS},text/plain;q=0.5", "application/openmetrics-text; version=1.0.0"),
    ],
)
async def test_the_accept_header_chooses_the_format(accept, content_type):
    async with simulated().client() as client:
        body, found = await Collector(client).render(accept)
        assert found.startswith(content_type)
        assert body.endswith(b"# EOF\n") == ("openmetrics" in found)


def test_a_text_in_slices_is_the_text_of_prometheus_client():
    metric = Metric("one", "Help with a \\ and\na second line.", "gauge")
    for number in range(1_000):
        metric.add_sample("one", {"value": f"# HELP {number}\n# EOF\n"}, number)
    empty = Metric("two", "No sample.", "gauge")
    registry = CollectorRegistry()
    registry.collect = lambda: [metric]
    for accept, generate in (("", generate_latest), (OPENMETRICS, generate_openmetrics)):
        assert finish(encode([metric, empty], accept))[0] == generate(registry)
        assert len(list(encode([metric, empty], accept))) == 10


@pytest.mark.slow
async def test_a_scrape_of_two_thousand_series_does_not_hold_the_loop():
    async with simulated("enterprise").client() as client, AsyncExitStack() as open_streams:
        collector = Collector(client)
        for number in range(150):
            watch = await open_streams.enter_async_context(client.realtime.watch(USERS))
            collector.watch(watch, name=f"watch {number}")
        held = []
        for _ in range(5):
            async with Heartbeat() as beat:
                body, _ = await collector.render()
            held.append(beat.longest)
        assert body.count(b"\n") > 1_900
        assert min(held) < 0.010


@pytest.mark.slow
async def test_thousands_of_values_and_of_series_that_are_dropped_do_not_hold_the_loop():
    users = Series("userCount", product="Native", dimension="country")
    freezes = Series("videoFreezeRate", product="Native", dimension="country")
    rooms = [Series("userCount", product="Native", cname=f"room {n}", dimension="net") for n in range(400)]
    values: dict = {one: {f"country {number}": number / 10_000 for number in range(10_000)} for one in (users, freezes)}
    values |= {room: {f"net {number}": number for number in range(20)} for room in rooms}
    held = []
    async with simulated("enterprise").client() as client:
        watch = client.realtime.watch(users, freezes, *rooms, gaps=True)
        for _ in range(5):
            collector = Collector(client, channels=True)
            collector.watch(watch)
            collector._streams["simulated-app-id-0123456789abcdef", "watch"].on_event(window(NOON, values))
            async with Heartbeat() as beat:
                body, _ = await collector.render()
            held.append(beat.longest)
        await watch.aclose()
    (dropped,) = re.findall(rb"^agora_series_dropped_total (.*)$", body, re.MULTILINE)
    assert float(dropped) > 5_000
    assert min(held) < 0.010
