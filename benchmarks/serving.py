"""What the live page costs: a day of 14 series beside a watch and a script of an afternoon, viewers, the first paint.

`python -m benchmarks.serving [--quick]`. The day runs on virtual time over the simulator, each contestant in a process
of its own: the state of `serve` without viewers, the watch in it alone, and a script that asks for each series as often
as the plan allows and sets gauges. All three answer their own requests, as the simulator is part of their process.
Viewers are another process, which reads the events of a server that publishes windows 40 times as fast as real ones
come. Exits with 1 if 50 viewers cost more than 5 % of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from itertools import product

import aiohttp
from aiohttp import web

from agora_analytics import AnalyticsClient, Point, Series, Window
from agora_analytics.catalogue import QualityMetric
from agora_analytics.ops import LiveState, routes
from agora_analytics.ops.web.assets import load_assets
from agora_analytics.ops.web.server import listening
from agora_analytics.simulator import Simulation, VirtualLoop, World
from agora_analytics.spans import DAY, HOUR, WINDOW

_NOON = 1_795_521_600
_VIEWERS = 50
_FASTER = 40
_ALLOWED = 0.05

SERIES = (
    *(Series(metric, product=kind) for metric, kind in product(QualityMetric, ("Native", "WebRTC"))),
    *(Series(metric, product=kind) for metric, kind in product(("userCount", "channelCount"), ("Native", "WebRTC"))),
)[:14]


def simulation(clock: object) -> Simulation:
    """Return a simulated service on the Enterprise plan."""
    return Simulation(world=World(seed=7, calls_per_hour=60), plan="enterprise", clock=clock)


async def serve_day(seconds: int) -> None:
    """Keep a live state, as `serve` does."""
    now = asyncio.get_running_loop().time
    async with simulation(lambda: _NOON + now()).client() as client, LiveState(client, *SERIES, calls=False):
        await asyncio.sleep(seconds)


async def watch_day(seconds: int) -> None:
    """Take the events of a watch, without a page: the part of `serve` that the library does for any program."""
    now = asyncio.get_running_loop().time
    async with simulation(lambda: _NOON + now()).client() as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), client.realtime.watch(*SERIES, start=timedelta(hours=1)) as watch:
                async for _ in watch:
                    pass


async def script_day(seconds: int) -> None:
    """Poll each series in turn and set gauges: no late data, no gaps, no history."""
    from prometheus_client import CollectorRegistry, Gauge  # noqa: PLC0415 - the other contestant needs none

    registry = CollectorRegistry()
    gauge = Gauge("agora", "Newest value.", ("metric", "product"), registry=registry)
    now = asyncio.get_running_loop().time
    async with simulation(lambda: _NOON + now()).client() as client:
        pause = DAY * len(SERIES) / client.plan.rates("realtime")["day"]
        while now() < seconds:
            for series in SERIES:
                await _set(client, series, gauge.labels(series.metric, series.product), int(pause))
            await asyncio.sleep(pause)


async def _set(client: AnalyticsClient, series: Series, gauge: object, back: int) -> None:
    read = client.realtime.usage if series.usage else client.realtime.quality
    points = await read(series.metric, *client.realtime.recent(back), product=series.product)
    if points and points[-1].value is not None:
        gauge.set(points[-1].value)  # type: ignore[attr-defined]


DAYS = {"serve": serve_day, "watch": watch_day, "script": script_day}


def run_day(name: str, seconds: int) -> None:
    """Run one contestant, and print its CPU seconds and its memory as JSON."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(DAYS[name](seconds))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"cpu": time.process_time() - begun, "grown": (after - before) / 1024, "rss": after / 1024}))


def measured_day(name: str, seconds: int) -> dict[str, float]:
    """Run one contestant in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.serving", "--day", name, str(seconds)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603 - ours
    return found


@asynccontextmanager
async def viewers(url: str, count: int) -> AsyncIterator[None]:
    """Read a server's events as so many viewers, in another process."""
    command = (sys.executable, "-m", "benchmarks.serving", "--view", url, str(count))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    await process.stdout.readline()  # all are connected
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def view(url: str, count: int) -> None:
    """Be so many viewers until the process is ended."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        streams = [await http.get(f"{url}api/v1/events") for _ in range(count)]
        print("connected", flush=True)
        await asyncio.gather(*(_drain(stream) for stream in streams))


async def _drain(stream: aiohttp.ClientResponse) -> None:
    async for _ in stream.content.iter_any():
        pass


async def cost_of_viewers(count: int, seconds: float) -> float:
    """Return the share of a core that a server needs for its windows at their real pace, with so many viewers."""
    async with simulation(time.time).client() as client:
        state = LiveState(client, *SERIES, calls=False)
        application: web.Application = routes(state)
        async with listening(application, "127.0.0.1", 0) as url, viewers(url, count):
            begun, windows, ts = time.process_time(), 0, _NOON
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                ts, windows = ts + WINDOW, windows + 1
                values = {one: (Point.of(ts, 0.0123, metric=one.metric),) for one in SERIES}
                state._add_event(Window(ts=ts, values=values, final=False))  # noqa: SLF001 - as its reader does
                await asyncio.sleep(WINDOW / _FASTER)
            return (time.process_time() - begun) / (windows * WINDOW)


def first_paint() -> str:
    """Return the first paint of the page in Chromium, if that and Playwright are installed."""
    try:
        from benchmarks._paint import measured  # noqa: PLC0415 - needs Playwright
    except ImportError:
        return "first paint: not measured, as Playwright is not installed"
    return measured()


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--day", nargs=2, metavar=("CONTESTANT", "SECONDS"))
    parser.add_argument("--view", nargs=2, metavar=("URL", "COUNT"))
    arguments = parser.parse_args()
    if arguments.day:
        run_day(arguments.day[0], int(arguments.day[1]))
        return 0
    if arguments.view:
        asyncio.run(view(arguments.view[0], int(arguments.view[1])))
        return 0
    day = 2 * HOUR if arguments.quick else DAY
    rounds = [{name: measured_day(name, day) for name in DAYS} for _ in range(1 if arguments.quick else 3)]
    found = {name: sorted((one[name] for one in rounds), key=lambda one: one["cpu"])[len(rounds) // 2] for name in DAYS}
    for name, one in found.items():
        cpu, grown, rss = one["cpu"], one["grown"], one["rss"]
        what = f"{name}, {day / HOUR:.0f} h of {len(SERIES)} series"
        print(f"{what}: {cpu:.2f} s of CPU, {rss:.0f} MB, {grown:.0f} of them new")
    for name in ("watch", "script"):
        print(f"CPU of serve beside the {name}: {found['serve']['cpu'] / found[name]['cpu']:.2f}")
    costs = {count: asyncio.run(cost_of_viewers(count, 4 if arguments.quick else 15)) for count in (0, _VIEWERS)}
    for count, share in costs.items():
        print(f"{count} viewers: {share:.3%} of a core")
    weight = sum(len(asset.body) for asset in load_assets().values())
    packed = sum(len(asset.packed or asset.body) for asset in load_assets().values())
    print(f"page: {weight / 1_000:.0f} KB, {packed / 1_000:.0f} KB compressed")
    print(first_paint())
    return 0 if costs[_VIEWERS] < _ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
