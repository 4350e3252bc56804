"""A worker of a fleet as a process of its own: `python -m helpers.fleet_process STORE URL ACCOUNTS NAME TURN`.

The clock of its host is fast by FLEET_CLOCK seconds. Its events go to PostgreSQL if FLEET_SINK_URL is set. Each is also
a line of standard output: the key of the job, the kind of event, its start, and when it was written.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta

import docket
from helpers.fleet_service import SINK, described

from agora_analytics import Window
from agora_analytics.fleet import Fleet


async def work(store: str, url: str, accounts: int, name: str, turn: float) -> None:
    async def show(key: str, event: object) -> None:
        start = event.ts if isinstance(event, Window) else getattr(getattr(event, "span", None), "start", 0)
        print(key, type(event).__name__, start, f"{time.time():.3f}", flush=True)

    fleet = Fleet(*described(accounts, url), store=store, sink=SINK, turn=turn)
    running = asyncio.ensure_future(fleet.run_worker(show, worker=name))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


def set_clock(fast: float) -> None:
    right = time.time
    time.time = lambda: right() + fast

    class Now(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=fast)

    for name, module in list(sys.modules.items()):
        if name.startswith(docket.__name__) and getattr(module, "datetime", None) is datetime:
            module.datetime = Now


if __name__ == "__main__":
    set_clock(float(os.environ.get("FLEET_CLOCK", "0")))
    logging.basicConfig(level=logging.WARNING)
    store, url, accounts, name, turn = sys.argv[1:]
    asyncio.run(work(store, url, int(accounts), name, float(turn)))
