"""The stores that processes share: each starts in a folder of its own, and says how much CPU it has used."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

import attrs

_PATIENCE: Final = 20.0


@attrs.frozen
class Running:
    """A store that runs: where the processes find it, and the seconds of CPU that it has used."""

    place: str
    cpu: Callable[[], float] = lambda: 0.0


@asynccontextmanager
async def running(name: str, round_trip: float) -> AsyncIterator[Running]:
    """Start a store of this name, behind a proxy that delays it by `round_trip` seconds (0: without one)."""
    with tempfile.TemporaryDirectory(prefix="sharing-") as folder:
        if name == "file":
            yield Running(str(Path(folder, "quota.db")))
            return
        start, place = _SERVERS[name]
        with start(Path(folder)) as (port, pid):
            await _wait_for(port)
            async with _delayed(port, round_trip) if round_trip else nullcontext(port) as reached:
                yield Running(place.format(reached), lambda: _cpu(pid))


@contextmanager
def _redis(folder: Path) -> Iterator[tuple[int, int]]:
    port = _free_port()
    command = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "yes")
    with _process(shutil.which("redis-server") or "valkey-server", *command) as process:
        yield port, process.pid


@contextmanager
def _postgres(folder: Path) -> Iterator[tuple[int, int]]:
    port, data = _free_port(), folder / "data"
    # It refuses to run as root.
    user = "postgres" if os.getuid() == 0 else None
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    made = ("initdb", "--auth=trust", "--username=postgres", "--no-sync", "-D", str(data))
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, user=user)  # noqa: S603 - ours
    options = ("-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "max_connections=300")
    with _process("postgres", *options, user=user) as process:
        yield port, process.pid


_SERVERS: Final = {
    "redis": (_redis, "redis://127.0.0.1:{}/0"),
    "postgres": (_postgres, "postgresql://postgres@127.0.0.1:{}/postgres"),
}
NAMES: Final = ("file", *_SERVERS)


@contextmanager
def _process(*command: str, user: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, user=user)  # noqa: S603 - ours
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_PATIENCE)


@asynccontextmanager
async def _delayed(port: int, round_trip: float) -> AsyncIterator[int]:
    command = (sys.executable, "-m", "benchmarks.sharing.delay", str(port), str(round_trip))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield int(await process.stdout.readline() if process.stdout else b"")
    finally:
        process.kill()
        await process.wait()


async def _wait_for(port: int) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _cpu(pid: int) -> float:
    """Return the seconds of CPU of a process, its children, and those that it has waited for (Linux)."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if path.parent.name == str(pid):
            ticks += sum(map(int, fields[11:15]))
        elif fields[1] == str(pid):
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def machine_cpu() -> tuple[int, int]:
    """Return the ticks of the machine's CPUs that nobody used, and all (Linux)."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)
