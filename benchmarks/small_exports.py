"""What a small export costs apart from the service: of one call, of a span without any, of ten App IDs.

`python -m benchmarks.small_exports [--rounds N]`. A response takes 40 ms here. Shown is the time in which no request
was in flight: to open the state, to start the worker process, to seal and to close; and for comparison, from the same
rounds, the time of starting a Python that does nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Final

import attrs

from agora_analytics import Selection, Span
from agora_analytics.export.formats import NAMES
from agora_analytics.protocols import Request, Response
from agora_analytics.simulator import Simulation, World
from benchmarks._canned import plan

_LATENCY: Final = (0.02, 0.02)
_APPS: Final = tuple(f"{number:032x}" for number in range(9))


class _Timed:
    """A transport to the simulated service that measures for how long at least one request was in flight."""

    def __init__(self, simulation: Simulation) -> None:
        self._inner = simulation.transport(latency=_LATENCY)
        self.hosts = self._inner.hosts
        self.scrub = self._inner.scrub
        self.close = self._inner.close
        self._open = 0
        self._since = 0.0
        self.seconds = 0.0

    async def send(self, request: Request, host: int = 0) -> Response:
        """Send a request, and measure the time."""
        self._since = self._since if self._open else time.perf_counter()
        self._open += 1
        try:
            return await self._inner.send(request, host)
        finally:
            self._open -= 1
            if not self._open:
                self.seconds += time.perf_counter() - self._since


@attrs.frozen
class _Job:
    name: str
    span: Span
    apps: tuple[str, ...] = ()


async def _jobs(simulation: Simulation) -> list[_Job]:
    """Return an export of the second in which one call began, of a second in which none did, and of ten App IDs."""
    async with simulation.client() as client:
        calls = [call async for call in client.calls.search(*client.calls.recent(7_200))]
    begun = sorted(call.created_ts for call in calls)
    alone = next(ts for ts in begun[len(begun) // 2 :] if begun.count(ts) == 1)
    quiet = next(ts for ts in range(alone, alone + 3_600) if ts not in begun)
    one = Span(alone, alone + 1)
    return [_Job("one call", one), _Job("no call", Span(quiet, quiet + 1)), _Job("ten App IDs", one, _APPS)]


async def _own(simulation: Simulation, job: _Job, form: str) -> tuple[float, int]:
    """Return the seconds of an export in which no request was in flight, and its rows."""
    transport = _Timed(simulation)
    apps = [simulation.app_id, *job.apps]
    with tempfile.TemporaryDirectory() as folder:
        async with simulation.client(transport=transport) as client:
            selection = Selection(*job.span, datasets=("calls", "sessions"), apps=apps)
            begun = time.perf_counter()
            report = await client.export.run(selection, f"{folder}/export", format=form)
            took = time.perf_counter() - begun
    return took - transport.seconds, sum(report.rows.values())


def _floor() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
    return time.perf_counter() - begun


async def _measure(rounds: int) -> None:
    simulation = Simulation(world=World(seed=3, calls_per_hour=120.0), plan=plan())
    simulation.service.other_apps = _APPS
    jobs = await _jobs(simulation)
    print(f"{'':26}" + "".join(f"{form:>11}" for form in NAMES) + f"{'a Python':>11}")
    for job in jobs:
        seconds: dict[str, list[float]] = {form: [] for form in NAMES}
        floor, rows = [], set()
        for _ in range(rounds + 1):  # the first one, which also loads modules, is dropped
            floor.append(_floor())
            for form in NAMES:
                own, count = await _own(simulation, job, form)
                seconds[form].append(own)
                rows.add(count)
        shown = "".join(f"{median(some[1:]) * 1e3:8.0f} ms" for some in (*seconds.values(), floor))
        print(f"{f'{job.name}, {max(rows)} rows':26}{shown}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(_measure(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
