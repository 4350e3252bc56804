"""What importing costs a program, the front door alone and all behind it, against aiohttp, which is most of that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks._measure import Row, compare, interleaved


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure fresh interpreters, by the CPU time that each says its import took."""
    ways = ("import agora_analytics", "from agora_analytics import AnalyticsClient", "import aiohttp")
    ours, whole, theirs = ways
    found = interleaved({way: partial(_imported, way) for way in ways}, 5 if quick else 31)
    yield compare(ours, found[ours], theirs, found[theirs], target=1.2)
    yield compare(whole, found[whole], theirs, found[theirs])


def _imported(statement: str) -> float:
    code = f"import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    return float(done.stdout)
