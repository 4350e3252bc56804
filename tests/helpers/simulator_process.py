"""A process that serves a simulator without rate limits: `python simulator_process.py CALLS_PER_HOUR [FAULT_RATE]`.

It prints its URL, runs until its standard input is closed, and then prints the number of requests that it answered.
"""

from __future__ import annotations

import asyncio
import sys

from agora_analytics import Plan
from agora_analytics.simulator import Fault, Faults, Service, World
from agora_analytics.simulator.server import serve

FAULTS = tuple(map(Fault, ("reset", "status", "cut", "html")))


def plan() -> Plan:
    """Return the enterprise plan with rate limits that are never reached."""
    unlimited = Plan.of("enterprise")
    for table, limits in unlimited.limits.items():
        unlimited = unlimited.with_limits(table, **{f"per_{unit}": 10**6 for unit in limits.rates})
    return unlimited


def world(calls_per_hour: float) -> World:
    """Return a world of short and small calls."""
    return World(seed=7, calls_per_hour=calls_per_hour, typical_minutes=0.05, long_share=0.0, large_share=0.0)


async def main(calls_per_hour: float, fault_rate: float = 0.0) -> None:
    service = Service(world(calls_per_hour), plan(), faults=Faults.chance(fault_rate, FAULTS, seed=5))
    async with serve(service) as url:
        print(url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(sum(service.counts.values()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(float, sys.argv[1:])))
