"""What many exports at once take: processes, memory and time.

`python -m benchmarks.many_exports [--exports 20] [--format parquet]`. Each export has an App ID and a folder of its
own; the service is the simulator in the same process, so most of the time and memory is its own. In turn: with the
writer process (`process`), and with threads of this program (`thread`). Memory is the proportional set size (PSS), so
that pages that processes share count once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path

import attrs

from agora_analytics import Plan, Selection
from agora_analytics.simulator import Simulation, World


@attrs.define
class _Peaks:
    """The most of each that was seen while the exports ran."""

    processes: int = 0
    child_megabytes: float = 0.0
    own_megabytes: float = 0.0


def _children() -> list[str]:
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text().split()]


def _megabytes(process: str) -> float:
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1_024
    return 0.0


def _look(peaks: _Peaks) -> None:
    children = _children()
    megabytes = 0.0
    for child in children:
        with contextlib.suppress(OSError):  # it has ended
            megabytes += _megabytes(child)
    peaks.processes = max(peaks.processes, len(children))
    peaks.child_megabytes = max(peaks.child_megabytes, megabytes)
    peaks.own_megabytes = max(peaks.own_megabytes, _megabytes("self"))


async def _watch_processes(peaks: _Peaks) -> None:
    while True:
        await asyncio.to_thread(_look, peaks)
        await asyncio.sleep(0.1)


def _unlimited() -> Plan:
    plan = Plan.of("enterprise")
    for table, limits in plan.limits.items():
        plan = plan.with_limits(table, **dict.fromkeys((f"per_{unit}" for unit in limits.rates), 10**6))
    return plan


async def _measure(simulation: Simulation, exports: int, form: str, *, process: bool) -> None:
    peaks = _Peaks()
    with tempfile.TemporaryDirectory() as folder:
        async with simulation.client() as client:
            span = client.calls.recent(2 * 3_600)
            watching = asyncio.create_task(_watch_processes(peaks))
            begun = time.perf_counter()
            reports = await asyncio.gather(
                *(
                    client.export.run(
                        Selection(*span, datasets=("calls", "sessions", "metrics"), mids={20001}, apps=[app]),
                        f"{folder}/{app}",
                        format=form,
                        process=process,
                    )
                    for app in [simulation.app_id, *simulation.service.other_apps][:exports]
                )
            )
            took = time.perf_counter() - begun
            watching.cancel()
    rows = sum(sum(report.rows.values()) for report in reports)
    print(
        f"{'process' if process else 'thread':10}{exports:8}{rows:10,}{took:10.1f}{peaks.processes:11}"
        f"{peaks.child_megabytes:14.0f}{peaks.own_megabytes:12.0f}"
    )


async def _measure_all(exports: int, form: str) -> None:
    simulation = Simulation(world=World(seed=3, calls_per_hour=6.0), plan=_unlimited())
    simulation.service.other_apps = tuple(f"{number:032x}" for number in range(exports - 1))
    heads = f"{'writer':10}{'exports':>8}{'rows':>10}{'s':>10}"
    print(f"{heads}{'processes':>11}{'their MB':>14}{'own MB':>12}")
    for process in (True, True, False):  # the first time, the simulator fills its caches
        await _measure(simulation, exports, form, process=process)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--exports", type=int, default=20)
    parser.add_argument("--format", default="parquet")
    arguments = parser.parse_args()
    asyncio.run(_measure_all(arguments.exports, arguments.format))


if __name__ == "__main__":
    main()
