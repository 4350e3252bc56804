"""A real Prometheus scrapes a collector over the simulator, and its queries return what the client says."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import timedelta
from urllib.request import urlopen

import prometheus_client
import pytest
from helpers.prometheus import BLOCKS, GUIDE, MISSING, PROMETHEUS, exporter, prometheus
from helpers.streaming import FULL, consuming, latest_values

from agora_analytics import AnalyticsClient, Series
from agora_analytics.ops import Collector
from agora_analytics.simulator import Simulation

pytestmark = [pytest.mark.real_time, pytest.mark.process]

PROGRAM = BLOCKS[0]
QUERIES = re.findall(r"```promql\n(.*?)```", GUIDE, re.DOTALL)[0].split("\n\n")
USERS = Series("userCount", product="Native", dimension="country")
FREEZES = Series("videoFreezeRate", product="Native", dimension="country")


@pytest.mark.slow
@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
async def test_prometheus_has_the_series_and_values_of_the_client(tmp_path):
    simulation = Simulation(world=FULL, plan="enterprise")
    async with simulation.client() as client:
        collector = Collector(client, account="prod", apps={simulation.app_id: "shop"})
        watch = client.realtime.watch(USERS, FREEZES, start=timedelta(minutes=20))
        follow = client.calls.follow(start=timedelta(minutes=30))
        collector.watch(watch, name="countries")
        collector.follow(follow)
        async with (
            consuming(watch) as events,
            consuming(follow),
            exporter(collector) as target,
            prometheus(target, tmp_path) as server,
        ):
            await server.until("agora_realtime_users")
            now = time.time()  # of one scrape: the newest window may be another in the next
            users = await server.query("agora_realtime_users", now)
            ((_, window),) = await server.query('agora_realtime_window_timestamp_seconds{metric="userCount"}', now)
            truth = latest_values(events)[int(window), USERS]
            assert sum(value for _, value in users) == sum(truth.values())
            shown = {labels["value"]: value for labels, value in users if labels["value"] != "other"}
            assert shown.items() <= truth.items()
            left = await server.query('agora_quota_left{counter="realtime",unit="day"}')
            states = await client.quota.snapshot()
            (day,) = [one.left for one in states if (one.counter, one.unit) == ("realtime", "day")]
            assert [value for _, value in left] == [day]
            assert await server.query('agora_requests_total{outcome="ok"} > 0')
            assert await server.query('agora_stream_state{state="polling"} == 1')
            assert await server.query("histogram_quantile(0.9, agora_request_duration_seconds_bucket)")
            for query in QUERIES:
                await server.query(query)
            assert await server.query(QUERIES[-1].replace("0.05", "0").replace("20", "1"))
            (scraped,) = (await server.get("targets"))["activeTargets"]
            assert (scraped["health"], scraped["lastError"]) == ("up", "")
            metadata = await server.get("metadata?metric=agora_realtime_video_freeze_ratio")
            assert metadata["agora_realtime_video_freeze_ratio"][0]["type"] == "gauge"


async def test_the_program_of_the_guide_serves_metrics(monkeypatch, capsys):
    simulation = Simulation(world=FULL, plan="enterprise")
    monkeypatch.setattr(AnalyticsClient, "from_env", classmethod(lambda cls, **more: simulation.client(**more)))
    started = []

    def start(port, *, addr, registry):
        assert port == 9464
        started.append(prometheus_client.exposition.start_http_server(0, addr=addr, registry=registry))

    monkeypatch.setattr(prometheus_client, "start_http_server", start)
    names: dict = {"__name__": "guide"}
    exec(compile(PROGRAM.replace("asyncio.run(main())", ""), "guide", "exec"), names)  # noqa: S102 - as above
    running = asyncio.create_task(names["main"]())
    try:
        async with asyncio.timeout(10):
            while True:
                await asyncio.sleep(0.01)
                if started and capsys.readouterr().out:
                    break
        ((server, thread),) = started
        text = await asyncio.to_thread(lambda: urlopen(f"http://127.0.0.1:{server.server_port}/metrics").read())
        assert b'agora_stream_state{app="simulated' in text
        assert b'stream="countries"' in text
        assert b'agora_requests_total{endpoint="realtime_usage",outcome="ok"}' in text
    finally:
        running.cancel()
        await asyncio.wait((running,))
        for server, thread in started:
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            thread.join()
