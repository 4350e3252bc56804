"""What an export costs: rows a second and peak memory, beside dlt's REST API source and a bare aiohttp script.

`python -m benchmarks.exports [--quick] [--rounds N]`. Each contestant is a process of its own, the simulated service
another, which caches its responses, so that the exporter is what is measured. `--rate` shows instead what share of a
plan's rate an export uses, on virtual time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from statistics import median
from typing import Final

import attrs

from agora_analytics import Plan, Selection
from agora_analytics.export.formats import NAMES
from agora_analytics.simulator import Service, Simulation, VirtualLoop, World

_MEGABYTE: Final = 2**20
_GROWTH: Final = 20
# The targets that README.md gives: megabytes more for a hundred times the rows, times as fast, share of a rate.
_TIMES_DLT: Final = 5.0
_OF_RATE: Final = 0.97
_NOON: Final = 1_795_521_600
_DAY: Final = 86_400
_END: Final = 16 * 3_600
"""Seconds into yesterday (UTC) at which a job's span ends: a world is busier at some hours than at others."""


@attrs.frozen(kw_only=True)
class Job:
    """What is exported: calls, sessions and perhaps metrics of some minutes of a world."""

    name: str
    world: tuple[str, str, str]
    minutes: float
    datasets: tuple[str, ...]


_SMALL: Final = Job(
    name="10,000 points", world=("240", "0.3", "0"), minutes=1, datasets=("calls", "sessions", "metrics")
)
_LARGE: Final = attrs.evolve(_SMALL, name="1,000,000 points", minutes=120)
_SESSIONS: Final = Job(name="100,000 sessions", world=("600", "0.2", "1"), minutes=35, datasets=("calls", "sessions"))


@attrs.frozen(kw_only=True)
class Done:
    """What one process did."""

    seconds: float
    rows: int
    peak: int

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


@contextmanager
def _serving(job: Job) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks._canned", *job.world]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own
        try:
            port = server.stdout.readline() if server.stdout else ""
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            server.kill()


def _run(who: str, form: str, job: Job, url: str, end: int) -> Done:
    with tempfile.TemporaryDirectory() as folder:
        arguments = {
            "who": who,
            "format": form,
            "url": url,
            "folder": f"{folder}/export",
            "start": end - int(job.minutes * 60),
            "end": end,
            "datasets": job.datasets,
        }
        command = [sys.executable, "-m", "benchmarks._contestants", json.dumps(arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        if done.returncode:
            raise SystemExit(f"{who} {form} {job.name}: {done.stderr[-2_000:]}")
        return Done(**json.loads(done.stdout.splitlines()[-1]))


def _measure(job: Job, contestants: list[tuple[str, str]], rounds: int) -> dict[tuple[str, str], list[Done]]:
    # Yesterday's, which a plan surely has for queries.
    end = (int(time.time()) // _DAY - 1) * _DAY + _END
    found: dict[tuple[str, str], list[Done]] = {one: [] for one in contestants}
    with _serving(job) as url:
        for who in dict.fromkeys(who for who, _ in contestants):  # fills the server's cache
            _run(who, "jsonl", job, url, end)
        for number in range(rounds):
            # Each round begins with another, because the machine may grow slower or faster meanwhile.
            first = number % len(contestants)
            for one in (*contestants[first:], *contestants[:first]):
                found[one].append(_run(*one, job, url, end))
    return found


def _compare(rounds: int) -> None:
    contestants = [*((who, form) for who in ("ours", "bare") for form in NAMES), ("dlt", "jsonl"), ("dlt", "parquet")]
    small = _measure(_SMALL, [one for one in contestants if one[0] == "ours"], 1)
    for job in (_LARGE, _SESSIONS):
        found = _measure(job, contestants, rounds)
        rows = {done.rows for some in found.values() for done in some}
        print(f"\n{job.name}: {', '.join(f'{count:,}' for count in sorted(rows))} rows")
        for one, some in found.items():
            line = f"{one[0]:5} {one[1]:9} {median(done.rate for done in some):11,.0f} rows/s"
            line += f" {median(done.peak for done in some) / _MEGABYTE:7.0f} MB"
            if one[0] == "ours":
                line += _ratio("bare", some, found["bare", one[1]], 1.0)
                line += _ratio("bare json", some, found["bare", "jsonl"], 1.0)
                line += _ratio("dlt", some, found["dlt", "parquet" if one[1] == "parquet" else "jsonl"], _TIMES_DLT)
                grown = (median(done.peak for done in some) - small[one][0].peak) / _MEGABYTE
                line += f"  {grown:+5.0f} MB over {_SMALL.name} {_verdict(met=grown < _GROWTH)}"
            print(line)


def _ratio(name: str, mine: list[Done], theirs: list[Done], target: float) -> str:
    ratio = median(other.seconds / own.seconds for own, other in zip(mine, theirs, strict=True))
    return f"  {ratio:5.2f} x {name} {_verdict(met=ratio >= target)}"


def _verdict(*, met: bool) -> str:
    return "met" if met else "MISSED"


# With quotas on


def _rates() -> None:
    for name in ("standard", "premium", "enterprise"):
        for most in (0.05, 0.3):
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                share, refused = runner.run(_rate(name, most))
            verdict = _verdict(met=share >= _OF_RATE)
            print(f"{name:10} delays to {most:4} s  {share:7.2%} of the rate, {refused} refused  {verdict}")


async def _rate(name: str, most: float) -> tuple[float, int]:
    """Return the share of the details' rate that an export uses, and how many requests are refused."""
    loop = asyncio.get_running_loop()
    plan = Plan.of(name).with_limits("call_details", per_day=10**6)
    world = World(seed=7, calls_per_hour=200.0, typical_minutes=0.05, long_share=0.0, large_share=0.0)
    service = Service(world, plan, clock=lambda: _NOON + 0.4 + loop.time())
    simulation = Simulation(service)
    each = plan.limits["call_details"].per_second or 1
    # Not longer than the world's calls last: an export that has run out of calls uses no rate.
    seconds = min(300, 700 // each)
    selection = Selection(_NOON - 6 * 3_600, _NOON - 600, datasets=("calls", "sessions"))
    transport = simulation.transport(latency=(0.03, most))
    with tempfile.TemporaryDirectory() as folder:
        async with simulation.client(transport=transport) as client:
            run = asyncio.create_task(client.export.run(selection, folder, format="jsonl"))
            # By then the service's clock is calibrated, and calls are listed.
            await asyncio.sleep(20)
            before = service.counts["call_sessions"]
            await asyncio.sleep(seconds)
            made = service.counts["call_sessions"] - before
            run.cancel()
            with suppress(asyncio.CancelledError):
                await run
    return made / (seconds * each), sum(service.refusals.values())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", action="store_true", help="the share of a plan's rate, with quotas on")
    given = parser.parse_args()
    if given.rate:
        _rates()
    else:
        _compare(1 if given.quick else given.rounds)


if __name__ == "__main__":
    main()
