"""What `import agora_analytics` costs a program, against `import aiohttp`, which it cannot do without."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks._measure import Row, compare, interleaved


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure fresh interpreters, by the CPU time that each says its import took."""
    jobs = {name: partial(_imported, name) for name in ("agora_analytics", "aiohttp")}
    found = interleaved(jobs, 5 if quick else 31)
    yield compare("import", found["agora_analytics"], "import aiohttp", found["aiohttp"], target=1.2)


def _imported(name: str) -> float:
    code = f"import time; begun = time.process_time(); import {name}; print(time.process_time() - begun)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    return float(done.stdout)
