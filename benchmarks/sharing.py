"""How much of a plan several processes use that share a `FileLedger`, one of which is killed halfway.

`python -m benchmarks.sharing [--quick]` serves the simulator on loopback, lets two and then eight processes send all
requests that they may, kills one with `kill -9`, and prints what the service counted: the share of the plan that was
used after the first ten seconds, refusals, and permits of the day that were lost. Exits with 1 if less than 95 % was
used, any request was refused, or more permits were lost than a process takes at once.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path

import attrs

from agora_analytics import AnalyticsClient, FileLedger, Plan
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service, World
from agora_analytics.simulator.server import serve

_NOON = 1_795_521_600
_TASKS = 10
_WARM = 10
_LEAST = 0.95
_WORLD = World(seed=7)


@attrs.frozen
class Found:
    """Share of the plan that was used, refusals, and permits that the ledger counted and the service did not."""

    used: float
    refused: int
    lost: int
    at_once: int

    @property
    def good(self) -> bool:
        """Whether it meets the target."""
        return self.used >= _LEAST and not self.refused and self.lost <= self.at_once


async def _measure(processes: int, seconds: int, per_day: int | None = None) -> Found:
    """Let processes send requests for a while, kill the first halfway, and compare both counts."""
    shift = _NOON - time.time()
    plan = _plan(per_day)
    service = Service(_WORLD, plan, clock=lambda: time.time() + shift)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "quota.db")
        async with serve(service) as url, AsyncExitStack() as stack:
            arguments = (url, str(path), str(per_day or 0), str(shift))
            started = [await stack.enter_async_context(_spending(arguments)) for _ in range(processes)]
            begun = service.clock()
            await asyncio.sleep(seconds / 2)
            started[0].kill()
            await asyncio.sleep(seconds / 2)
            over = service.clock()
            # By the end of their input, so that they store what they counted; the killed one could not.
            for process in started[1:]:
                _stop(process)
                await process.wait()
        counted = await _counted(path)
    seen = service.counts["call_lists"]
    # Of a process that is killed: the permits that it took with its last change.
    at_once = -(-plan.rates("call_lists")["second"] // processes)
    if per_day:
        return Found(seen / per_day, sum(service.refusals.values()), counted - seen, at_once)
    # Whole seconds of the service: a part of one says nothing about its limit.
    first, last = int(begun) + 1 + _WARM, int(over)
    accepted = sum(first <= entry.at < last and not entry.refused for entry in service.log)
    allowed = (last - first) * (plan.rates("call_lists")["second"])
    return Found(accepted / allowed, sum(service.refusals.values()), counted - seen, at_once)


@asynccontextmanager
async def _spending(arguments: tuple[str, ...]) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-m", "benchmarks.sharing", "spend", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()


async def _counted(path: Path) -> int:
    """Return how many requests the ledger counted."""
    ledger = FileLedger(path)
    account = sha256(CUSTOMER_ID.encode()).hexdigest()[:16]
    days = await ledger.change(account, lambda state: state.counter("call_lists").used_per_day)
    await ledger.close()
    return sum(days.values())


def _plan(per_day: int | None) -> Plan:
    plan = Plan.of("enterprise")
    return plan.with_limits("call_lists", per_day=per_day) if per_day else plan


async def _spend(url: str, path: str, per_day: int, shift: float) -> None:
    """Send all requests that the quota allows until standard input ends."""
    async with AnalyticsClient(
        CUSTOMER_ID,
        CUSTOMER_SECRET,
        app_id=APP_ID,
        plan=_plan(per_day),
        base_url=url,
        ledger=(ledger := FileLedger(path)),
        max_wait=None,
        clock=lambda: time.time() + shift,
    ) as client:
        span = client.calls.recent(60)

        async def ask() -> None:
            while True:
                await client.calls.page(*span, page_size=1)

        tasks = [asyncio.create_task(ask()) for _ in range(_TASKS)]
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await ledger.close()


def main() -> int:
    """Measure everything and print it."""
    if sys.argv[1:2] == ["spend"]:
        url, path, per_day, shift = sys.argv[2:]
        asyncio.run(_spend(url, path, int(per_day), float(shift)))
        return 0
    seconds = 24 if "--quick" in sys.argv[1:] else 60
    good = True
    for processes in (2, 8):
        for per_day in (None, 100):
            found = asyncio.run(_measure(processes, seconds if per_day is None else 24, per_day))
            of = f"{per_day} a day" if per_day else "10 a second"
            print(f"{processes} processes, {of}: {found.used:.2%}, {found.refused} refused, {found.lost} lost")
            good &= found.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
