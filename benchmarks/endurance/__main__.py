"""`python -m benchmarks.endurance [--days 30] [--seed 1]`: print the results; exits with 1 if a promise was broken."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from statistics import median

from benchmarks.endurance.judge import Judge
from benchmarks.endurance.life import run
from benchmarks.endurance.schedule import drawn

_MIDNIGHT = 1_795_478_400


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable()  # warnings of intended outages
    wall, cpu = time.perf_counter(), time.process_time()
    judge = run(drawn(given.seed, _MIDNIGHT, given.days))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{given.days} days, seed {given.seed}: {wall:.0f} s, {cpu:.0f} s of CPU")
    print(table(judge))
    return 1 if judge.counts else 0


def table(judge: Judge) -> str:
    """Return the results as lines of text."""
    lines = [f"deaths: {len(judge.deaths)}"]
    for name, seen in (("watch", judge.windows.seen), ("follow", judge.calls.seen), ("quota", judge.refusals)):
        lines += [f"{name}: {what}: {count:,}" for what, count in sorted(seen.items())]
    lines.append(f"age of windows beyond the delay: {_ages(judge.windows.ages)}")
    lines.append(f"age of calls' ends beyond the delay: {_ages(judge.calls.ages)}")
    for number, day in enumerate(judge.days, 1):
        requests = ", ".join(f"{name} {count:,}" for name, count in sorted(day.requests.items()))
        sizes = "checkpoints {:,} and {:,} bytes".format(*day.checkpoints)
        lines.append(f"day {number}: {requests}; {sizes}; {day.objects:,} objects, {day.memory:.0f} MB")
    for promise, count in judge.counts.items():
        lines.append(f"BROKEN {count:,} times: {promise}")
        lines += [f"    {example}" for example in judge.broken[promise]]
    return "\n".join(lines)


def _ages(ages: list[float]) -> str:
    if not ages:
        return "none"
    found = sorted(ages)
    return f"median {median(found):,.0f} s, 99 of 100 within {found[len(found) * 99 // 100]:,.0f} s"


if __name__ == "__main__":
    sys.exit(main())
