"""Counts the files that a page or a window passes: `PYTHONPATH=TREE python -P benchmarks/_ways.py page|window`.

Prints JSON: files, and changes from one file to another, until a request reaches the transport (`sent`) and until the
caller has its value (`whole`). Only Python functions of the package count, and none of the simulator.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import agora_analytics
from agora_analytics.simulator import Simulation, VirtualLoop, World

ROOT = str(Path(agora_analytics.__file__).parent)
NOON = 1_795_521_600
WARM = 5
"""Windows that are read before one is measured."""


class Walk:
    """A profile function that counts while `on` is true."""

    def __init__(self) -> None:
        self.on = False
        self.files: set[str] = set()
        self.changes = 0
        self.last = ""
        self.sent = (0, 0)

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Count one call of a function."""
        file = frame.f_code.co_filename
        if not self.on or event != "call" or not file.startswith(ROOT):
            return
        if "/simulator/" in file:
            if file.endswith("/transport.py") and frame.f_code.co_name == "send":
                self.sent = (len(self.files), self.changes)
            return
        self.files.add(file)
        if file != self.last:
            self.changes += 1
            self.last = file


def simulated(plan: str) -> Any:
    """Return a simulated service on the virtual time of the running loop."""
    loop = asyncio.get_running_loop()
    return Simulation(world=World(seed=7), plan=plan, clock=lambda: NOON + loop.time())


async def page(walk: Walk) -> None:
    """Read the first page of a search, after another that has loaded and prepared everything."""
    async with simulated("premium").client(read_ahead=False) as client:
        for measured in (False, True):
            walk.on = measured
            async for _ in client.calls.search(NOON - 7_200, NOON - 3_600, page_size=1):
                break
            walk.on = False


async def window(walk: Walk) -> None:
    """Read one more window of a watch that has delivered a few, from the request for the next."""
    async with simulated("enterprise").client() as client:
        watch = client.realtime.watch(agora_analytics.Series("userCount", product="Native"))
        for _ in range(WARM):
            await anext(watch)
        walk.on = True
        await anext(watch)
        walk.on = False
        await watch.aclose()


def main() -> None:
    """Trace the request that the command line names."""
    walk = Walk()
    loop = VirtualLoop()
    sys.setprofile(walk)
    loop.run_until_complete({"page": page, "window": window}[sys.argv[1]](walk))
    sys.setprofile(None)
    loop.close()
    print(json.dumps({"sent": walk.sent, "whole": (len(walk.files), walk.changes)}))


if __name__ == "__main__":
    main()
