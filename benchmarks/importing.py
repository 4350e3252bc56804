"""What importing costs a program: the package alone, and the client, against aiohttp, which is most of the latter."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial

from benchmarks._measure import Row, compare, interleaved, table


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure the CPU time of the import in new interpreters."""
    ways = ("import agora_analytics", "from agora_analytics import AnalyticsClient", "import aiohttp")
    ours, whole, theirs = ways
    with tempfile.TemporaryDirectory() as compiled:
        # Once before, which compiles the modules.
        for way in ways:
            _imported(way, compiled)
        found = interleaved({way: partial(_imported, way, compiled) for way in ways}, 5 if quick else 31)
    yield compare(ours, found[ours], theirs, found[theirs], target=1.2)
    yield compare(whole, found[whole], theirs, found[theirs], target=1.25)


def _imported(statement: str, compiled: str) -> float:
    """Import in a new interpreter with compiled bytecode, as after an installation; return the CPU time."""
    code = f"import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-X", f"pycache_prefix={compiled}", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=settings)  # noqa: S603 - ours
    return float(done.stdout)


if __name__ == "__main__":
    print(table(list(measure(quick="--quick" in sys.argv[1:]))))
