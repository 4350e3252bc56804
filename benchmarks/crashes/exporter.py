"""Machines that export, each with a home folder; their processes end or are killed, and must leave none behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

from benchmarks.crashes.counting import Counter
from benchmarks.crashes.worker import exported

_PATIENCE: Final = 10.0
"""Seconds that a process may take to end after its parent is gone."""


@attrs.frozen(kw_only=True)
class Job:
    """What is exported, and the `options` of the export."""

    start: int
    end: int
    counter: Counter
    options: dict[str, Any]


@attrs.frozen
class Ended:
    """How a run ended: its exit code, its report or error, its requests, and the seconds that it took."""

    code: int
    report: dict[str, Any]
    requests: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether it reports that every row is there."""
        return bool(self.report.get("complete"))


@attrs.define
class Machine:
    """A machine, by its home folder."""

    home: Path
    job: Job
    orphaned: float = 0.0
    left: list[str] = attrs.field(factory=list)

    async def run(self, to: str | Path, form: str, *, before: tuple[str, ...] = (), **options: Any) -> Ended:
        """Run an export until it ends by itself."""
        return await self._ended(await self._start(to, form, before, options), time.monotonic())

    async def here(self, to: Path, form: str, **options: Any) -> Ended:
        """Export in this process, which is quicker."""
        begun = time.monotonic()
        given = {**self.job.options, **options}
        report = await exported(str(to), form, self.job.start, self.job.end, given)
        return Ended(0, report, self.job.counter.end_run(), time.monotonic() - begun)

    async def killed(self, to: str | Path, form: str, seconds: float, who: str, **options: Any) -> Ended:
        """Run an export, and kill it unless it ends in time: `all`, the `parent` alone, or the `writer`."""
        begun = time.monotonic()
        process = await self._start(to, form, (), options)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await process.wait()
        if process.returncode is None:
            _kill(process.pid, who)
        return await self._ended(process, begun)

    async def killed_at(self, to: str | Path, form: str, request: int, **options: Any) -> Ended:
        """Run an export, and kill both processes at the request of this number."""
        begun = time.monotonic()
        process = await self._start(to, form, (), options)
        self.job.counter.alarm = (request, lambda: _kill(process.pid, "all"))
        ended = await self._ended(process, begun)
        self.job.counter.alarm = None
        return ended

    async def _start(
        self, to: str | Path, form: str, before: tuple[str, ...], options: dict[str, Any]
    ) -> asyncio.subprocess.Process:
        self.home.mkdir(parents=True, exist_ok=True)
        given = json.dumps({**self.job.options, **options})
        line = [sys.executable, "-m", "benchmarks.crashes.worker", str(to), form]
        places = {name: str(self.home) for name in ("HOME", "XDG_STATE_HOME", "TMPDIR")}
        span = (str(self.job.start), str(self.job.end))
        # Files, because a pipe stays open as long as a process that inherited it.
        with (self.home / "out").open("wb") as out, (self.home / "err").open("wb") as err:
            return await asyncio.create_subprocess_exec(
                *(*before, *line, *span, given),
                stdout=out,
                stderr=err,
                env={**os.environ, **places},
            )

    async def _ended(self, process: asyncio.subprocess.Process, begun: float) -> Ended:
        await process.wait()
        seconds = time.monotonic() - begun
        requests = self.job.counter.end_run()
        await self._alone()
        out, err = ((self.home / name).read_text() for name in ("out", "err"))
        first, *last = map(json.loads, out.splitlines()) if process.returncode == 0 else [{"wrong": err[-2_000:]}]
        report = {**last[-1], "first": first} if last else first
        return Ended(process.returncode or 0, report, requests, seconds)

    async def _alone(self) -> None:
        """Wait until no process of this machine is left, and record how long that took, or which do not end."""
        begun = time.monotonic()
        while left := list(self._processes()):
            if time.monotonic() - begun > _PATIENCE:
                self.left += left
                return
            await asyncio.sleep(0.02)
        self.orphaned = max(self.orphaned, time.monotonic() - begun)

    def _processes(self) -> Iterator[str]:
        """Yield the command lines of the machine's processes, found by the `TMPDIR` that they inherit."""
        mark = f"TMPDIR={self.home}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # somebody else's, or it has ended
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]


def _kill(pid: int, who: str) -> None:
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    for one in (*(children if who in {"all", "writer"} else ()), *((pid,) if who != "writer" else ())):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
