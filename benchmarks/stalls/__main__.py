"""`python -m benchmarks.stalls [--quick] [--rounds N] [--only WORD]`: for how long each job blocks the event loop.

Each job of each contestant is a process of its own, imports included, the service another; contestants take turns.
Shown are the longest iteration of the loop, the longest without Python's garbage collector, and the 99.9th percentile,
each the least of all rounds, because other programs can only add to it. Exits with 1 if the library blocks the loop for
more than 10 ms, not counting garbage collection: Python decides when that runs, and it takes longer in large programs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from agora_analytics.export.formats import NAMES

_ALLOWED: Final = 0.01
_END: Final = 16 * 3_600
_DAY: Final = 86_400
_WORLD: Final = ("240", "0.3", "0")
_MINUTES: Final = 10


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only jobs whose names contain this word")
    given = parser.parse_args()
    jobs = {name: job for name, job in _jobs().items() if given.only in name}
    with _serving("benchmarks.stalls.serving") as bodies, _serving("benchmarks._canned", *_WORLD) as world:
        urls = {"export": world}
        rows = [
            _measure(name, job, urls.get(job["what"], bodies), 1 if given.quick else given.rounds)
            for name, job in jobs.items()
        ]
    titles = ("longest", "but for gc", "99.9 %")
    print(f"{'':34}" + "".join(f"{title:>12}" for title in (*titles, "bare", *titles[1:])))
    for name, ours, bare in rows:
        print(f"{name:34}" + "".join(f"{_ms(one):>12}" for one in (*ours, *bare)) + f"  {_verdict(ours)}")
    return 0 if all(ours[1] <= _ALLOWED for _, ours, _ in rows) else 1


def _jobs() -> dict[str, dict[str, Any]]:
    return {
        "one page": {"what": "page"},
        "metrics of 1 MB": {"what": "metrics", "size": "1"},
        "metrics of 20 MB": {"what": "metrics", "size": "20"},
        "watch of 57 series": {"what": "watch", "groups": 0},
        "watch of 57 series, 20 groups each": {"what": "watch", "groups": 20},
        **{f"export to {name}": {"what": "export", "format": name} for name in NAMES},
        "to_pandas of 100,000 calls": {"what": "frame"},
    }


Stall = tuple[float, float, float]
"""Seconds: the longest, the longest without garbage collection, and the 99.9th percentile."""


def _measure(name: str, job: dict[str, Any], url: str, rounds: int) -> tuple[str, Stall, Stall]:
    found: dict[str, list[Stall]] = {"ours": [], "bare": []}
    for number in range(rounds):
        for who in ("ours", "bare") if number % 2 else ("bare", "ours"):
            found[who].append(_run({**job, "who": who, "url": url}))
    return name, _least(found["ours"]), _least(found["bare"])


def _run(job: dict[str, Any]) -> Stall:
    end = (int(time.time()) // _DAY - 1) * _DAY + _END
    with tempfile.TemporaryDirectory() as folder:
        arguments = {
            "folder": f"{folder}/job",
            "start": end - _MINUTES * 60,
            "end": end,
            "datasets": ("calls", "sessions", "metrics"),
            **job,
        }
        command = [sys.executable, "-m", "benchmarks.stalls.jobs", json.dumps(arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise SystemExit(f"{job}: {done.stderr[-2_000:]}")
    turns = json.loads(done.stdout.splitlines()[-1])
    held = sorted(whole for whole, _ in turns)
    return held[-1], max(whole - collected for whole, collected in turns), held[len(held) * 999 // 1_000]


def _least(found: list[Stall]) -> Stall:
    longest, ours, most = (min(one) for one in zip(*found, strict=True))
    return longest, ours, most


def _verdict(ours: Stall) -> str:
    if ours[1] > _ALLOWED:
        return "MISSED"
    return "met" if ours[0] <= _ALLOWED else "met but for gc"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"


@contextmanager
def _serving(module: str, *arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own
        try:
            port = server.stdout.readline() if server.stdout else ""
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
