"""What a fleet costs: CPU, memory, commands and connections of Redis, and the age of windows.

`python -m benchmarks.fleet [WATCHES …] [--workers N] [--turn S] [--seconds S]` serves as many simulated accounts on
loopback, each with one watch that polls each window, lets workers watch them through a Redis of its own, and prints one
line for each number of watches (by default 100, 300 and 1,000). Turns are counted, and after the first line the same is
measured with turns a quarter as long: the difference is what a turn costs. Needs the extra `fleet`, redis-server and
Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
from aiohttp import web
from redis.asyncio import Redis

from agora_analytics import Plan, Series, Window
from agora_analytics.fleet import Account, Fleet, Secret, WatchJob
from agora_analytics.simulator import Service, World
from agora_analytics.simulator.server import _Host, _listening

PLAN = (
    Plan.of("enterprise")
    .with_limits("realtime", per_minute=600, per_day=864_000)
    .with_limits("call_details", per_second=50, per_day=864_000)
)
"""So many requests that each window is polled once it is there, and an export of a day takes seconds."""

_USERS = Series("userCount", product="Native")
_SETTLE = 45
"""Seconds after all jobs are held: the clocks of the accounts are learned in the first."""

_HELD = 0.98
"""Part of the jobs that must be held before the measurement: between two turns, nobody has a job."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Found:
    """What one setting cost, for each second of the measurement where it is a rate."""

    watches: int
    turn: float
    cpu: float
    memory: float
    commands: dict[str, float]
    redis_cpu: float
    redis_memory: float
    connections: int
    ages: list[float]
    windows: float
    warnings: int
    refused: int

    @property
    def turns(self) -> float:
        """Turns a second: docket acknowledges each once."""
        return self.commands.get("xack", 0.0)

    @property
    def total(self) -> float:
        """Commands a second."""
        return sum(self.commands.values())

    def line(self) -> str:
        """Return the line of the table."""
        late = statistics.quantiles(self.ages, n=100)[98]
        return (
            f"{self.watches:>7,} {self.turn:>4.0f} s {self.cpu:>8.1%} {1_000 * self.cpu / self.windows:>8.1f} ms"
            f" {self.memory:>8.0f} MB {self.total:>10,.0f} {self.turns:>7.1f} {self.connections:>11,}"
            f" {self.redis_cpu:>9.1%} {self.redis_memory:>7.1f} MB"
            f" {statistics.median(self.ages):>7.1f} s {late:>6.1f} s {self.warnings:>9} {self.refused:>8}"
        )


_HEAD = (
    "watches   turn      CPU  a window      memory   commands   turns connections Redis CPU     memory     age"
    "    99 %  warnings  refused"
)


class Accounts:
    """Services by customer, on one port, as the service has them."""

    def __init__(self, count: int) -> None:
        world = World(seed=7, calls_per_hour=20)
        self.services = [
            Service(world, PLAN, customer_id=f"customer{one}", customer_secret=f"secret{one}", app_id=app_id(one))
            for one in range(count)
        ]
        self._hosts = {f"customer{one}": _Host(service, 0) for one, service in enumerate(self.services)}
        self.closing = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request as the service of its customer."""
        given = base64.b64decode(request.headers.get("Authorization", "").removeprefix("Basic "))
        host = self._hosts.get(given.decode().partition(":")[0])
        return web.Response(status=401) if host is None else await host.handle(request)


def app_id(number: int) -> str:
    """Return the App ID of an account."""
    return f"{number:016x}"


def described(count: int, url: str) -> list[Account]:
    """Return so many accounts, each with one watch."""
    return [
        Account(
            name=f"a{one}",
            plan=PLAN,
            customer_id=Secret(env=f"FLEET_ID_{one}"),
            customer_secret=Secret(env=f"FLEET_SECRET_{one}"),
            base_url=url,
            jobs=[WatchJob(app_id=app_id(one), series=[_USERS])],
        )
        for one in range(count)
    ]


def _fleet(count: int, url: str, store: str, turn: float) -> Fleet:
    return Fleet(*described(count, url), store=store, turn=turn)


# The processes: a service, and workers. Each line of standard input asks for a line of output.


async def _serve(count: int) -> None:
    accounts = Accounts(count)
    async with _listening(accounts, "127.0.0.1", 0) as url:  # type: ignore[arg-type] - it handles requests
        print(url, flush=True)
        async for _ in lines():
            print(
                sum(entry.status == HTTPStatus.TOO_MANY_REQUESTS for one in accounts.services for entry in one.log),
                flush=True,
            )


async def _work(count: int, url: str, store: str, turn: float, name: str) -> None:
    ages: list[float] = []
    warnings = _Counter()
    logging.getLogger("agora_analytics").addHandler(warnings)

    async def take(_: str, event: object) -> None:
        if isinstance(event, Window):
            ages.append(time.time() - event.span.end)

    os.environ |= {f"FLEET_{kind}_{one}": f"{word}{one}" for one in range(count) for kind, word in WORDS}
    working = asyncio.create_task(_fleet(count, url, store, turn).run_worker(take, worker=name))
    async for _ in lines():
        print(json.dumps([ages, warnings.count]), flush=True)
        ages.clear()
        warnings.count = 0
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


class _Counter(logging.Handler):
    """Counts warnings: outages, and turns that failed."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.levelno >= logging.WARNING


WORDS = (("ID", "customer"), ("SECRET", "secret"))


async def lines() -> AsyncIterator[bytes]:
    """Yield the lines of standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        yield line


# The measurement.


@asynccontextmanager
async def started(module: str, *arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a module as a process that takes lines and answers them; it is killed at the end."""
    command = (sys.executable, "-m", module, *map(str, arguments))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=2**26)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def _redis(folder: str) -> AsyncIterator[tuple[str, Redis]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = shutil.which("redis-server") or shutil.which("valkey-server") or "redis-server"
    options = ("--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", "", "--appendonly", "yes")
    process = await asyncio.create_subprocess_exec(program, *options, stdout=asyncio.subprocess.DEVNULL)
    # Room for a connection of each watch and more: a full pool ends docket's loop.
    url = f"redis://127.0.0.1:{port}/0"
    try:
        await listens(port)
        async with Redis.from_url(url) as client:
            yield url, client
    finally:
        process.kill()
        await process.wait()


async def listens(port: int) -> None:
    """Wait until something listens on a port."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                return writer.close()


async def said(process: asyncio.subprocess.Process, *, asked: bool = True) -> Any:
    """Return the line that a process writes when it is sent one, or by itself."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("started without pipes")
    if asked:
        process.stdin.write(b"\n")
        await process.stdin.drain()
    return await process.stdout.readline()


def _cpu(process: asyncio.subprocess.Process) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(process: asyncio.subprocess.Process) -> float:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * _PAGE / 1e6


async def _counts(client: Redis) -> dict[str, float]:
    found = await client.info("commandstats")
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in found.items()}


async def _measure(watches: int, workers: int, turn: float, seconds: float) -> Found:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store, client = await stack.enter_async_context(_redis(folder))
        service = await stack.enter_async_context(started("benchmarks.fleet", "serve", watches))
        url = (await said(service, asked=False)).decode().strip()
        working = [
            await stack.enter_async_context(started("benchmarks.fleet", "work", watches, url, store, turn, f"w{one}"))
            for one in range(workers)
        ]
        fleet = _fleet(watches, url, store, turn)
        # What it waits for is in another process.
        while len([job for job in (await fleet.status()).jobs if job.running]) < _HELD * watches:  # noqa: ASYNC110
            await asyncio.sleep(5)
        await asyncio.sleep(_SETTLE)
        for process in working:
            await said(process)
        began, cpu, before = time.monotonic(), sum(map(_cpu, working)), await _counts(client)
        used = await client.info("cpu")
        await asyncio.sleep(seconds)
        after, now, cpu = await _counts(client), await client.info("cpu"), sum(map(_cpu, working)) - cpu
        took = time.monotonic() - began
        reports = [json.loads(await said(process)) for process in working]
        ages = [age for one, _ in reports for age in one]
        return Found(
            watches=watches,
            turn=turn,
            cpu=cpu / took,
            memory=sum(map(_memory, working)),
            # One script runs several commands, which cost what they cost, but only the script is a round trip.
            commands={name: (count - before.get(name, 0)) / took for name, count in after.items()},
            redis_cpu=sum(now[key] - used[key] for key in ("used_cpu_user", "used_cpu_sys")) / took,
            redis_memory=(await client.info("memory"))["used_memory"] / 1e6,
            connections=(await client.info("clients"))["connected_clients"],
            ages=ages,
            windows=len(ages) / took,
            warnings=sum(count for _, count in reports),
            refused=int(await said(service)),
        )


async def _all(watches: list[int], workers: int, turn: float, seconds: float) -> None:
    print(f"{workers} worker{'s' * (workers > 1)}, {seconds:.0f} s each\n{_HEAD}")
    for count in watches:
        found = await _measure(count, workers, turn, seconds)
        print(found.line(), flush=True)
        top = sorted(found.commands.items(), key=lambda one: -one[1])[:14]
        print("       ", ", ".join(f"{name} {rate:,.1f}" for name, rate in top), flush=True)
        if count == watches[0]:
            short = await _measure(count, workers, turn / 4, seconds)
            print(short.line(), flush=True)
            turns = short.turns - found.turns
            cost, commands = 1_000 * (short.cpu - found.cpu) / turns, (short.total - found.total) / turns
            print(f"a turn costs {cost:.1f} ms of CPU and {commands:.0f} commands", flush=True)


def main() -> None:
    """Measure each number of watches and print its line."""
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(_serve(int(sys.argv[2])))
    elif sys.argv[1:2] == ["work"]:
        count, url, store, turn, name = sys.argv[2:]
        asyncio.run(_work(int(count), url, store, float(turn), name))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("watches", nargs="*", type=int, default=[100, 300, 1_000])
        parser.add_argument("--workers", type=int, default=1)
        parser.add_argument("--turn", type=float, default=60)
        parser.add_argument("--seconds", type=float, default=120)
        given = parser.parse_args()
        asyncio.run(_all(given.watches, given.workers, given.turn, given.seconds))


if __name__ == "__main__":
    main()
