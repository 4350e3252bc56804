"""A poller as the guide on failover has it: `failover_process.py URL PREFIX LEASE PAUSE WINDOWS`.

It prints each of so many windows and waits so many seconds after it; while another process polls, it prints why, and
looks again. At the end of the windows it prints `done`.
"""

from __future__ import annotations

import asyncio
import sys

from helpers.times import NOON

from agora_analytics import AnalyticsClient, CheckpointError, Series
from agora_analytics.simulator import Simulation, World
from agora_analytics.streams import PostgresCheckpoints, RedisCheckpoints

USERS = Series("userCount", product="Native")
LAST = NOON


async def poll(client: AnalyticsClient, pause: float, first: int) -> None:
    async with client.realtime.watch(USERS, start=first, stop=LAST, revisions=False, checkpoint="prod") as watch:
        async for event in watch:
            print(event.ts, flush=True)
            await asyncio.sleep(pause)


async def main(url: str, prefix: str, lease: float, pause: float, windows: float) -> None:
    simulation = Simulation(world=World(seed=7, calls_per_hour=20), plan="enterprise", clock=NOON + 60)
    if url.startswith("redis"):
        checkpoints: RedisCheckpoints | PostgresCheckpoints = RedisCheckpoints(url, prefix=prefix, lease=lease)
    else:
        checkpoints = PostgresCheckpoints(url, table=prefix, lease=lease)
    async with checkpoints, simulation.client(checkpoints=checkpoints) as client:
        while True:
            try:
                await poll(client, pause, int(LAST - 20 * windows))
            except CheckpointError as error:
                print(error.kind, flush=True)
                if error.kind not in {"store", "in_use", "taken_over"}:
                    raise
            else:
                print("done", flush=True)
                return
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])))
