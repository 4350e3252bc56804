"""What a permit costs: alone, and with ten or ten thousand waiting; and one real minute of a plan over loopback."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from functools import partial

from agora_analytics import AnalyticsClient, MemoryLedger, Plan
from agora_analytics.plans import CALL_LISTS
from agora_analytics.quota import Priority
from agora_analytics.quota.limiters import Limiters
from agora_analytics.simulator import Service, VirtualLoop, World
from agora_analytics.simulator.server import serve
from benchmarks._measure import Row, compare, cpu, interleaved

_TOKENS = 10_000
# Three percent of the CPU time that a request takes with aiohttp.
_MOST = 5e-6


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure permits without waiting, against the time allowed, and two lengths of the wait queue."""
    rounds = 3 if quick else 15
    alone = interleaved({"alone": lambda: asyncio.run(_alone())}, rounds)["alone"]
    yield compare("acquire, uncontended", alone, "the time allowed", [_MOST] * rounds, target=1.0)
    lines = {str(size): partial(_drained, size) for size in (10, _TOKENS)}
    found = interleaved(lines, rounds)
    yield compare("a token, 10,000 waiting", found[str(_TOKENS)], "10 waiting", found["10"], target=1.2)


async def _alone() -> float:
    """Return the CPU seconds of acquiring a permit while no other request waits."""
    limiter = _limiters(10**9).limiter(CALL_LISTS)
    if limiter is None:
        raise LookupError("the plan counts no call lists")
    begun = time.process_time()
    for _ in range(_TOKENS):
        await limiter.acquire(Priority.INTERACTIVE, 120.0)
    return (time.process_time() - begun) / _TOKENS


def _drained(waiting: int) -> float:
    """Return the CPU seconds per permit with so many waiting, ten permits a second, on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return cpu(lambda: runner.run(_drain(waiting))) / _TOKENS


async def _drain(waiting: int) -> None:
    limiters = _limiters(10)

    async def spend() -> None:
        async with limiters.permit(CALL_LISTS) as token:
            token.answered(None)

    # New tasks for every permit in both: creating them is no cost of the wait queue.
    for _ in range(_TOKENS // waiting):
        await asyncio.gather(*(spend() for _ in range(waiting)))


def _limiters(limit: int) -> Limiters:
    plan = Plan.of("enterprise").with_limits("call_lists", per_second=limit, per_day=10**9)
    return Limiters(plan, MemoryLedger(), account="a", clock=time.time)


async def _minute() -> int:
    """Send ten requests a second over loopback for a real minute, print the result, and return the exit code."""
    service = Service(World(seed=7), "enterprise")
    async with serve(service) as url:
        client = AnalyticsClient(
            service.customer_id,
            service.customer_secret,
            app_id=service.app_id,
            plan="enterprise",
            base_url=url,
            max_wait=None,
        )
        async with client:
            span = client.calls.recent(60)

            async def ask() -> None:
                while True:
                    await client.calls.page(*span, page_size=1)

            tasks = [asyncio.create_task(ask()) for _ in range(30)]
            # Ten seconds in which the clock is learned, a minute, and the rest of a second: whole seconds are counted.
            await asyncio.sleep(71 + 1 - time.time() % 1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    last = int(service.log[-1].at)
    accepted = sum(last - 60 <= entry.at < last and not entry.refused for entry in service.log)
    refused = sum(service.refusals.values())
    print(f"one minute over loopback, after ten seconds: {accepted / 600:.2%} of the plan, {refused} refused")
    return 0 if accepted >= 0.97 * 600 and not refused else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(_minute()))
