"""What a fleet loses when workers and its store fail.

`python -m benchmarks.fleet_failures [ACCOUNTS] [EXPORTS] [DAYS]` serves simulated accounts on loopback (200), each with
one watch that polls each window, and some (20) with an export of the calls of several days (3). Three workers do the
jobs, and windows go to PostgreSQL. One after the other, a worker is killed, one is stopped for 15 seconds, all are
replaced, and Redis is killed for five seconds. A line for each phase has the seconds until all jobs are held again, and
the age of the windows that were delivered in it. The last lines say what was lost, twice there, asked twice or refused.
Needs the extra `fleet`, redis-server, PostgreSQL and Linux.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import attrs
import psycopg

from agora_analytics import AnalyticsClient
from agora_analytics.errors import FleetError
from agora_analytics.fleet import FleetStatus
from agora_analytics.spans import DAY, WINDOW
from benchmarks._fleet_processes import Shape, serve, work
from benchmarks.fleet import PLAN, app_id, listens, said, started
from benchmarks.sharing import stores

_CALM: Final = 60.0
"""Seconds of a phase after all jobs are held again."""

_PATIENCE: Final = 300.0


class Run:
    """The processes of a run, and its phases."""

    def __init__(self, shape: Shape, url: str, sink: str, port: int) -> None:
        self._shape, self._url, self._sink, self._port = shape, url, sink, port
        self._store = f"redis://127.0.0.1:{port}/0"
        self._fleet = shape.fleet(url, self._store, sink)
        self._workers: dict[str, asyncio.subprocess.Process] = {}
        self._redis: asyncio.subprocess.Process | None = None
        self._names = iter(range(1, 100))
        self._began: list[tuple[float, str]] = []

    async def start_redis(self) -> None:
        """Start Redis with what is in its folder."""
        program = shutil.which("redis-server") or shutil.which("valkey-server") or "redis-server"
        options = ("--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self._shape.folder), "--save", "")
        self._redis = await asyncio.create_subprocess_exec(
            program, *options, "--appendonly", "yes", stdout=asyncio.subprocess.DEVNULL
        )
        await listens(self._port)

    async def start(self) -> str:
        """Start a worker, and return its name."""
        name = f"w{next(self._names)}"
        shape = json.dumps(attrs.asdict(self._shape), default=str)
        command = ("-m", "benchmarks.fleet_failures", "work", shape, self._url, self._store, self._sink, name)
        self._workers[name] = await asyncio.create_subprocess_exec(sys.executable, *command)
        return name

    async def stop(self, name: str) -> None:
        """End a worker as an operator does."""
        worker = self._workers.pop(name)
        worker.terminate()
        code = await asyncio.wait_for(worker.wait(), 60)
        if code:
            print(f"worker {name} ended with {code}")

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a worker."""
        self._workers[name].send_signal(number)

    async def _kill(self, name: str) -> None:
        """End a worker as a crash does."""
        worker = self._workers.pop(name)
        with suppress(ProcessLookupError):  # killed before, by a phase
            worker.kill()
        await worker.wait()

    async def kill_redis(self) -> None:
        """End Redis as a crash does."""
        if self._redis is not None:
            self._redis.kill()
            await self._redis.wait()

    async def end(self) -> None:
        """End all processes."""
        for name in list(self._workers):
            await self._kill(name)
        await self.kill_redis()

    async def held_by(self, count: int) -> float:
        """Wait until so many workers hold jobs, and each watch was held meanwhile; return how long that took.

        Between two turns nobody has a job for a moment, and among hundreds there is always one.
        """
        return await self._until_seen(lambda status: _held(status, ""), lambda status: _holders(status) == count)

    async def taken_from(self, lost: str, fail: Callable[[], object]) -> float:
        """Let a worker fail, wait until others have had each of its watches, and return how long that took."""
        before = await self._fleet.status()
        keys = {job.key for job in before.jobs if job.running and job.worker == lost and ".watch." in job.key}
        fail()
        return await self._until_seen(lambda status: _held(status, lost) | (_watches(status) - keys))

    async def _until_seen(
        self, found: Callable[[FleetStatus], set[str]], also: Callable[[FleetStatus], bool] = bool
    ) -> float:
        began, seen = time.monotonic(), set[str]()
        async with asyncio.timeout(_PATIENCE):
            while True:
                with suppress(FleetError):  # the store is about to be back
                    status = await self._fleet.status()
                    seen |= found(status)
                    if seen >= _watches(status) and also(status):
                        return time.monotonic() - began
                await asyncio.sleep(0.1)

    async def exported(self) -> None:
        """Wait until all exports are done."""
        async with asyncio.timeout(3 * _PATIENCE):
            while not all(job.done for job in (await self._fleet.status()).jobs if ".export." in job.key):  # noqa: ASYNC110
                await asyncio.sleep(2)

    async def phase(self, name: str, began: float, seconds: float, *, calm: float = _CALM) -> None:
        """Let a phase end, and print its line."""
        self._began.append((began, name))
        await asyncio.sleep(calm)
        ages = self.ages(began, time.time())
        late = statistics.quantiles(ages, n=100)[98]
        status = await self._fleet.status()
        takeovers, failures = sum(job.takeovers for job in status.jobs), sum(job.failures > 0 for job in status.jobs)
        print(
            f"{name:<28} {seconds:>6.1f} s {len(ages):>8,} {statistics.median(ages):>7.1f} s {late:>6.1f} s"
            f" {max(ages):>6.1f} s {takeovers:>10} {failures:>8}",
            flush=True,
        )

    def ages(self, start: float, end: float) -> list[float]:
        """Return the ages of the windows that were delivered within a span."""
        return [at - ts - WINDOW for _, ts, at in self.windows() if start <= at < end]

    def by_phase(self, moments: list[float]) -> str:
        """Count moments by the phase that each was in."""
        starts = [began for began, _ in self._began]
        counts = Counter(max(bisect(starts, moment) - 1, 0) for moment in moments)
        return ", ".join(f"{count} in {self._began[at][1]!r}" for at, count in sorted(counts.items())) or "none"

    def windows(self) -> list[tuple[str, int, float]]:
        """Return the job, the start and the moment of each window that was delivered to a function."""
        found = []
        for path in self._shape.folder.glob("windows-*"):
            # A worker that is killed may leave half a line.
            rows = (line.split() for line in path.read_text().splitlines(keepends=True) if line.endswith("\n"))
            found += [(key, int(ts), float(at)) for key, ts, at in rows]
        return found


def _watches(status: FleetStatus) -> set[str]:
    return {job.key for job in status.jobs if ".watch." in job.key}


def _held(status: FleetStatus, lost: str) -> set[str]:
    """Return the watches that a live worker other than `lost` is at work on."""
    held = status.held
    return {key.key for key in status.jobs if key.running and key.worker in held and key.worker != lost}


def _holders(status: FleetStatus) -> int:
    return sum(map(bool, status.held.values()))


async def _phases(run: Run) -> None:
    # One phase after the other, as the table shows them: longer than 25 lines for that.
    print("phase                        all held  windows     age    99 %  at most  takeovers  failing")
    names = [await run.start() for _ in range(3)]
    began = time.time()
    await run.phase("start", began, await run.held_by(3))
    await run.phase("nothing fails", time.time(), 0, calm=2 * _CALM)
    began = time.time()
    await run.phase("kill -9", began, await run.taken_from(names[0], lambda: run.signal(names[0], signal.SIGKILL)))
    began = time.time()
    names[0] = await run.start()
    await run.phase("another worker", began, await run.held_by(3))
    began = time.time()
    asyncio.get_running_loop().call_later(15, run.signal, names[1], signal.SIGCONT)
    took = await run.taken_from(names[1], lambda: run.signal(names[1], signal.SIGSTOP))
    await run.phase("stopped for 15 s", began, took)
    began = time.time()
    longest = 0.0
    for name in names:
        await run.start()
        await asyncio.sleep(5)
        ended = time.monotonic()
        await run.stop(name)
        await run.held_by(3)
        longest = max(longest, time.monotonic() - ended)
    await run.phase("all replaced, the longest", began, longest)
    began = time.time()
    await run.kill_redis()
    await asyncio.sleep(5)
    await run.start_redis()
    await run.phase("Redis killed for 5 s", began, await run.held_by(3))
    began = time.time()
    await run.phase("nothing fails", began, await run.held_by(3))


def _sink_report(sink: str, delivered: list[tuple[str, int, float]], shape: Shape) -> str:
    """Say what PostgreSQL has: windows of all jobs, one after the other."""
    with psycopg.connect(sink) as connection:
        rows = connection.execute("select stream, ts from agora_windows order by stream, ts").fetchall()
        gaps = connection.execute("select count(*) from agora_gaps").fetchone()
    starts: dict[str, list[int]] = {}
    for stream, ts in rows:
        starts.setdefault(stream, []).append(int(ts.timestamp()))
    missing = sum((some[-1] - some[0]) // WINDOW + 1 - len(set(some)) for some in starts.values())
    doubled = sum(len(some) - len(set(some)) for some in starts.values())
    again = sum(Counter((key, ts) for key, ts, _ in delivered).values()) - len({(key, ts) for key, ts, _ in delivered})
    return (
        f"PostgreSQL: {len(starts)} of {shape.accounts} watches, {len(rows):,} windows, {missing} missing, {doubled}"
        f" twice, {gaps[0] if gaps else 0} gaps; {again} delivered again to the function"
    )


async def _export_report(shape: Shape, url: str) -> str:
    """Compare each export with one that nothing disturbed: all accounts have the same calls."""
    calm = shape.folder / "calm"
    credentials = {"customer_id": "customer0", "customer_secret": "secret0"}
    async with AnalyticsClient(**credentials, app_id=app_id(0), plan=PLAN, base_url=url) as client:
        report = await client.export.run(shape.selection(app_id(0)), calm, format="jsonl")
    wanted = _rows(calm)
    found = [_rows(Path(shape.place.format(number))) for number in range(shape.exports)]
    right = sum(rows == wanted for rows in found)
    return f"exports: {right} of {shape.exports} have the same rows as an undisturbed one ({report.rows})"


def _rows(folder: Path) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for path in folder.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found["sid" if "sid" in row else "call", row["call_id"], row.get("sid") or ""] += 1
    return found


async def _all(accounts: int, exports: int, days: int) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        shape = Shape(accounts, exports, days, int(time.time()) // DAY * DAY, folder)
        sink = await stack.enter_async_context(stores.running("postgres", 0))
        service = await stack.enter_async_context(started("benchmarks.fleet_failures", "serve", accounts))
        url = (await said(service, asked=False)).decode().strip()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        run = Run(shape, url, sink.place, port)
        stack.push_async_callback(run.end)
        await run.start_redis()
        await _phases(run)
        print(_sink_report(sink.place, run.windows(), shape), flush=True)
        await run.exported()
        requests = json.loads(await said(service))
        again = requests.pop("again")
        print("requests:", ", ".join(f"{count:,} {name}" for name, count in sorted(requests.items())))
        print("polls asked twice:", run.by_phase(again))
        print(await _export_report(shape, url))


def _restored(text: str) -> Shape:
    fields = json.loads(text)
    return Shape(**{**fields, "folder": Path(fields["folder"])})


def main() -> None:
    """Run the phases, and print their lines."""
    kind, *rest = sys.argv[1:] or [""]
    if kind == "serve":
        asyncio.run(serve(int(rest[0])))
    elif kind == "work":
        asyncio.run(work(_restored(rest[0]), *rest[1:]))
    else:
        given = dict(enumerate(map(int, sys.argv[1:])))
        asyncio.run(_all(given.get(0, 200), given.get(1, 20), given.get(2, 3)))


if __name__ == "__main__":
    main()
