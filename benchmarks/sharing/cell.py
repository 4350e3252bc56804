"""One cell of the table: so many processes share a store that is so far away, and one of them is killed."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from typing import Final

import attrs

from agora_analytics.simulator import CUSTOMER_ID, Service, World
from agora_analytics.simulator.server import serve
from benchmarks.sharing.spender import PERSON, Counts, ledger_in, plan_of
from benchmarks.sharing.stores import Running, machine_cpu, running

_NOON: Final = 1_795_521_600
_WORLD: Final = World(seed=7)
_LEAST_FAR: Final = 0.98
_LEAST: Final = 0.99
_FAR: Final = 0.01
_MANY: Final = 8
_SECOND: Final = plan_of(0).rates("call_lists")["second"]


@attrs.frozen
class Cell:
    """What is measured: a store, `processes` that share it, and the seconds of a round trip that are added.

    With `person`, they export, and one more process sends an interactive request now and then.
    """

    store: str
    processes: int
    round_trip: float
    per_day: int = 0
    person: bool = False

    @property
    def least(self) -> float | None:
        """The share of the plan that must be used; None where no target is set."""
        if self.round_trip < _FAR:
            return _LEAST
        return _LEAST_FAR if self.processes <= _MANY else None

    @property
    def at_once(self) -> int:
        """How many permits a process takes with one change at most, and loses if it is killed then."""
        return _SECOND


@attrs.frozen
class Found:
    """The share of the plan that was used, refusals, and permits that the ledger counted and the service did not.

    `counts` is the sum over the processes that lived; `least` the requests of the one that sent least, in parts of an
    equal share; `store_cpu` the seconds of CPU of the store, `idle` the part of the machine's CPU that nobody used.
    `short` are the seconds, from that of the kill on, in which fewer requests were accepted than the plan allows.
    """

    used: float
    refused: int
    lost: int
    counts: Counts
    least: float
    store_cpu: float
    idle: float
    short: dict[int, int]

    def meets(self, cell: Cell) -> bool:
        """Whether the targets are met."""
        return self.used >= (cell.least or 0.0) and not self.refused and self.lost <= cell.at_once


async def measure(cell: Cell, *, warm: float, seconds: float) -> Found:
    """Let processes send requests for a while, kill one halfway, and compare both counts."""
    shift = _NOON - time.time()
    service = Service(_WORLD, plan_of(cell.per_day), clock=lambda: time.time() + shift)
    async with running(cell.store, cell.round_trip) as store, serve(service) as url, AsyncExitStack() as stack:
        arguments = (cell.store, store.place, url, str(cell.per_day), str(shift))
        priorities = ["export"] * cell.processes + [PERSON] if cell.person else ["interactive"] * cell.processes
        processes = [await stack.enter_async_context(_spending((one, *arguments))) for one in priorities]
        for process in processes:
            await _reader(process).readline()
        await asyncio.sleep(warm)
        for process in processes:
            _writer(process).write(b"\n")
        begun, cpu, before = service.clock(), store.cpu(), machine_cpu()
        await asyncio.sleep(seconds / 2)
        killed = service.clock()
        processes[0].kill()
        await asyncio.sleep(seconds / 2)
        over, cpu, after = service.clock(), store.cpu() - cpu, machine_cpu()
        # By the end of their input, so that they store what they counted; the killed one could not.
        for process in processes[1:]:
            _writer(process).close()
        counts = [await _counts(process) for process in processes[1:]]
        lost = await _counted(cell.store, store) - service.counts["call_lists"]
    refused = sum(service.refusals.values())
    # Whole seconds of the service: a part of one says nothing about its limit.
    first, last = int(begun) + 1, int(over)
    accepted = Counter(int(entry.at) for entry in service.log if not entry.refused)
    by_second = {at - int(killed): accepted[at] for at in range(first, last)}
    used = sum(by_second.values()) / ((last - first) * _SECOND)
    if cell.per_day:
        used = service.counts["call_lists"] / cell.per_day
    total = _sum(counts)
    spenders = [one for one in counts if not one.waits]
    least = min(one.requests for one in spenders) * len(spenders) / max(1, sum(one.requests for one in spenders))
    short = {second: count for second, count in by_second.items() if count < _SECOND}
    return Found(used, refused, lost, total, least, cpu, (after[0] - before[0]) / (after[1] - before[1]), short)


def _sum(counts: list[Counts]) -> Counts:
    total = Counts(cpu=0.0)
    for one in counts:
        for name, value in attrs.asdict(one).items():
            setattr(total, name, getattr(total, name) + value)
    return total


@asynccontextmanager
async def _spending(arguments: tuple[str, ...]) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-m", "benchmarks.sharing.spender", *arguments)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _counts(process: asyncio.subprocess.Process) -> Counts:
    counted = await _reader(process).read()
    await process.wait()
    return Counts(**json.loads(counted))


def _reader(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise LookupError("no pipe")
    return process.stdout


def _writer(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    if process.stdin is None:
        raise LookupError("no pipe")
    return process.stdin


async def _counted(name: str, store: Running) -> int:
    """Return how many requests the ledger counted."""
    ledger = ledger_in(name, store.place)
    account = sha256(CUSTOMER_ID.encode()).hexdigest()[:16]
    days = await ledger.change(account, lambda state: state.counter("call_lists").used_per_day)
    await ledger.close()
    # Before the service's clock was known, the day by the store's clock was charged too, which is another one here.
    return days[_NOON // 86_400]
