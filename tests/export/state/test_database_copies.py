"""Databases that are exported to a URL: while a run goes on, they lie there as pairs with the state that is theirs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from helpers.export_machines import SELECTION, RemotePlace, SlowTransport
from helpers.export_runs import request_count, revoked_after

from agora_analytics import ExportError
from agora_analytics.export.sinks.remote import RemoteSink
from agora_analytics.export.state.preflight import Preflight
from agora_analytics.export.state.remote_copy import RemoteSync
from agora_analytics.export.write.subprocess_writer import SubprocessWriter
from agora_analytics.export.write.writer import WriterError
from agora_analytics.simulator import Faults, Simulation

DATABASES = ("sqlite", "duckdb")
SLOW = 3.0
"""Seconds of an answer, so that there is time for copies between them."""


class KilledError(BaseException):
    """Nothing catches it, as nothing catches `kill -9`."""


async def slowly(simulation: Simulation, place: RemotePlace, machine: Path, *, seconds: float = SLOW, **options):
    transport = SlowTransport(simulation.transport(), count=10_000, seconds=seconds)
    async with simulation.client(quotas=False, transport=transport) as client:
        return await client.export.run(
            SELECTION, place.to, state=machine, sink_options=place.options, concurrency=1, **options
        )


def names(place: RemotePlace, kind: str) -> list[str]:
    return [name for name in place.files() if name.startswith(f".agora-export/{kind}-")]


@pytest.mark.parametrize("form", DATABASES)
async def test_another_machine_resumes_where_a_killed_run_stopped(
    simulation, remote_place, truth, killed, tmp_path, form
):
    before = request_count(simulation)
    simulation.faults = revoked_after(before + 20)
    with killed():
        await slowly(simulation, remote_place, tmp_path / "one", format=form)
    assert len(names(remote_place, "database")) == 1
    simulation.faults = Faults()
    failed = request_count(simulation)
    report = await remote_place.run(simulation, "two", format=form)
    assert request_count(simulation) - failed <= before - 20 + 1 + 3
    assert report.complete
    assert remote_place.rows() == truth
    assert names(remote_place, "database") == []


async def test_a_kill_at_any_step_leaves_a_matching_pair_of_database_and_state(
    simulation, memory_place, truth, tmp_path, monkeypatch
):
    monkeypatch.setattr(RemoteSync, "sync_after_failure", lambda *_: asyncio.sleep(0))
    for step in count():
        place = RemotePlace(f"{memory_place.to}/{step}", {}, tmp_path / f"{step}")
        await place.run(simulation, "zero", format="sqlite", max_requests=9)  # readers have a database already
        with monkeypatch.context() as patched:
            left = iter(range(step, -1, -1))
            for verb in ("put_file", "cp_file", "rm_file"):
                patched.setattr(MemoryFileSystem, verb, dying(getattr(MemoryFileSystem, verb), left))
            try:
                await slowly(simulation, place, tmp_path / f"{step}" / "one", seconds=0.05, format="sqlite")
            except KilledError:
                pass
            else:
                break
        assert (await place.run(simulation, "two", format="sqlite")).complete
        assert place.rows() == truth
    assert step >= 8


def dying(do, left: Iterator[int]):
    def dies(self: MemoryFileSystem, *given: object, **more: object) -> None:
        if next(left, 0) == 0:
            raise KilledError
        do(self, *given, **more)

    return dies


@pytest.mark.parametrize("form", DATABASES)
async def test_killed_runs_of_many_machines_finish_the_export(simulation, memory_place, truth, killed, tmp_path, form):
    for number in range(4):
        simulation.faults = revoked_after(request_count(simulation) + 9)
        with killed():
            await slowly(simulation, memory_place, tmp_path / f"machine {number % 3}", format=form)
    simulation.faults = Faults()
    assert (await memory_place.run(simulation, "last", format=form)).complete
    assert memory_place.rows() == truth


@pytest.mark.parametrize("seconds", [0.0, 0.2, SLOW])
async def test_copies_are_rate_limited_and_old_ones_are_removed(
    simulation, memory_place, truth, tmp_path, monkeypatch, seconds
):
    put, made, loop = RemoteSink.put, [], asyncio.get_running_loop()

    def noted(self: RemoteSink, file: Path, name: str) -> None:
        put(self, file, name)
        if "/database-" in name:
            made.append((loop.time(), len(names(memory_place, "database"))))

    monkeypatch.setattr(RemoteSink, "put", noted)
    await slowly(simulation, memory_place, tmp_path / "one", seconds=seconds, format="sqlite")
    times = [time for time, _ in made]
    assert len(times) > (1 if seconds else 0)
    assert all(later - sooner >= 1.0 for sooner, later in pairwise(times[:-1]))
    assert max(remote_place for _, remote_place in made) <= 2


async def test_a_failed_run_leaves_its_database_to_the_next_machine(simulation, memory_place, truth):
    before = request_count(simulation)
    simulation.faults = revoked_after(before + 20)
    with pytest.raises(Exception, match="401"):
        await memory_place.run(simulation, "one", concurrency=1, format="sqlite")
    simulation.faults = Faults()
    failed = request_count(simulation)
    await memory_place.run(simulation, "two", format="sqlite")
    assert request_count(simulation) - failed <= before - 20 + 3
    assert memory_place.rows() == truth


async def test_rows_that_another_run_wrote_during_the_start_are_not_requested_again(
    simulation, memory_place, truth, monkeypatch
):
    check, begun = Preflight.check_files, []

    async def meanwhile(self: Preflight, wanted) -> None:
        await check(self, wanted)
        if not begun:
            begun.append(1)
            await memory_place.run(simulation, "other", format="sqlite")

    before = request_count(simulation)
    monkeypatch.setattr(Preflight, "check_files", meanwhile)
    report = await memory_place.run(simulation, "one", format="sqlite")
    assert request_count(simulation) - before <= before + report.unfinished + 1
    assert memory_place.rows() == truth


@pytest.mark.parametrize("what", ["gone", "altered"])
async def test_a_state_without_its_database_is_reported(simulation, memory_place, truth, killed, tmp_path, what):
    simulation.faults = revoked_after(request_count(simulation) + 20)
    with killed():
        await slowly(simulation, memory_place, tmp_path / "one", format="sqlite")
    simulation.faults = Faults()
    (name,) = names(memory_place, "database")
    if what == "gone":
        memory_place.store.rm_file(memory_place.files()[name])
    else:
        memory_place.store.pipe_file(memory_place.files()[name], b"SQLite")
    with pytest.raises(ExportError, match="gone or altered") as told:
        await memory_place.run(simulation, "two", format="sqlite")
    assert told.value.kind == "state"
    assert (await memory_place.run(simulation, "two", format="sqlite", rebuild=True)).complete
    assert memory_place.rows() == truth


def gone(database: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


def emptied(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f"DELETE FROM {table}")
    connection.close()


async def killed_once(simulation: Simulation, place: RemotePlace, killed, machine: Path) -> None:
    """Have a run ended with some rows, and one killed after it."""
    await place.run(simulation, machine.name, format="sqlite", max_requests=9)
    simulation.faults = revoked_after(request_count(simulation) + 8)
    with killed():
        await slowly(simulation, place, machine, format="sqlite")
    simulation.faults = Faults()
    assert names(place, "database")


async def test_a_machine_without_its_database_downloads_the_pair_from_the_store(
    simulation, memory_place, truth, killed, tmp_path
):
    await killed_once(simulation, memory_place, killed, tmp_path / "one")
    gone(tmp_path / "one" / "export.sqlite")
    assert (await memory_place.run(simulation, "one", format="sqlite")).complete
    assert memory_place.rows() == truth


async def test_a_run_refused_for_its_local_database_does_not_change_the_store(
    simulation, memory_place, truth, killed, tmp_path
):
    await killed_once(simulation, memory_place, killed, tmp_path / "one")
    before = memory_place.contents()
    emptied(tmp_path / "one" / "export.sqlite")
    with pytest.raises(ExportError, match="gone: part"):
        await memory_place.run(simulation, "one", format="sqlite")
    assert memory_place.contents() == before
    assert (await memory_place.run(simulation, "two", format="sqlite")).complete
    assert memory_place.rows() == truth


async def test_a_failed_copy_does_not_end_the_run(simulation, memory_place, truth, tmp_path, monkeypatch, caplog):
    put, failed = RemoteSink.put, []

    def fails(self: RemoteSink, file: Path, name: str) -> None:
        if "/database-" in name and not failed:
            failed.append(name)
            raise ConnectionError("no way there")
        put(self, file, name)

    monkeypatch.setattr(RemoteSink, "put", fails)
    assert (await slowly(simulation, memory_place, tmp_path / "one", format="sqlite")).complete
    assert failed
    assert "no way there" in caplog.text
    assert memory_place.rows() == truth


@pytest.mark.usefixtures("subprocess_writer")
async def test_a_writer_that_cannot_copy_ends_the_run_with_the_reason(simulation, memory_place, tmp_path, monkeypatch):
    def fails(self: SubprocessWriter, path: Path) -> None:
        raise WriterError(f"no copy {path.name}")

    monkeypatch.setattr(SubprocessWriter, "copy", fails)
    with pytest.raises(ExportError, match=r"no copy export\.sqlite") as told:
        await slowly(simulation, memory_place, tmp_path / "one", format="sqlite")
    assert told.value.kind == "writer"
