"""The Grafana dashboards: their JSON is as generated, and a real Prometheus has data for each query in them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from helpers.paths import ROOT
from helpers.prometheus import GUIDE, MISSING, PROMETHEUS, exporter, prometheus
from helpers.streaming import FULL, consuming
from helpers.written_fleet import written_fleet

from agora_analytics import Plan, Series
from agora_analytics.ops import Collector, FleetMonitor
from agora_analytics.simulator import Fault, Faults, Simulation

FOLDER = ROOT / "deploy/grafana"
BOARDS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
QUERIES = sorted(
    {target["expr"] for board in BOARDS.values() for panel in board["panels"] for target in panel.get("targets", ())}
)
VARIABLES = {"$app": ".+", "$product": ".+", "$dimension": "country", "$__rate_interval": "10s"}
METRICS = ("userCount", "channelCount", "videoFreezeRate", "audioFreezeRate", "networkDelay", "joinSuccessRate")
BY_COUNTRY = tuple(metric for metric in METRICS if metric not in {"channelCount", "joinSuccessRate"})
SERIES = (
    *(Series(metric, product="Native") for metric in METRICS),
    *(Series(metric, product="Native", dimension="country") for metric in BY_COUNTRY),
)


def filled(query: str) -> str:
    """Replace the variables of a dashboard, as Grafana does."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


def test_there_are_three_dashboards_and_every_panel_has_a_query_a_title_and_its_own_id():
    assert list(BOARDS) == ["agora-by-dimension", "agora-overview", "agora-quota"]
    for name, board in BOARDS.items():
        assert board["uid"] == name
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        for panel in panels:
            assert panel["title"]
            letters = [target["refId"] for target in panel["targets"]]
            assert letters == sorted(set(letters))
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_the_files_are_as_generated():
    pytest.importorskip("grafana_foundation_sdk", reason="the dependency group dashboards is not installed")
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(FOLDER))
    try:
        spec.loader.exec_module(generate)
    finally:
        sys.path.remove(str(FOLDER))
    for board in generate.BOARDS:
        assert (FOLDER / f"{board.uid}.json").read_text(encoding="utf-8") == generate.rendered(board)


def test_queries_name_only_metrics_that_the_guide_lists():
    listed = set(re.findall(r"`(agora_\w+)`", GUIDE))
    used = {name.removesuffix("_bucket") for query in QUERIES for name in re.findall(r"\bagora_\w+", query)}
    assert used
    assert used - listed == set()


@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.process
@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
async def test_a_real_prometheus_that_scraped_the_exporter_has_series_for_every_query(tmp_path):
    pytest.importorskip("docket", reason="needs the extra fleet")
    plan = Plan.of("enterprise").with_limits("realtime", per_minute=1_000, per_day=100_000)  # none waits a minute
    simulation = Simulation(world=FULL, plan=plan)
    simulation.faults = Faults.script([Fault("refusal", code=300, message="qps limit error")])  # there are refusals
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(simulation.client())
        collector = Collector(client, apps={simulation.app_id: "shop"})
        written = await stack.enter_async_context(written_fleet())
        await written.worker("one")
        await written.job("acme.watch.web", "one", age=100)
        collector.fleet(await stack.enter_async_context(FleetMonitor(written.fleet, every=0.5)))
        watch = client.realtime.watch(*SERIES, start=timedelta(minutes=20), gaps=True)
        collector.watch(watch, name="everything")
        await client.calls.page(*client.calls.recent(3_600))
        await stack.enter_async_context(consuming(watch))
        target = await stack.enter_async_context(exporter(collector))
        server = await stack.enter_async_context(prometheus(target, tmp_path))
        await server.until('agora_realtime_join_success_ratio{dimension=""}')
        await server.until("rate(agora_requests_total[10s]) > 0")
        empty = set(QUERIES)
        for _ in range(100):  # a rate needs two scrapes
            empty = {query for query in empty if not await server.query(filled(query))}
            if not empty:
                break
            await asyncio.sleep(0.2)
        assert empty == set()
