"""Operations, for mypy and pyright."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from prometheus_client import CollectorRegistry

from agora_analytics import AnalyticsClient, Event, ExportProgress, Follow, Selection, Watch
from agora_analytics.fleet import Fleet, FleetStatus
from agora_analytics.ops import Collector, FleetMonitor, Push, PushError


async def collecting(
    client: AnalyticsClient, watch: Watch, follow: Follow, selection: Selection, monitor: FleetMonitor
) -> None:
    collector = Collector(client, account="prod", apps={"app": "shop"}, channels=True, max_series=1_000)
    collector.watch(watch, name="main")
    collector.follow(follow)
    collector.page(lambda: (2, 0))
    collector.fleet(monitor)
    collector.watch(follow)  # type: ignore[arg-type]
    CollectorRegistry().register(collector)
    with Collector(client) as opened:
        assert_type(opened, Collector)
    collector.close()
    assert_type(await collector.render("text/plain"), tuple[bytes, str])
    await client.export.run(selection, "folder", on_progress=collector.export("nightly"))


async def monitoring(fleet: Fleet) -> None:
    async with fleet.status_reader() as read:
        assert_type(await read(), FleetStatus)
    async with FleetMonitor(fleet, every=10) as monitor:
        assert_type(monitor, FleetMonitor)
        assert_type(monitor.status, FleetStatus | None)
        assert_type((monitor.age, monitor.error, monitor.trouble), tuple[float | None, str, str])
        assert_type(monitor.takeovers, int)
        assert_type(monitor.on_status(print), Callable[[], None])


def progressing(progress: ExportProgress) -> None:
    assert_type(progress.skipped, int)
    assert_type(progress.expires_at.timestamp() if progress.expires_at else 0.0, float)


async def pushing(event: Event, error: PushError) -> None:
    async with Push("http://localhost/v1/metrics", app="shop", protocol="otlp", headers={"a": "b"}) as push:
        assert_type(push, Push)
        assert_type(await push.send(event), int)
    Push("http://localhost", app="shop", protocol="statsd")  # type: ignore[arg-type]
    Push("http://localhost", app="shop", max_wait=60, timeout=5.0, replaces_values=True)
    assert_type(error.status, int | None)
    assert_type(error.refused, bool)
