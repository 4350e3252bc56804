"""A server without rate limits, as a process: `python simulator_process.py CALLS_PER_HOUR [FAULT_RATE]`."""

from __future__ import annotations

import asyncio
import sys

from agora_analytics import Plan
from agora_analytics.simulator import Fault, Faults, Service, World
from agora_analytics.simulator.server import serve

FAULTS = tuple(map(Fault, ("reset", "status", "cut", "html")))


def plan() -> Plan:
    """The enterprise plan, without its frequencies."""
    found = Plan.of("enterprise")
    for table, limits in found.limits.items():
        found = found.with_limits(table, **{f"per_{unit}": 10**6 for unit in limits.rates})
    return found


def world(calls_per_hour: float) -> World:
    return World(seed=7, calls_per_hour=calls_per_hour, typical_minutes=0.05, long_share=0.0, large_share=0.0)


async def main(calls_per_hour: float, fault_rate: float = 0.0) -> None:
    service = Service(world(calls_per_hour), plan(), faults=Faults.chance(fault_rate, FAULTS, seed=5))
    async with serve(service) as url:
        print(url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(sum(service.counts.values()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(float, sys.argv[1:])))
