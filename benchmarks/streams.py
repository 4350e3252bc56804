"""What watches cost and how fresh they are, on virtual time against the simulator in this process.

`python -m benchmarks.streams [--quick]` lets 1,000 watches (1,000 App IDs) run for a simulated day, and prints CPU time
and memory; then one watch on each plan, and how old its windows are against the best that the day's requests allow.
Exits with 1 if a watch takes more than 50 KB, or 5 % more at the end of the day than after two hours, or if windows are
more than 5 % older than necessary.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from contextlib import aclosing

import attrs

from agora_analytics import Plan, Series, Window
from agora_analytics.plans import REALTIME_USAGE
from agora_analytics.simulator import Service, Simulation, VirtualLoop, World

_MIDNIGHT = 1_795_478_400
_DAY = 86_400
_HOUR = 3_600
_USERS = Series("userCount", product="Native")
_MOST = 50_000
_OLDER = 1.05


@attrs.define
class Load:
    """What many watches took."""

    windows: int = 0
    seconds: float = 0.0
    early: float = 0.0
    late: float = 0.0


def watches(count: int) -> Load:
    """Run `count` watches for a day, and measure."""
    load = Load()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_many(count, load))
    return load


async def _many(count: int, load: Load) -> None:
    now = asyncio.get_running_loop().time
    plan = Plan.of("enterprise").with_limits("realtime", per_minute=10**6, per_day=10**7)
    # A log of one request, since it is of the simulator and would grow all day.
    service = Service(World(seed=7), plan, clock=lambda: _MIDNIGHT + 1 + now(), log_size=1, app_id=_AnyApp("all"))
    async with Simulation(service).client(plan=plan, clock=service.clock) as client:
        gc.collect()
        tracemalloc.start()

        async def watch(number: int) -> None:
            mine = client.with_app(f"app-{number}")
            # Half an hour, within which one request covers all windows: the benchmark would else be the simulator's.
            async with aclosing(mine.realtime.watch(_USERS, stop=_MIDNIGHT + _DAY, every=1_800)) as stream:
                async for event in stream:
                    load.windows += isinstance(event, Window)

        begun = time.process_time()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(watch(number))
            # By then each watch has a full buffer of windows that may be revised.
            await asyncio.sleep(2 * _HOUR + 600)
            load.early = _traced() / count
            await asyncio.sleep(21 * _HOUR)
            load.late = _traced() / count
        load.seconds = time.process_time() - begun
        tracemalloc.stop()


class _AnyApp(str):
    """An App ID that equals every other, so that the service accepts all."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return False

    __eq__, __hash__ = str.__eq__, str.__hash__


def _traced() -> float:
    """Return the bytes allocated by the library or on its behalf, without those of the simulator."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot()
    ours = snapshot.filter_traces(
        [tracemalloc.Filter(inclusive=False, filename_pattern=name) for name in ("*/simulator/*", tracemalloc.__file__)]
    )
    return float(sum(one.size for one in ours.traces))


def freshness(plan: str) -> tuple[float, float]:
    """Return the mean age of a day's windows when they are delivered, and the lowest mean that the plan allows."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_freshness(plan))


async def _freshness(plan: str) -> tuple[float, float]:
    now = asyncio.get_running_loop().time
    service = Service(World(seed=7), plan, clock=lambda: _MIDNIGHT + 1 + now())
    async with Simulation(service).client(plan=plan, clock=service.clock) as client:
        watch = client.realtime.watch(_USERS, start=_MIDNIGHT, stop=_MIDNIGHT + _DAY - 200)
        async with aclosing(watch):
            ages = [service.clock() - event.ts - 20 async for event in watch if isinstance(event, Window)]
        limits = client.plan.of_endpoint(REALTIME_USAGE)
    # The windows of a day shared out evenly: each poll finds one that has just become queryable, and those before it.
    windows = _DAY / 20 / limits.per_day
    best = limits.delay + (max(windows, 1) - 1) / 2 * 20
    return sum(ages) / len(ages), best


def main() -> int:
    """Measure and print."""
    count = 100 if "--quick" in sys.argv[1:] else 1_000
    load = watches(count)
    per = load.seconds / load.windows * 1e6
    print(f"{count:,} watches: {load.windows:,} windows, {per:.0f} us of CPU each, simulator and tracing included")
    print(
        f"memory of a watch: {load.early / 1e3:.1f} KB after two hours, {load.late / 1e3:.1f} KB at the end of the day"
    )
    good = load.late <= _MOST and load.late <= load.early * 1.05
    for plan in ("premium", "enterprise"):
        mean, best = freshness(plan)
        print(f"{plan}: windows are {mean:.1f} s old on average, {best:.1f} s at best: {mean / best:.3f} times")
        good &= mean <= _OLDER * best
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
