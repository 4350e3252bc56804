"""A simulated service without rate limits, in a process of its own: `python -m benchmarks.crashes.service CALLS`.

Prints its URL, and the start and end (UTC seconds) of a span with about that many calls.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from agora_analytics.simulator import Service, World
from agora_analytics.simulator.server import serve
from benchmarks._canned import plan

_DAY: Final = 86_400
_END: Final = 16 * 3_600
"""Seconds into yesterday (UTC) at which the span ends: a world is busier at some hours than at others."""

_WORLD: Final = World(seed=7, calls_per_hour=600, typical_minutes=0.3, long_share=0.0, large_share=0.0)


async def _main(calls: int) -> None:
    end = (int(time.time()) // _DAY - 1) * _DAY + _END
    start = _WORLD.calls(end - _DAY, end)[-calls].created
    async with serve(Service(_WORLD, plan())) as url:
        print(url, start, end, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
