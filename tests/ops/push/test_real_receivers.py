"""Remote write into a real Prometheus and a real VictoriaMetrics: values at their own time, late ones and revisions.

The versions that Debian has, 2.42 and 1.79, do not take OTLP.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from helpers.otlp_receiver import window
from helpers.prometheus import (
    MISSING,
    PROMETHEUS,
    VICTORIA_METRICS,
    VICTORIA_MISSING,
    Prometheus,
    prometheus,
    victoria_metrics,
)
from helpers.streaming import FREEZES, FULL, NETWORKS, USERS, values_by_group

from agora_analytics import Revision
from agora_analytics.ops import Push, PushError
from agora_analytics.simulator import Simulation

pytestmark = [pytest.mark.real_time, pytest.mark.process]
with_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
with_victoria_metrics = pytest.mark.skipif(VICTORIA_METRICS is None, reason=VICTORIA_MISSING)

RECEIVES = ("--web.enable-remote-write-receiver",)
TWO_HOURS = {"tsdb": {"out_of_order_time_window": "2h"}}


def receiving_prometheus(folder: Path, **settings):
    return prometheus("127.0.0.1:1", folder, options=RECEIVES, **settings)


@asynccontextmanager
async def pushing(server: Prometheus, **settings):
    async with Push(f"{server.address}/api/v1/write", app="shop", **settings) as push:
        yield push


async def samples(server: Prometheus, selector: str) -> list:
    """Return the labels and samples of a selector."""
    await server.flush()
    return await server.samples(selector)


async def users(server: Prometheus) -> dict[int, float]:
    """Return the number of users by time."""
    ((_, found),) = await samples(server, 'agora_realtime_users{app="shop"}[1d]')
    return dict(found)


@pytest.fixture
def now() -> int:
    """The start of the current window."""
    return int(time.time()) // 20 * 20


def revision(ts: int, value: float) -> Revision:
    return Revision(ts=ts, series=USERS, before=(), after=window(value, ts=ts).values[USERS])


@pytest.mark.parametrize(
    "server_in",
    [
        pytest.param(receiving_prometheus, marks=with_prometheus, id="Prometheus"),
        pytest.param(victoria_metrics, marks=with_victoria_metrics, id="VictoriaMetrics"),
    ],
)
async def test_a_receiver_has_each_window_at_its_own_time(server_in, tmp_path):
    simulation, windows = Simulation(world=FULL, plan="enterprise"), []
    async with simulation.client() as client, server_in(tmp_path) as server, pushing(server) as push:
        watch = client.realtime.watch(USERS, NETWORKS, FREEZES, start=timedelta(minutes=15), only_final=True)
        async with watch:
            async for event in watch:
                await push.send(event)
                windows.append(event)
                if len(windows) == 20:
                    break
        for metric, series in (("users", USERS), ("users", NETWORKS), ("video_freeze_ratio", FREEZES)):
            selector = (
                f'agora_realtime_{metric}{{app="shop",product="Native",dimension="{series.dimension or ""}"}}[1d]'
            )
            seen: dict = {}
            for labels, found in await samples(server, selector):
                for ts, value in found:
                    seen.setdefault(ts, {})[labels.get("value")] = value
            assert seen == {one.ts: values_by_group(one.values[series]) for one in windows if series in one.values}
            assert len(seen) > 10


@with_prometheus
async def test_prometheus_refuses_late_windows_and_other_values_by_default(tmp_path, now):
    async with receiving_prometheus(tmp_path) as server, pushing(server, replaces_values=True) as push:
        assert await push.send(window(1, ts=now - 60)) == 1
        assert await push.send(window(1, ts=now - 60)) == 1  # a restart may send a window twice
        for event in (revision(now - 60, 2), window(3, ts=now - 80), window(3, ts=now - 7_200)):
            with pytest.raises(PushError, match=r"HTTP 400: \w+") as raised:
                await push.send(event)
            assert raised.value.refused
        assert await push.send(window(4, ts=now - 40)) == 1
        assert list((await users(server)).values()) == [1, 4]


@with_prometheus
async def test_prometheus_with_an_out_of_order_window_takes_late_windows_and_keeps_first_values(tmp_path, now):
    times = now - 3_600, now - 80, now - 60, now - 40
    server_in = receiving_prometheus(tmp_path, storage=TWO_HOURS)
    async with server_in as server, pushing(server, replaces_values=True) as push:
        for ts, value in zip(times[::-1], (40, 60, 80, 3_600), strict=True):
            assert await push.send(window(value, ts=ts)) == 1
        assert await push.send(revision(times[1], 7)) == 1  # accepted, and passed over
        with pytest.raises(PushError, match=r"HTTP (400|500): .*too old") as raised:
            await push.send(window(5, ts=now - 4 * 3_600))
        assert raised.value.refused
        assert await users(server) == dict(zip(times, (3_600, 80, 60, 40), strict=True))


@with_victoria_metrics
async def test_victoria_metrics_takes_late_windows_and_other_values(tmp_path, now):
    times = now - 8 * 3_600, now - 80, now - 60, now - 40
    async with victoria_metrics(tmp_path) as server, pushing(server, replaces_values=True) as push:
        for ts in times[::-1]:
            assert await push.send(window(50, ts=ts)) == 1
        assert set((await users(server)).values()) == {50}
        for ts, value in zip(times, (51, 49, 0, 50), strict=True):
            assert await push.send(revision(ts, value)) == 1
        shown = await users(server)
        assert list(shown) == list(times)
        # Of two values for one time, 1.79 shows the last one, and 1.85 the largest one.
        assert list(shown.values()) in ([51, 49, 0, 50], [51, 50, 50, 50])
