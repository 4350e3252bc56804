"""`python -m benchmarks.fuzz [--bodies N] [--seed S]`: print the results; exits with 1 if a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain

from benchmarks.fuzz.doors import DOORS
from benchmarks.fuzz.judge import PROMISES
from benchmarks.fuzz.tally import Tally, look_at_monsters, look_at_mutations, shortened

_AT_ONCE = 10_000


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-monsters", action="store_true")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    begun = time.perf_counter()
    tally = Tally()
    _say_nothing()
    with ProcessPoolExecutor(given.processes, initializer=_say_nothing) as processes:
        mutate = partial(look_at_mutations, given.seed)
        parts = [range(at, min(at + _AT_ONCE, given.bodies)) for at in range(0, given.bodies, _AT_ONCE)]
        doors = () if given.no_monsters else range(len(DOORS))
        for one in chain(processes.map(mutate, parts), processes.map(look_at_monsters, doors)):
            tally.add(one)
    print(
        f"{tally.bodies:,} bodies, seed {given.seed}: {tally.bytes / 1e9:.1f} GB in {time.perf_counter() - begun:.0f} s"
    )
    print(table(tally))
    return 1 if tally.broken else 0


def _say_nothing() -> None:
    """Silence the library's log in this process."""
    logging.getLogger("agora_analytics").addHandler(logging.NullHandler())


def table(tally: Tally) -> str:
    """Return the results as lines of text."""
    titles = ("bodies", "answered", "refused", "not read", "cut off", "slowest")
    lines = [f"{'':26}" + "".join(f"{title:>10}" for title in titles)]
    for door in DOORS:
        counts = tally.outcomes[door.name]
        cells = [
            sum(counts.values()),
            counts["answered"],
            _refused(counts),
            counts["DecodeError"],
            counts["TransportError"],
        ]
        shown = "".join(f"{cell:10,}" for cell in cells)
        lines.append(f"{door.name:26}{shown}{tally.slowest[door.name]:10.0%}")
    lines.append(f"memory of a process: {tally.memory / 2**20:,.0f} MiB at most")
    for promise in PROMISES:
        found = [one for one in tally.broken if one.promise == promise]
        count = sum(tally.broken[one].count for one in found)
        lines.append(f"{promise}: {f'BROKEN {count:,} times' if count else 'kept'}")
        for one in sorted(found, key=lambda one: -tally.broken[one].count):
            seen = tally.broken[one]
            lines.append(f"    {seen.count:,} x {one.place}: {seen.what}")
            headers = {name: value[:60] for name, value in seen.response.headers.items()}
            lines.append(f"        {seen.door}, HTTP {seen.response.status}, {headers or 'no headers'}, {seen.name}")
            lines.append(f"        {asyncio.run(shortened(one, seen))}")
    return "\n".join(lines)


def _refused(counts: dict[str, int]) -> int:
    return sum(count for name, count in counts.items() if name not in {"answered", "DecodeError", "TransportError"})


if __name__ == "__main__":
    sys.exit(main())
