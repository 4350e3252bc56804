"""Fixtures of export tests: a simulated service on virtual time, which begins on 24 November 2026 at noon UTC."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import fsspec
import pytest
from helpers.export_files import rows
from helpers.export_machines import DATASETS, SELECTION, RemotePlace
from helpers.export_runs import all_rows, export, last_hours, remove_rate_limits, request_count, s3_options

from agora_analytics import Plan, Selection, Unauthorized
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.remote_copy import RemoteSync
from agora_analytics.export.write.subprocess_writer import open_writer
from agora_analytics.export.write.writer import open_in_process
from agora_analytics.protocols import WallClock
from agora_analytics.simulator import Service, Simulation, World

SMALL = {"calls_per_hour": 12.0, "typical_minutes": 0.2, "long_share": 0.0, "large_share": 0.0}


@pytest.fixture(scope="session")
def world() -> World:
    """Few and short calls, so that tests are quick. It is immutable, so all tests share it and its caches."""
    return World(seed=7, **SMALL)


@pytest.fixture(autouse=True)
def _write_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write files in the process of the test, because a writer process takes 0.1 to 0.6 s to start.

    Tests that need the writer process use the fixture `subprocess_writer`; AGORA_TEST_APART=1 gives it to all.
    """
    if not os.environ.get("AGORA_TEST_APART"):
        monkeypatch.setattr("agora_analytics.export.write.target.open_writer", open_in_process)


@pytest.fixture
def subprocess_writer(_write_in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write files in a writer process, as in production."""
    monkeypatch.setattr("agora_analytics.export.write.target.open_writer", open_writer)


@pytest.fixture
def started(subprocess_writer: None, monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Return a list of every process that the test starts; exports write in such a process."""
    processes: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def record(*arguments, **settings):
        processes.append(start(*arguments, **settings))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", record)
    return processes


@pytest.fixture
async def simulation(clock: WallClock, world: World) -> Simulation:
    return Simulation(Service(world, Plan.of("enterprise"), clock=clock))


@pytest.fixture
def whole(tmp_path: Path, simulation: Simulation):
    """Return a function that runs an uninterrupted export and returns its rows, requests and report."""

    async def run_export(selection: Selection | None = None):
        remove_rate_limits(simulation)
        requests_before = request_count(simulation)
        report = await export(simulation, selection or last_hours(3), tmp_path / "whole")
        datasets = (selection or last_hours(3)).datasets
        return all_rows(tmp_path / "whole", *datasets), request_count(simulation) - requests_before, report

    return run_export


@pytest.fixture
def reopen(tmp_path) -> Iterator[Callable[[], ExportState]]:
    """Return a function that closes the state and opens it again, as the next process does."""
    states: list[ExportState] = []

    def reopen() -> ExportState:
        for state in states:
            state.close()
        states.append(ExportState(tmp_path / "state.db", "place"))
        return states[-1]

    yield reopen
    for state in states:
        state.close()


@pytest.fixture
def state(reopen) -> ExportState:
    return reopen()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Start an S3 server with the bucket `bucket` in a process of its own, and return its URL."""
    script = (
        "from moto.server import ThreadedMotoServer as S; s = S(ip_address='127.0.0.1', port=0, verbose=False);"
        " s.start(); print(s.get_host_and_port()[1], flush=True); import sys; sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        assert urlopen(f"{url}/moto-api/").status == 200
        store = fsspec.filesystem("s3", **s3_options(url))
        store.mkdir("bucket")
        yield url
        server.kill()


@pytest.fixture(params=["memory", "s3", "file"])
def remote_place(request, tmp_path) -> RemotePlace:
    """Return a URL in each kind of store."""
    if request.param == "s3":
        return RemotePlace(f"s3://bucket/{tmp_path.name}", s3_options(request.getfixturevalue("s3")), tmp_path)
    return RemotePlace(f"{request.param}://{tmp_path}/export", {}, tmp_path)


@pytest.fixture
def memory_place(tmp_path) -> RemotePlace:
    """Return a URL in the memory of this process."""
    return RemotePlace(f"memory://{tmp_path.name}/export", {}, tmp_path)


@pytest.fixture
async def truth(tmp_path, simulation) -> dict[str, object]:
    """Return the expected rows: those of an uninterrupted export into a folder."""
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path / "truth")
    return {name: rows(tmp_path / "truth", name) for name in DATASETS}


@pytest.fixture
def killed(monkeypatch):
    """Return a context in which a run ends without its cleanup, as if its process were killed; it must get a 401."""

    async def skip_sync(_: RemoteSync, __: object) -> None:
        return

    @contextmanager
    def killed():
        with monkeypatch.context() as patched:
            patched.setattr(RemoteSync, "sync_after_failure", skip_sync)
            with pytest.raises(Unauthorized):
                yield

    return killed
