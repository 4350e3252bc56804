"""A process that writes 150 windows to a `PostgresSink`: `sink_process.py URL PREFIX PAUSE`.

It waits so many seconds after each window, and prints the window. At its end it prints the kind of the error, or
`done`.
"""

from __future__ import annotations

import asyncio
import sys

from helpers.times import NOON

from agora_analytics import CheckpointError, Series
from agora_analytics.simulator import Simulation, World
from agora_analytics.streams import PostgresSink

USERS = Series("userCount", product="Native")
FIRST, LAST = NOON - 3_000, NOON


async def write(url: str, prefix: str, pause: float) -> None:
    simulation = Simulation(world=World(seed=7, calls_per_hour=20), plan="enterprise", clock=NOON + 60)
    async with (
        PostgresSink(url, "prod", prefix=prefix) as sink,
        simulation.client() as client,
        client.realtime.watch(USERS, start=FIRST, stop=LAST, revisions=False, checkpoint=sink) as watch,
    ):
        async for event in watch:
            await sink.write(event, watch.checkpoint)
            print(event.ts, flush=True)
            await asyncio.sleep(pause)


if __name__ == "__main__":
    try:
        asyncio.run(write(sys.argv[1], sys.argv[2], float(sys.argv[3])))
    except CheckpointError as error:
        print(error.kind, flush=True)
    else:
        print("done", flush=True)
