"""Processes that share a file ledger, over loopback and in real time: together they stay within the plan."""

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
    """Seconds by which the service's clock is ahead of the host's: it starts at noon, far from midnight."""
    return NOON - time.time()


@pytest.fixture
async def service(shift: float) -> Service:
    return Service(plan="enterprise", clock=lambda: time.time() + shift)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[FileLedger]:
    ledger = FileLedger(tmp_path / "quota.db")
    await ledger.change("other", lambda _: None)  # create the file before the processes start
    yield ledger
    await ledger.close()


@pytest.fixture
async def start(service: Service, ledger: FileLedger, shift: float) -> AsyncIterator[Start]:
    """Start a process that sends requests, given a name and a number of tasks; all are killed at the end."""
    started: list[Process] = []

    async def start_process(url: str, name: str, tasks: int) -> Process:
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
        yield partial(start_process, url)
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def stop(process: Process) -> int:
    """Stop a process and return how many responses it received."""
    out, err = await process.communicate(b"")  # closes its standard input
    assert (process.returncode, err) == (0, b"")
    return int(out)


def requests_by_name(service: Service) -> Counter[str]:
    """Return how many requests of each process the service received."""
    return Counter(parse_qs(entry.query)["cname"][0] for entry in service.log)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - no event comes from other processes
            await asyncio.sleep(0.01)


async def account_state(ledger: FileLedger) -> LedgerState:
    return await ledger.change(sha256(CUSTOMER_ID.encode()).hexdigest()[:16], lambda state: state)


@pytest.mark.slow
async def test_processes_that_share_a_ledger_stay_within_the_plan_when_one_is_killed(service, ledger, start):
    # Responses are slow, so that some requests are in flight at any time.
    service.faults = Faults.chance(1, [Fault("slow", seconds=0.2)])
    tasks = {"killed": 4, "one": 10, "two": 10}
    killed, *others = [await start(name, tasks=count) for name, count in tasks.items()]
    await wait_until(lambda: requests_by_name(service)["killed"] >= 5)
    killed.kill()
    await killed.wait()
    before = requests_by_name(service)
    await wait_until(lambda: all(requests_by_name(service)[name] >= before[name] + 4 for name in ("one", "two")))
    received = sum([await stop(process) for process in others])
    await asyncio.sleep(0)
    assert service.refusals == {}
    sent = requests_by_name(service)["one"] + requests_by_name(service)["two"]
    assert sent - 2 * PER_SECOND <= received <= sent
    seconds = Counter(int(entry.at) for entry in service.log)
    assert max(seconds.values()) <= PER_SECOND
    async with asyncio.timeout(60):  # a crashed process is detected within half a second
        while (counter := (await account_state(ledger)).counter("call_lists")).in_flight:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.05)
    # A request that was cancelled or killed may have been abandoned just before it reached the service.
    surplus = sum(counter.used_per_day.values()) - service.counts["call_lists"]
    assert 0 <= surplus <= sum(tasks.values())
