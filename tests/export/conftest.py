"""Exports over the simulator on virtual time, from a fixed moment on: noon, 24 November 2026, UTC."""

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
    """Few short calls, so that a test is quick. It cannot be changed, and what it remembers serves all tests."""
    return World(seed=7, **SMALL)


@pytest.fixture(autouse=True)
def _written_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write in this process, as where Python cannot be started again: a writer's process costs 0.1 to 0.6 s.

    Tests of the writer, and of what each format is given, ask for `apart`; AGORA_TEST_APART=1 is for all.
    """
    if not os.environ.get("AGORA_TEST_APART"):
        monkeypatch.setattr("agora_analytics.export.write.target.open_writer", open_in_process)


@pytest.fixture
def apart(_written_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write in a process of its own, as users do."""
    monkeypatch.setattr("agora_analytics.export.write.target.open_writer", open_writer)


@pytest.fixture
async def simulation(clock: WallClock, world: World) -> Simulation:
    return Simulation(Service(world, Plan.of("enterprise"), clock=clock))


@pytest.fixture
def whole(tmp_path: Path, simulation: Simulation):
    """An export that nothing interrupted, its rows and what it cost."""

    async def made(selection: Selection | None = None):
        free(simulation)
        before = asked(simulation)
        report = await export(simulation, selection or last(3), tmp_path / "whole")
        datasets = (selection or last(3)).datasets
        return all_rows(tmp_path / "whole", *datasets), asked(simulation) - before, report

    return made


@pytest.fixture
def opened(tmp_path) -> Iterator[Callable[[], ExportState]]:
    """Opens the state, as the next process does; the one before is gone."""
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
    """A server that speaks S3, in a process of its own, and the URL of a bucket there."""
    code = (
        "from moto.server import ThreadedMotoServer as S; s = S(ip_address='127.0.0.1', port=0, verbose=False);"
        " s.start(); print(s.get_host_and_port()[1], flush=True); import sys; sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
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
    if request.param == "s3":
        return There(f"s3://bucket/{tmp_path.name}", options_of(request.getfixturevalue("s3")), tmp_path)
    return There(f"{request.param}://{tmp_path}/there", {}, tmp_path)


@pytest.fixture
def memory(tmp_path) -> There:
    return There(f"memory://{tmp_path.name}/there", {}, tmp_path)


@pytest.fixture
async def truth(tmp_path, simulation) -> dict[str, object]:
    free(simulation)
    await export(simulation, SELECTION, tmp_path / "truth")
    return {name: rows(tmp_path / "truth", name) for name in NAMES}


@pytest.fixture
def killed(monkeypatch):
    """Lets a run that fails leave nothing behind, as if its process were killed."""

    async def nothing(_: RemoteSync, __: object) -> None:
        return

    @contextmanager
    def killed():
        with monkeypatch.context() as patched:
            patched.setattr(RemoteSync, "sync_after_failure", nothing)
            with pytest.raises(Unauthorized):
                yield

    return killed
