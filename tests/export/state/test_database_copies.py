"""Exports into a database at a URL: during a run, copies of the database and its state are kept there as a pair."""

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
"""Seconds that each answer takes, so that copies are due between them."""


class KilledError(BaseException):
    """The process is killed: a `BaseException`, so that no handler catches it."""


async def slowly(simulation: Simulation, place: RemotePlace, machine: Path, *, seconds: float = SLOW, **options):
    transport = SlowTransport(simulation.transport(), count=10_000, seconds=seconds)
    async with simulation.client(quotas=False, transport=transport) as client:
        return await client.export.run(
            SELECTION, place.to, state=machine, sink_options=place.options, concurrency=1, **options
        )


def state_files(place: RemotePlace, kind: str) -> list[str]:
    return [name for name in place.files() if name.startswith(f".agora-export/{kind}-")]


@pytest.mark.slow_except("memory-sqlite", "file-duckdb")
@pytest.mark.parametrize("form", DATABASES)
async def test_another_machine_resumes_where_a_killed_run_stopped(
    simulation, remote_place, truth, killed, tmp_path, form
):
    before = request_count(simulation)
    simulation.faults = revoked_after(before + 20)
    with killed():
        await slowly(simulation, remote_place, tmp_path / "one", format=form)
    assert len(state_files(remote_place, "database")) == 1
    simulation.faults = Faults()
    failed = request_count(simulation)
    report = await remote_place.run(simulation, "two", format=form)
    assert request_count(simulation) - failed <= before - 20 + 1 + 3
    assert report.complete
    assert remote_place.rows() == truth
    assert state_files(remote_place, "database") == []


@pytest.mark.slow
async def test_a_kill_at_any_step_leaves_a_matching_pair_of_database_and_state(
    simulation, memory_place, truth, tmp_path, monkeypatch
):
    monkeypatch.setattr(RemoteSync, "sync_after_failure", lambda *_: asyncio.sleep(0))
    for step in count():
        place = RemotePlace(f"{memory_place.to}/{step}", {}, tmp_path / f"{step}")
        await place.run(simulation, "zero", format="sqlite", max_requests=9)  # a database is published
        with monkeypatch.context() as patched:
            steps_left = iter(range(step, -1, -1))  # calls that change the store
            for verb in ("put_file", "cp_file", "rm_file"):
                patched.setattr(MemoryFileSystem, verb, die_at(getattr(MemoryFileSystem, verb), steps_left))
            try:
                await slowly(simulation, place, tmp_path / f"{step}" / "one", seconds=0.05, format="sqlite")
            except KilledError:
                pass
            else:
                break
        assert (await place.run(simulation, "two", format="sqlite")).complete
        assert place.rows() == truth
    assert step >= 8


def die_at(method, steps_left: Iterator[int]):
    def count_step(self: MemoryFileSystem, *args: object, **kwargs: object) -> None:
        if next(steps_left, 0) == 0:
            raise KilledError
        method(self, *args, **kwargs)

    return count_step


@pytest.mark.slow_except("sqlite")
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
    put, copies, loop = RemoteSink.put, [], asyncio.get_running_loop()

    def record_copy(self: RemoteSink, file: Path, name: str) -> None:
        put(self, file, name)
        if "/database-" in name:
            copies.append((loop.time(), len(state_files(memory_place, "database"))))

    monkeypatch.setattr(RemoteSink, "put", record_copy)
    await slowly(simulation, memory_place, tmp_path / "one", seconds=seconds, format="sqlite")
    times = [time for time, _ in copies]
    assert len(times) > (1 if seconds else 0)
    assert all(later - sooner >= 1.0 for sooner, later in pairwise(times[:-1]))
    assert max(stored for _, stored in copies) <= 2


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
    check, started = Preflight.check_files, []

    async def run_other_after_check(self: Preflight, settings) -> None:
        await check(self, settings)
        if not started:
            started.append(True)
            await memory_place.run(simulation, "other", format="sqlite")

    before = request_count(simulation)
    monkeypatch.setattr(Preflight, "check_files", run_other_after_check)
    report = await memory_place.run(simulation, "one", format="sqlite")
    assert request_count(simulation) - before <= before + report.unfinished + 1
    assert memory_place.rows() == truth


@pytest.mark.parametrize("what", ["gone", "altered"])
async def test_a_state_without_its_database_is_reported(simulation, memory_place, truth, killed, tmp_path, what):
    simulation.faults = revoked_after(request_count(simulation) + 20)
    with killed():
        await slowly(simulation, memory_place, tmp_path / "one", format="sqlite")
    simulation.faults = Faults()
    (name,) = state_files(memory_place, "database")
    if what == "gone":
        memory_place.store.rm_file(memory_place.files()[name])
    else:
        memory_place.store.pipe_file(memory_place.files()[name], b"SQLite")
    with pytest.raises(ExportError, match="gone or altered") as error:
        await memory_place.run(simulation, "two", format="sqlite")
    assert error.value.kind == "state"
    assert (await memory_place.run(simulation, "two", format="sqlite", rebuild=True)).complete
    assert memory_place.rows() == truth


def delete_database(database: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


def empty_tables(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f"DELETE FROM {table}")
    connection.close()


async def run_then_kill(simulation: Simulation, place: RemotePlace, killed, machine: Path) -> None:
    """Run an export for a few requests, and a second time until it is killed."""
    await place.run(simulation, machine.name, format="sqlite", max_requests=9)
    simulation.faults = revoked_after(request_count(simulation) + 8)
    with killed():
        await slowly(simulation, place, machine, format="sqlite")
    simulation.faults = Faults()
    assert state_files(place, "database")


async def test_a_machine_without_its_database_downloads_the_pair_from_the_store(
    simulation, memory_place, truth, killed, tmp_path
):
    await run_then_kill(simulation, memory_place, killed, tmp_path / "one")
    delete_database(tmp_path / "one" / "export.sqlite")
    assert (await memory_place.run(simulation, "one", format="sqlite")).complete
    assert memory_place.rows() == truth


async def test_a_run_refused_for_its_local_database_does_not_change_the_store(
    simulation, memory_place, truth, killed, tmp_path
):
    await run_then_kill(simulation, memory_place, killed, tmp_path / "one")
    before = memory_place.contents()
    empty_tables(tmp_path / "one" / "export.sqlite")
    with pytest.raises(ExportError, match="gone: part"):
        await memory_place.run(simulation, "one", format="sqlite")
    assert memory_place.contents() == before
    assert (await memory_place.run(simulation, "two", format="sqlite")).complete
    assert memory_place.rows() == truth


async def test_a_failed_copy_does_not_end_the_run(simulation, memory_place, truth, tmp_path, monkeypatch, caplog):
    put, failed = RemoteSink.put, []

    def fail(self: RemoteSink, file: Path, name: str) -> None:
        if "/database-" in name and not failed:
            failed.append(name)
            raise ConnectionError("no route")
        put(self, file, name)

    monkeypatch.setattr(RemoteSink, "put", fail)
    assert (await slowly(simulation, memory_place, tmp_path / "one", format="sqlite")).complete
    assert failed
    assert "no route" in caplog.text
    assert memory_place.rows() == truth


@pytest.mark.usefixtures("subprocess_writer")
async def test_a_writer_that_cannot_copy_ends_the_run_with_the_reason(simulation, memory_place, tmp_path, monkeypatch):
    def fail(self: SubprocessWriter, path: Path) -> None:
        raise WriterError(f"no copy {path.name}")

    monkeypatch.setattr(SubprocessWriter, "copy", fail)
    with pytest.raises(ExportError, match=r"no copy export\.sqlite") as error:
        await slowly(simulation, memory_place, tmp_path / "one", format="sqlite")
    assert error.value.kind == "writer"
