"""How much of a plan processes use that share a ledger, one of which is killed halfway.

`python -m benchmarks.sharing [--quick]` serves the simulator on loopback. 2, 8 and 32 processes that share a file, a
Redis or a PostgreSQL send all requests that they may, 10 a second. A proxy adds to each round trip to the store. One
process is killed with `kill -9` halfway. `--store`, `--processes` and `--delay` (milliseconds) choose rows. With
`--person` they export, and one more process sends an interactive request now and then: how long do these take?

used: the share of the plan that the service accepted. refused: by the service. lost: requests of the day that the
ledger counted and the service did not. trips: round trips to the store for each request; for a file, changes.
conflicts: trips that found a newer state than the expected one. ms: of a trip. CPU ms: of the processes for each
request, and the store's. least: requests of the process that sent least, in parts of an equal share. idle: CPU of the
machine that nobody used; where other programs leave none, a row measures them.

Exits with 1 if less than 99 % was used (98 % with 10 ms and up to 8 processes; more have no target there), any request
was refused, or more permits were lost than a process takes at once.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from statistics import median

from benchmarks.sharing.cell import Cell, Found, measure
from benchmarks.sharing.stores import NAMES

_TITLES = ("used", "refused", "lost", "trips", "conflicts", "ms", "CPU ms", "store's", "least", "idle")
_WIDTHS = (9, 9, 6, 7, 11, 7, 8, 9, 7, 6)


def main() -> int:
    """Measure and print the rows that were asked for."""
    parser = argparse.ArgumentParser("python -m benchmarks.sharing")
    parser.add_argument("--store", choices=NAMES, action="append")
    parser.add_argument("--processes", type=int, action="append")
    parser.add_argument("--delay", type=float, action="append", help="milliseconds that a proxy adds to a round trip")
    parser.add_argument("--person", action="store_true")
    parser.add_argument("--per-day", type=int, default=0, help="requests of the day, to see that all of it is used")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--quick", action="store_true", help="a shorter time, and 2 and 8 processes only")
    given = parser.parse_args()
    print(f"{'':32}" + "".join(f"{title:>{width}}" for title, width in zip(_TITLES, _WIDTHS, strict=True)))
    good = True
    for cell in _cells(given):
        found = asyncio.run(measure(cell, warm=10, seconds=12 if given.quick else given.seconds))
        print(_row(cell, found), flush=True)
        if found.short:
            print(
                "  requests in seconds since the kill:", ", ".join(f"{at}: {many}" for at, many in found.short.items())
            )
        if waits := sorted(found.counts.waits):
            times = f"median {median(waits):.2f} s, 95 % {waits[int(0.95 * len(waits))]:.2f}, most {waits[-1]:.2f}"
            print(f"  {len(waits)} requests of a person: {times}", flush=True)
        if found.counts.failures:
            print(f"  {found.counts.failures} requests were not sent, as the store did not answer in time")
        good &= found.meets(cell)
    return 0 if good else 1


def _cells(given: argparse.Namespace) -> Iterator[Cell]:
    for store in given.store or NAMES:
        for delay in [0.0] if store == "file" else given.delay or [0.2, 2.0, 10.0]:
            for processes in given.processes or ([2, 8] if given.quick else [2, 8, 32]):
                yield Cell(store, processes, delay / 1_000, given.per_day, given.person)


def _row(cell: Cell, found: Found) -> str:
    counts = found.counts
    requests, trips = max(1, counts.requests), max(1, counts.trips)
    values = (
        f"{found.used:.2%}",
        str(found.refused),
        str(found.lost),
        f"{trips / requests:.1f}",
        str(counts.conflicts),
        f"{counts.seconds / trips * 1_000:.1f}",
        f"{counts.cpu / requests * 1_000:.1f}",
        f"{found.store_cpu / requests * 1_000:.1f}",
        f"{found.least:.2f}",
        f"{found.idle:.0%}",
    )
    where = cell.store if cell.store == "file" else f"{cell.store}, {cell.round_trip * 1_000:g} ms"
    verdict = "" if cell.least is None and found.meets(cell) else "  met" if found.meets(cell) else "  MISSED"
    shown = "".join(f"{value:>{width}}" for value, width in zip(values, _WIDTHS, strict=True))
    return f"{where + ',':18}{cell.processes:3} processes{shown}{verdict}"


if __name__ == "__main__":
    sys.exit(main())
