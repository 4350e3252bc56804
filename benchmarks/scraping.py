"""What a scrape costs, against prometheus_client's own text of as many plain gauges, and how long it holds the loop.

`python -m benchmarks.scraping [--quick]` watches the qualities of several App IDs by country, network and so on over
the simulator, on virtual time, until a scrape has 2,000 samples; then it scrapes. Times are CPU time, without garbage
collection of the simulator's own objects. Exits with 1 if a scrape takes more than twice as long as the gauges, or
holds the event loop for more than 10 ms.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import product

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from agora_analytics import Plan, Series, Watch
from agora_analytics.catalogue import QualityMetric
from agora_analytics.ops import Collector
from agora_analytics.simulator import Service, Simulation, VirtualLoop, World
from benchmarks._measure import Row, compare, cpu, interleaved, table

_NOON = 1_795_521_600
_APPS = ("app-1", "app-2", "app-3")
_DIMENSIONS = ("country", "sdk", "device", "region", "os", "net")
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_SLOWER = 2.0
_HOLD = 0.010


def main() -> int:
    """Measure, and print the tables."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_measure(quick="--quick" in sys.argv[1:]))


async def _measure(*, quick: bool) -> int:
    plan = Plan.of("enterprise").with_limits("realtime", per_minute=10**6, per_day=10**7)
    clock = asyncio.get_running_loop().time
    world = World(seed=7, calls_per_hour=300)
    service = Service(world, plan, clock=lambda: _NOON + clock(), app_id=_APPS[0], other_apps=_APPS[1:])
    async with Simulation(service).client(plan=plan) as client, AsyncExitStack() as streams:
        collector = Collector(client)
        for app in _APPS:
            series = [
                Series(metric, product=kind, dimension=dimension)
                for metric, kind, dimension in product(QualityMetric, ("Native", "WebRTC"), _DIMENSIONS)
            ]
            watch = await streams.enter_async_context(client.with_app(app).realtime.watch(*series, final_after=0))
            collector.watch(watch)
            await _first_windows(watch)
        gc.collect()
        gc.freeze()
        rows, held = await _compared(collector, 3 if quick else 31)
    print(table(rows))
    for what, seconds in held.items():
        print(f"{what}: holds the event loop for {seconds * 1e3:.1f} ms at most (allowed: {_HOLD * 1e3:.0f} ms)")
    return 0 if all(row.met for row in rows) and max(held.values()) < _HOLD else 1


async def _first_windows(watch: Watch) -> None:
    for _ in range(5):
        await anext(watch)


async def _compared(collector: Collector, rounds: int) -> tuple[list[Row], dict[str, float]]:
    """Return the rows of the table, and the longest hold of the loop by format."""
    body, _ = await collector.render()
    samples = [line for line in body.splitlines() if not line.startswith(b"#")]
    print(f"{len(samples)} samples, {len(body) / 1_000:.0f} KB of text")
    registry = _gauges(len(samples))
    rows, held = [], {}
    for what, accept, generate in (("text", "", generate_latest), ("OpenMetrics", _OPENMETRICS, generate_openmetrics)):
        ours: list[float] = []
        holds: list[float] = []
        for _ in range(rounds):
            seconds, hold = await _scraped(collector, accept or None)
            ours.append(seconds)
            holds.append(hold)
        found = interleaved({"theirs": partial(cpu, partial(_generated, generate, registry))}, rounds)
        rows.append(compare(f"scrape, {what}", ours, "as many gauges", found["theirs"], target=_SLOWER))
        held[f"scrape, {what}"] = max(holds)
    return rows, held


def _generated(generate: Callable[[CollectorRegistry], bytes], registry: CollectorRegistry) -> bytes:
    return generate(registry)


def _gauges(count: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    names = ("app", "product", "dimension", "value")
    gauge = Gauge("plain", "As many values, with as many labels.", names, registry=registry)
    for number in range(count):
        gauge.labels("app", "Native", "country", f"value {number}").set(number / 1_000)
    return registry


async def _scraped(collector: Collector, accept: str | None) -> tuple[float, float]:
    """Return the CPU time of a scrape, and of its longest part between two turns of the event loop."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            last, longest = now, max(longest, now - last)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    begun = time.thread_time()
    await collector.render(accept)
    seconds = time.thread_time() - begun
    beating.cancel()
    return seconds, longest


if __name__ == "__main__":
    sys.exit(main())
