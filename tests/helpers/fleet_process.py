"""A worker of a fleet as a process of its own: `python -m helpers.fleet_process STORE URL ACCOUNTS FILE NAME TURN`.

Each event is a line of the file: the worker, the key of the job, the kind of event, its start, and when it came.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from contextlib import suppress

from helpers.fleet_service import described

from agora_analytics import Window
from agora_analytics.fleet import Fleet


async def work(store: str, url: str, accounts: int, path: str, name: str, turn: float) -> None:
    with open(path, "a", buffering=1, encoding="utf-8") as file:

        async def write(key: str, event: object) -> None:
            start = event.ts if isinstance(event, Window) else getattr(getattr(event, "span", None), "start", 0)
            file.write(f"{name} {key} {type(event).__name__} {start} {time.time():.3f}\n")

        fleet = Fleet(*described(accounts, url), store=store, turn=turn)
        task = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await fleet.run_worker(write, worker=name)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    store, url, accounts, path, name, turn = sys.argv[1:]
    with suppress(asyncio.CancelledError):
        asyncio.run(work(store, url, int(accounts), path, name, float(turn)))
