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
from helpers.export_machines import NAMES, SELECTION, There
from helpers.export_runs import all_rows, asked, export, free, last, options_of

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
    """Write in the process of the test, because a writer process takes 0.1 to 0.6 s to start.

    Tests of the writer process and of each format use the fixture `apart`; AGORA_TEST_APART=1 applies it to all.
    """
    if not os.environ.get("AGORA_TEST_APART"):
        monkeypatch.setattr("agora_analytics.export.write.target.open_writer", open_in_process)


@pytest.fixture
def apart(_write_in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write in a process of its own, as in production."""
    monkeypatch.setattr("agora_analytics.export.write.target.open_writer", open_writer)


@pytest.fixture
async def simulation(clock: WallClock, world: World) -> Simulation:
    return Simulation(Service(world, Plan.of("enterprise"), clock=clock))


@pytest.fixture
def whole(tmp_path: Path, simulation: Simulation):
    """Runs an uninterrupted export; returns its rows, the number of its requests, and its report."""

    async def run_export(selection: Selection | None = None):
        free(simulation)
        requests_before = asked(simulation)
        report = await export(simulation, selection or last(3), tmp_path / "whole")
        datasets = (selection or last(3)).datasets
        return all_rows(tmp_path / "whole", *datasets), asked(simulation) - requests_before, report

    return run_export


@pytest.fixture
def opened(tmp_path) -> Iterator[Callable[[], ExportState]]:
    """Opens the state as the next process would, and closes the one that was opened before."""
    states: list[ExportState] = []

    def opened() -> ExportState:
        for state in states:
            state.close()
        states.append(ExportState(tmp_path / "state.db", "place"))
        return states[-1]

    yield opened
    for state in states:
        state.close()


@pytest.fixture
def state(opened) -> ExportState:
    return opened()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of an S3 server, which runs in a process of its own and has a bucket `bucket`."""
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
        store = fsspec.filesystem("s3", **options_of(url))
        store.mkdir("bucket")
        yield url
        server.kill()


@pytest.fixture(params=["memory", "s3", "file"])
def there(request, tmp_path) -> There:
    """A place by URL: one in each kind of store."""
    if request.param == "s3":
        return There(f"s3://bucket/{tmp_path.name}", options_of(request.getfixturevalue("s3")), tmp_path)
    return There(f"{request.param}://{tmp_path}/there", {}, tmp_path)


@pytest.fixture
def memory(tmp_path) -> There:
    """A place in the memory of this process."""
    return There(f"memory://{tmp_path.name}/there", {}, tmp_path)


@pytest.fixture
async def truth(tmp_path, simulation) -> dict[str, object]:
    """The expected rows: those of an uninterrupted export into a folder."""
    free(simulation)
    await export(simulation, SELECTION, tmp_path / "truth")
    return {name: rows(tmp_path / "truth", name) for name in NAMES}


@pytest.fixture
def killed(monkeypatch):
    """Makes a run that fails clean nothing up, as if its process were killed."""

    async def skip_sync(_: RemoteSync, __: object) -> None:
        return

    @contextmanager
    def killed():
        with monkeypatch.context() as patched:
            patched.setattr(RemoteSync, "sync_after_failure", skip_sync)
            with pytest.raises(Unauthorized):
                yield

    return killed
