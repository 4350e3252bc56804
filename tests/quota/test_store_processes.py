"""Processes of hosts with other clocks that share a store: killed, stopped, and without their store for a while."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from helpers.paths import HELPERS, ROOT
from helpers.postgres_server import PostgresServer
from helpers.redis_server import RedisServer

from agora_analytics.errors import LedgerError
from agora_analytics.plans import ENTERPRISE
from agora_analytics.quota import PostgresLedger, RedisLedger
from agora_analytics.quota.bucket import WindowCounter
from agora_analytics.simulator import CUSTOMER_ID, Fault, Faults, Service
from agora_analytics.simulator.server import serve

pytestmark = [pytest.mark.process, pytest.mark.real_time]

HALF_AN_HOUR = 1_800
PER_SECOND = ENTERPRISE.rates("call_lists")["second"]
LEASE = 3.0
TASKS = 6

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
def shift() -> float:
    """Seconds by which the service's clock is ahead of the store's: half an hour if it is near midnight there."""
    return 0.0 if HALF_AN_HOUR < time.time() % 86_400 < 86_400 - HALF_AN_HOUR else HALF_AN_HOUR + 300.0


@pytest.fixture
async def service(shift: float) -> Service:
    # Responses are slow, so that some requests are in flight at any time.
    return Service(
        plan="enterprise", clock=lambda: time.time() + shift, faults=Faults.chance(1, [Fault("slow", seconds=0.1)])
    )


@pytest.fixture(params=["redis", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer | PostgresServer]:
    with RedisServer(tmp_path) if request.param == "redis" else PostgresServer() as server:
        yield server


@pytest.fixture
async def start(service: Service, server: RedisServer | PostgresServer, shift: float) -> AsyncIterator[Start]:
    """Start a process that sends requests, given its name; all are killed at the end."""
    started: list[Process] = []

    async def start_process(name: str, **environment: object) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-W",
                "error",
                HELPERS / "quota_process.py",
                url,
                server.url,
                name,
                str(TASKS),
                str(shift),
            ),
            env=os.environ | {"PYTHONPATH": str(ROOT)} | {key: str(value) for key, value in environment.items()},
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        started.append(process)
        return process

    async with serve(service) as url:
        yield start_process
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def finish(processes: list[Process]) -> None:
    """Let processes end, and check that none of them has raised; each may have logged what the store has lost."""
    for process in processes:
        _, err = await process.communicate(b"")  # closes its standard input
        expected = (b"made again", b"not yet in the ledger")
        unexpected = [line for line in err.splitlines() if not any(text in line for text in expected)]
        assert (process.returncode, unexpected) == (0, [])


def sent_by(service: Service) -> Counter[str]:
    return Counter(parse_qs(entry.query)["cname"][0] for entry in service.log)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - no event comes from other processes
            await asyncio.sleep(0.01)


async def each_sends(service: Service, names: list[str], more: int = 3) -> None:
    """Wait until each process has sent so many more requests."""
    before = sent_by(service)
    await wait_until(lambda: all(sent_by(service)[name] >= before[name] + more for name in names))


async def nothing_is_sent(service: Service, seconds: float = 1.0) -> None:
    """Wait until nothing has come for a second: first, on a busy machine, what had its permit."""
    async with asyncio.timeout(30):
        sent = -1
        while sent != len(service.log):
            sent = len(service.log)
            await asyncio.sleep(seconds)


def check(service: Service) -> None:
    """Check that the service refused nothing, and counted no more than the plan allows in any second."""
    assert service.refusals == {}
    assert max(Counter(int(entry.at) for entry in service.log).values()) <= PER_SECOND


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 8])
async def test_processes_share_the_limit_while_one_is_killed_one_is_stopped_and_the_store_is_lost(
    service, server, start, count
):
    names = [f"process-{number}" for number in range(count)]
    processes = [await start(name, MONOTONIC_AHEAD=5_000 * number) for number, name in enumerate(names)]
    await each_sends(service, names)
    killed, stopped, *_ = processes
    killed.kill()
    await killed.wait()
    stopped.send_signal(signal.SIGSTOP)
    until = time.monotonic() + LEASE + 1.5
    await each_sends(service, names[2:])
    await wait_until(lambda: time.monotonic() > until)
    stopped.send_signal(signal.SIGCONT)
    await each_sends(service, names[1:])
    server.kill()
    await nothing_is_sent(service)
    await asyncio.to_thread(server.start)
    await each_sends(service, names[1:])
    await finish(processes[1:])
    check(service)
    await check_account(service, server)


@asynccontextmanager
async def counter_in(server: RedisServer | PostgresServer) -> AsyncIterator[Callable[[], Awaitable[WindowCounter]]]:
    """Return a function that reads the counter of the account from the store."""
    kind = RedisLedger if isinstance(server, RedisServer) else PostgresLedger
    async with kind(server.url) as ledger:
        account = sha256(CUSTOMER_ID.encode()).hexdigest()[:16]

        async def counter() -> WindowCounter:
            while True:
                with suppress(LedgerError):  # on a machine that is busy
                    return await ledger.change(account, lambda state: state.counter("call_lists"))

        yield counter


async def check_account(service: Service, server: RedisServer | PostgresServer) -> None:
    """Check that nothing stays in flight, and that the day has as many requests as the service has counted."""
    async with counter_in(server) as counter:
        async with asyncio.timeout(30):  # the lease of the process that was killed has ended long ago
            while (await counter()).in_flight:  # noqa: ASYNC110 - no event comes from other processes
                await asyncio.sleep(0.1)
        surplus = sum((await counter()).used_per_day.values()) - service.counts["call_lists"]
    # What was in flight of the killed and the stopped process may never have reached the service; what the store forgot
    # in its crash is restored by the others.
    assert 0 <= surplus <= 4 * TASKS


@pytest.mark.slow
async def test_a_process_that_was_stopped_with_a_permit_in_its_hand_does_not_use_it_later(service, server, start):
    service.faults = Faults()
    stopping, other = await start("stopping", STOP_AFTER=5), await start("other")
    async with asyncio.timeout(60), counter_in(server) as counter:
        assert await stopping.stdout.readline() == b"stopping\n"
        # After the lease and half a second the permit is reclaimed, and the other process can use each second whole.
        in_hand = set((await counter()).in_flight)
        while in_hand:
            await asyncio.sleep(0.1)
            in_hand &= set((await counter()).in_flight)
    stopping.send_signal(signal.SIGCONT)
    await each_sends(service, ["stopping", "other"])
    await finish([stopping, other])
    check(service)
