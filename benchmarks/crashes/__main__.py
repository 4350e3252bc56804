"""`python -m benchmarks.crashes [--kills 20] [--only kills,damage,disk,s3] [--service URL START END]`.

Runs exports as processes against the simulator, or against another service without rate limits (with the credentials
in the environment), and disturbs them: see the modules. The truth is the result of an undisturbed export. Prints a
table, and for each broken promise a line BROKEN; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET
from benchmarks.crashes import damage, full, kills, stores
from benchmarks.crashes.counting import counting
from benchmarks.crashes.exporter import Job, Machine
from benchmarks.crashes.rows import Truth, read

_FORMATS: Final = ("jsonl", "parquet", "sqlite", "csv", "duckdb")

_SIMULATED: Final = {
    "AGORA_CUSTOMER_ID": CUSTOMER_ID,
    "AGORA_CUSTOMER_SECRET": CUSTOMER_SECRET,
    "AGORA_APP_ID": APP_ID,
    "AGORA_PLAN": "enterprise",
}


async def _main(given: argparse.Namespace) -> int:
    begun = time.monotonic()
    broken: list[str] = []
    async with AsyncExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crashes")))
        job = await stack.enter_async_context(_job(given))
        truth = await _truth(folder / "truth", job)
        for part in given.only.split(","):
            broken += await _PARTS[part](folder / part, job, truth, given)
    print(f"{time.monotonic() - begun:.0f} s, seed {given.seed}")
    for line in broken:
        print(f"BROKEN {line}")
    return 1 if broken else 0


@asynccontextmanager
async def _job(given: argparse.Namespace) -> AsyncIterator[Job]:
    """Serve, and record the requests."""
    async with AsyncExitStack() as stack:
        if given.service:
            (url, start, end), options = given.service, {}
        else:
            (url, start, end), options = await stack.enter_async_context(_served(given.calls)), {"mids": [20001, 20003]}
            os.environ.update(_SIMULATED)
        counter = await stack.enter_async_context(counting(url))
        os.environ["AGORA_BASE_URL"] = counter.url
        yield Job(start=int(start), end=int(end), counter=counter, options=options)


@asynccontextmanager
async def _served(calls: int) -> AsyncIterator[list[str]]:
    command = (sys.executable, "-m", "benchmarks.crashes.service", str(calls))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield (await process.stdout.readline()).decode().split() if process.stdout else []
    finally:
        process.kill()
        await process.wait()


async def _truth(folder: Path, job: Job) -> Truth:
    """Return the result of an undisturbed export."""
    job.counter.begin()
    ended = await Machine(folder / "home", job).run(folder / "export", "jsonl")
    if not ended.complete:
        raise SystemExit(f"an undisturbed export: {ended.report}")
    return read(folder / "export")


async def _kills(folder: Path, job: Job, truth: Truth, given: argparse.Namespace) -> list[str]:
    """Kill exports into a folder."""
    print(kills.HEAD)
    broken = []
    for form in given.formats.split(","):
        machines = [Machine(folder / "home", job)]
        seen = await kills.Killing(form, job, kills.Folder(folder / form), machines, truth, given.seed).run(given.kills)
        print(seen.row(), flush=True)
        broken += seen.broken
    return broken


async def _damage(folder: Path, job: Job, truth: Truth, given: argparse.Namespace) -> list[str]:
    """Damage exports in a folder."""
    print(damage.HEAD)
    broken = []
    for form in given.formats.split(","):
        for finished in (True, False):
            beside = folder / f"{form} {finished}"
            results = await damage.Damaging(form, job, beside, truth, finished).run()
            print(results.row(), flush=True)
            broken += results.broken
    return broken


async def _s3(folder: Path, job: Job, truth: Truth, given: argparse.Namespace) -> list[str]:
    """Kill exports into a bucket; three machines take turns."""
    print(kills.HEAD)
    broken = []
    async with stores.bucket() as (store, options):
        for form in given.formats.split(","):
            homes = tuple(folder / form / f"machine {number}" for number in range(3))
            place = stores.Bucket(
                store, f"s3://crashes/{form}", {"sink_options": options}, folder / form / "here", homes
            )
            machines = [Machine(home, job) for home in homes]
            seen = await kills.Killing(form, job, place, machines, truth, given.seed).run(given.kills)
            print(f"s3, {seen.row()}", flush=True)
            broken += seen.broken
    return broken


async def _disk(folder: Path, job: Job, truth: Truth, given: argparse.Namespace) -> list[str]:
    """Export onto disks that are full."""
    if not full.can_mount():
        return ["no small disk can be mounted here, so full disks are not tested: --only leaves them out"]
    print(full.HEAD)
    broken = []
    for form in given.formats.split(","):
        results = await full.filled(form, job, folder / form, truth)
        print(results.row(), flush=True)
        broken += results.broken
    return broken


_PARTS: Final = {"kills": _kills, "damage": _damage, "disk": _disk, "s3": _s3}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", default=",".join(_FORMATS))
    parser.add_argument("--only", default=",".join(_PARTS))
    parser.add_argument("--folder", type=Path, help="where the exports are kept")
    parser.add_argument("--service", nargs=3, metavar=("URL", "START", "END"))
    sys.exit(asyncio.run(_main(parser.parse_args())))
