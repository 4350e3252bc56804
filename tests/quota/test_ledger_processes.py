"""A file ledger between processes, over loopback and in real time: together they keep the plan."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from helpers.paths import HELPERS, ROOT

from agora_analytics import FileLedger
from agora_analytics.plans import ENTERPRISE
from agora_analytics.quota import LedgerState
from agora_analytics.simulator import CUSTOMER_ID, Fault, Faults, Service
from agora_analytics.simulator.server import serve

pytestmark = [pytest.mark.process, pytest.mark.real_time]

NOON = 1_795_521_600
PER_SECOND = ENTERPRISE.rates("call_lists")["second"]
SCRIPT = HELPERS / "quota_process.py"

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
def shift() -> float:
    """What the service's clock is ahead of the host's: it begins at noon, so that no test meets midnight."""
    return NOON - time.time()


@pytest.fixture
async def service(shift: float) -> Service:
    return Service(plan="enterprise", clock=lambda: time.time() + shift)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[FileLedger]:
    ledger = FileLedger(tmp_path / "quota.db")
    await ledger.change("nobody", lambda _: None)  # it is there before the processes are
    yield ledger
    await ledger.close()


@pytest.fixture
async def start(service: Service, ledger: FileLedger, shift: float) -> AsyncIterator[Start]:
    """Start a spender: its name and how many tasks it has. None is left running."""
    started: list[Process] = []

    async def begin(url: str, name: str, tasks: int) -> Process:
        arguments = (url, ledger.path, name, tasks, shift)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", SCRIPT, *map(str, arguments)),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        started.append(process)
        return process

    async with serve(service) as url:
        yield partial(begin, url)
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def answers(process: Process) -> int:
    """End a spender and return how many answers it got."""
    out, err = await process.communicate(b"")  # nothing more: its standard input ends
    assert (process.returncode, err) == (0, b"")
    return int(out)


def asked(service: Service) -> Counter[str]:
    """How many requests of each spender the service counted."""
    return Counter(parse_qs(entry.query)["cname"][0] for entry in service.log)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 - nothing tells of other processes
            await asyncio.sleep(0.01)


async def read(ledger: FileLedger) -> LedgerState:
    return await ledger.change(sha256(CUSTOMER_ID.encode()).hexdigest()[:16], lambda state: state)


async def test_processes_keep_the_plan_together_though_one_is_killed(service, ledger, start):
    # Answers take a while, so that some are under way at any time.
    service.faults = Faults.chance(1, [Fault("slow", seconds=0.2)])
    tasks = {"killed": 4, "one": 10, "two": 10}
    killed, *others = [await start(name, tasks=count) for name, count in tasks.items()]
    await until(lambda: asked(service)["killed"] >= 5)
    killed.kill()
    await killed.wait()
    seen = asked(service)
    await until(lambda: all(asked(service)[name] >= seen[name] + 4 for name in ("one", "two")))
    got = sum([await answers(process) for process in others])
    await asyncio.sleep(0)
    assert service.refusals == {}
    counted = asked(service)["one"] + asked(service)["two"]
    assert counted - 2 * PER_SECOND <= got <= counted
    seconds = Counter(int(entry.at) for entry in service.log)
    assert max(seconds.values()) <= PER_SECOND
    async with asyncio.timeout(60):  # that one is gone is found out within half a second
        while (counter := (await read(ledger)).counter("call_lists")).in_flight:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
    # What was cancelled or killed may have been given up just before it reached the service.
    surplus = sum(counter.used_per_day.values()) - service.counts["call_lists"]
    assert 0 <= surplus <= sum(tasks.values())
