"""Exports of several machines to one URL: a copy of the state beside the files lets each continue."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest
from helpers.export_machines import DATASETS, SELECTION, RemotePlace, SlowTransport
from helpers.export_runs import last_hours, remove_rate_limits, request_count, revoked_after

from agora_analytics import ExportError, Unauthorized
from agora_analytics.export.sinks.remote import RemoteSink
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.preflight import Preflight
from agora_analytics.export.state.remote_copy import RemoteSync
from agora_analytics.export.write import part_writer
from agora_analytics.export.write.part_writer import PartWriter
from agora_analytics.export.write.target import FileTarget
from agora_analytics.simulator import Faults

FORMS = ("jsonl", "csv", "parquet", "delta", "sqlite", "duckdb")


@pytest.mark.slow_except("memory", "file")
async def test_another_machine_resumes_where_a_run_ended_without_repeating_requests(simulation, remote_place, truth):
    before = request_count(simulation)
    await remote_place.run(simulation, "one", max_requests=10)
    report = await remote_place.run(simulation, "two")
    assert report.complete
    assert remote_place.rows() == truth
    again = request_count(simulation)
    await remote_place.run(simulation, "three")
    assert request_count(simulation) - again <= report.unfinished
    assert again - before <= before + 2


@pytest.mark.slow_except("jsonl", "sqlite")
@pytest.mark.parametrize("form", FORMS)
async def test_runs_of_two_machines_alternate_in_every_format(simulation, memory_place, truth, form):
    longer = last_hours(2, *DATASETS)
    for machine, max_requests in (("one", 9), ("two", 9), ("one", 9), ("two", None), ("one", None)):
        report = await memory_place.run(simulation, machine, format=form, selection=longer, max_requests=max_requests)
    assert report.complete
    assert report.rows == row_counts(memory_place.rows()) == row_counts(truth)


def row_counts(rows: dict[str, list]) -> dict[str, int]:
    return {dataset: len(found) for dataset, found in rows.items()}


async def test_a_failed_run_leaves_its_rows_to_the_next_machine(simulation, memory_place, truth):
    before = request_count(simulation)
    simulation.faults = revoked_after(before + 20)
    with pytest.raises(Unauthorized):
        await memory_place.run(simulation, "one", concurrency=1)
    simulation.faults = Faults()
    failed = request_count(simulation)
    await memory_place.run(simulation, "two")
    assert memory_place.rows() == truth
    assert request_count(simulation) - failed <= before - 20 + 3


async def test_killed_runs_of_many_machines_have_every_row_once(simulation, memory_place, truth, killed):
    for number in range(6):
        simulation.faults = revoked_after(request_count(simulation) + 12)
        with killed():
            await memory_place.run(simulation, f"machine {number}", concurrency=1)
    simulation.faults = Faults()
    await memory_place.run(simulation, "last")
    assert memory_place.rows() == truth


async def test_a_resumed_run_knows_a_file_whose_run_was_killed_after_publishing_it(
    simulation, memory_place, truth, monkeypatch
):
    put = RemoteSink.put

    def put_and_die(self: RemoteSink, file: Path, name: str) -> None:
        put(self, file, name)
        if name.startswith("sessions/"):
            raise OSError("killed")

    async def skip_sync(_: RemoteSync, __: object) -> None:
        return

    with monkeypatch.context() as patched:
        patched.setattr(RemoteSink, "put", put_and_die)
        patched.setattr(RemoteSync, "sync_after_failure", skip_sync)
        with pytest.raises(ExportError, match="killed"):
            await memory_place.run(simulation, "one")
    assert [name for name in memory_place.files() if name.startswith("sessions/")]
    before = request_count(simulation)
    report = await memory_place.run(simulation, "two")
    assert request_count(simulation) - before <= report.unfinished
    assert memory_place.rows() == truth


async def test_copies_are_written_periodically_before_the_first_part(simulation, memory_place, truth, killed, tmp_path):
    before = request_count(simulation)
    simulation.faults = revoked_after(before + 20)
    slow = SlowTransport(simulation.transport(), count=1_000, seconds=3.0)
    async with simulation.client(quotas=False, transport=slow) as client:
        with killed():
            await client.export.run(SELECTION, memory_place.to, format="jsonl", state=tmp_path / "one", concurrency=1)
    simulation.faults = Faults()
    failed = request_count(simulation)
    await memory_place.run(simulation, "two")
    assert request_count(simulation) - failed <= before - 20 + 1 + 3
    assert memory_place.rows() == truth


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_the_later_of_two_runs_continues_and_the_earlier_ends(simulation, memory_place, truth, tmp_path, form):
    slow = SlowTransport(simulation.transport(), count=12)
    async with simulation.client(quotas=False, transport=slow) as client:
        first = asyncio.create_task(
            client.export.run(SELECTION, memory_place.to, format=form, state=tmp_path / "one", concurrency=1)
        )
        await slow.reached.wait()
        assert (await memory_place.run(simulation, "two", format=form)).complete
        before = memory_place.rows()
        slow.released.set()
        with pytest.raises(ExportError, match="another run of the export"):
            await first
    assert memory_place.rows() == before
    for machine in ("one", "two"):
        assert (await memory_place.run(simulation, machine, format=form)).complete
        assert row_counts(memory_place.rows()) == row_counts(truth)


@pytest.fixture
def second_run_before(simulation, memory_place, monkeypatch):
    """Return a function that lets machine two run to its end once, just before machine one calls a method.

    It returns a list: empty, then with "started" as its first item, and at last with the report as its second.
    """
    progress = []

    def second_run_before(owner: type, name: str, when=lambda *_: True, options=None) -> list[object]:
        method = getattr(owner, name)

        async def run_first(self, *args):
            if not progress and when(self, *args):
                progress.append("started")
                progress.append(await memory_place.run(simulation, "two", **(options or {})))
            return await method(self, *args)

        monkeypatch.setattr(owner, name, run_first)
        return progress

    return second_run_before


async def test_a_superseded_run_overwrites_no_part_of_the_later_one(
    simulation, memory_place, truth, second_run_before, monkeypatch
):
    sealed_datasets, seal = [], ExportState.seal_part
    monkeypatch.setattr(
        ExportState,
        "seal_part",
        lambda self, part, *args: sealed_datasets.append(part.dataset) or seal(self, part, *args),
    )
    monkeypatch.setattr(FileTarget, "part_size", 2_000)  # the other run seals another part under the same name
    monkeypatch.setattr(part_writer, "_FLUSH_SIZE", 1_000)

    def after_sealing_sessions(self: RemoteSync, *_: object) -> bool:
        if "sessions" in sealed_datasets and self._path.parent.name == "one":
            monkeypatch.setattr(FileTarget, "part_size", 2**24)
            monkeypatch.setattr(part_writer, "_FLUSH_SIZE", 2**19)
            return True
        return False

    second_run = second_run_before(RemoteSync, "_upload_state", after_sealing_sessions)
    with pytest.raises(ExportError, match="another run of the export") as error:
        await memory_place.run(simulation, "one", concurrency=1)
    assert (error.value.kind, second_run[1].complete) == ("superseded", True)
    assert memory_place.rows() == truth
    await memory_place.run(simulation, "three")
    assert memory_place.rows() == truth


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_a_run_superseded_at_its_last_step_leaves_the_manifest_alone(
    simulation, memory_place, truth, second_run_before, form
):
    second_run = second_run_before(PartWriter, "write_manifest", options={"format": form})
    with pytest.raises(ExportError, match="another run of the export"):
        await memory_place.run(simulation, "one", format=form, max_requests=9)
    assert second_run[1].complete
    assert json.loads(memory_place.contents()["manifest.json"])["complete"]
    assert memory_place.rows() == truth


async def test_of_concurrent_starts_into_one_url_one_runs(simulation, memory_place, truth):
    runs = [memory_place.run(simulation, f"machine {number}") for number in range(3)]
    done = await asyncio.gather(*runs, return_exceptions=True)
    assert all(isinstance(one, ExportError) or one.complete for one in done)
    assert (await memory_place.run(simulation, "last")).complete
    assert memory_place.rows() == truth


async def test_a_killed_machine_resumes_from_its_local_state_if_no_other_ran(simulation, memory_place, truth, killed):
    before = request_count(simulation)
    simulation.faults = revoked_after(before + 20)
    with killed():
        await memory_place.run(simulation, "one", concurrency=1)
    simulation.faults = Faults()
    failed = request_count(simulation)
    await memory_place.run(simulation, "one")
    assert request_count(simulation) - failed <= before - 20 + 3
    assert memory_place.rows() == truth


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_files_without_any_state_are_refused_or_rebuilt(simulation, memory_place, truth, form):
    await memory_place.run(simulation, "one", format=form)
    for name, path in memory_place.files().items():
        if name.startswith(".agora-export/"):
            memory_place.store.rm_file(path)
    before = request_count(simulation)
    with pytest.raises(ExportError, match="gone or empty"):
        await memory_place.run(simulation, "two", format=form)
    assert request_count(simulation) == before
    report = await memory_place.run(simulation, "two", format=form, rebuild=True)
    assert report.complete
    assert request_count(simulation) - before <= report.unfinished
    assert row_counts(memory_place.rows()) == row_counts(truth)


@pytest.mark.parametrize(
    "text",
    [b"", b"hello", gzip.compress(b"hello"), gzip.compress(b"x" * 99)[:-9]],
    ids=["empty", "not compressed", "no database", "cut short"],
)
async def test_a_damaged_copy_is_reported_and_rebuilt(simulation, memory_place, truth, text):
    await memory_place.run(simulation, "one")
    (path,) = [path for name, path in memory_place.files().items() if name.startswith(".agora-export/state-")]
    memory_place.store.pipe_file(path, text)
    with pytest.raises(ExportError, match="is damaged"):
        await memory_place.run(simulation, "two")
    assert (await memory_place.run(simulation, "two", rebuild=True)).complete
    assert memory_place.rows() == truth


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize("cause", [TimeoutError("no answer"), EOFError("no answer")])
async def test_a_copy_that_cannot_be_downloaded_is_not_reported_as_damaged(
    simulation, memory_place, truth, monkeypatch, rebuild, cause
):
    await memory_place.run(simulation, "one", max_requests=9)
    before = memory_place.contents()

    def fail(*_: object) -> None:
        raise cause

    with monkeypatch.context() as patched:
        patched.setattr(RemoteSink, "get", fail)
        with pytest.raises(ExportError, match="no answer") as error:
            await memory_place.run(simulation, "two", rebuild=rebuild)
    assert (error.value.kind, memory_place.contents()) == ("disk", before)
    assert (await memory_place.run(simulation, "two", rebuild=rebuild)).complete
    assert memory_place.rows() == truth


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_a_file_deleted_or_altered_in_the_store_is_detected(simulation, memory_place, truth, form):
    await memory_place.run(simulation, "one", format=form)
    data = min(path for name, path in memory_place.files().items() if name.startswith(("sessions/", "export.")))
    content = memory_place.store.cat_file(data)
    memory_place.store.pipe_file(data, content[:-1] + b"X")
    with pytest.raises(ExportError, match="altered: "):
        await memory_place.run(simulation, "one", format=form)
    memory_place.store.rm_file(data)
    for machine in ("one", "two"):
        with pytest.raises(ExportError, match="gone: "):
            await memory_place.run(simulation, machine, format=form)
    memory_place.store.pipe_file(data, content)
    assert (await memory_place.run(simulation, "two", format=form)).complete


def delete_state(remote_place: RemotePlace) -> None:
    overwrite(remote_place, ".agora-export/", None)


def damage_state(remote_place: RemotePlace) -> None:
    overwrite(remote_place, ".agora-export/state-", b"hello")


def delete_data(remote_place: RemotePlace) -> None:
    overwrite(remote_place, ("sessions/", "export."), None)


def alter_data(remote_place: RemotePlace) -> None:
    overwrite(remote_place, ("sessions/", "export."), b"hello")


def no_change(_: RemotePlace) -> None:
    pass


def overwrite(remote_place: RemotePlace, prefix: str | tuple[str, ...], content: bytes | None) -> None:
    for name, path in remote_place.files().items():
        if name.startswith(prefix):
            remote_place.store.rm_file(path) if content is None else remote_place.store.pipe_file(path, content)


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
@pytest.mark.parametrize("machine", ["one", "two"])
@pytest.mark.parametrize(
    ("change", "options"),
    [
        *((change, {}) for change in (delete_state, damage_state, delete_data, alter_data)),
        (no_change, {"selection": last_hours(2, "calls")}),
        (no_change, {"format": "csv"}),
        (no_change, {"selection": last_hours(2, "calls"), "rebuild": True}),
    ],
)
async def test_a_refused_run_does_not_change_the_store(simulation, memory_place, form, machine, change, options):
    remove_rate_limits(simulation)
    await memory_place.run(simulation, "one", format=form, max_requests=9)
    change(memory_place)
    if change in {delete_state, damage_state}:
        machine = "two"  # machine one would continue from its local state
    before, cost = memory_place.contents(), request_count(simulation)
    with pytest.raises(ExportError):
        await memory_place.run(simulation, machine, **{"format": form} | options)
    assert (memory_place.contents(), request_count(simulation)) == (before, cost)


async def test_a_run_refused_after_its_claim_releases_it(simulation, memory_place, truth, monkeypatch):
    await memory_place.run(simulation, "one", max_requests=9)
    before = memory_place.contents()

    async def refused(*_: object) -> None:
        raise ExportError("refused", kind="state")

    with monkeypatch.context() as patched:
        patched.setattr(Preflight, "check_parts", refused)
        with pytest.raises(ExportError, match="refused"):
            await memory_place.run(simulation, "two")
    assert memory_place.contents() == before
    assert (await memory_place.run(simulation, "two")).complete
    assert memory_place.rows() == truth


async def test_an_export_moved_to_another_url_resumes(simulation, memory_place, truth, tmp_path):
    await memory_place.run(simulation, "one")
    other = RemotePlace(f"memory://{tmp_path.name}/moved", {}, tmp_path)
    for name, path in memory_place.files().items():
        memory_place.store.makedirs(f"/{tmp_path.name}/moved/{name}".rpartition("/")[0], exist_ok=True)
        memory_place.store.pipe_file(f"/{tmp_path.name}/moved/{name}", memory_place.store.cat_file(path))
    before = request_count(simulation)
    report = await other.run(simulation, "two")
    assert request_count(simulation) - before <= report.unfinished
    assert other.rows() == truth


async def test_one_copy_is_kept_and_holds_no_secret(simulation, memory_place, truth):
    for _ in range(3):
        await memory_place.run(simulation, "one")
    names = [name for name in memory_place.files() if name.startswith(".agora-export/")]
    assert [name.partition("-00000003")[0] for name in sorted(names)] == [".agora-export/run", ".agora-export/state"]
    plain = gzip.decompress(memory_place.contents()[max(names)])
    assert simulation.service.customer_secret.encode() not in plain


async def test_of_runs_with_the_same_claim_number_one_continues(simulation, memory_place, truth, monkeypatch):
    monkeypatch.setattr(
        RemoteSink, "create", lambda self, name, content: self._store.pipe_file(self._path(name), content)
    )
    monkeypatch.setattr(RemoteSync, "_list_files", list_at_the_same_time(RemoteSync._list_files))
    runs = [memory_place.run(simulation, f"machine {number}") for number in range(3)]
    done = await asyncio.gather(*runs, return_exceptions=True)
    assert sum(isinstance(one, ExportError) for one in done) == 2
    assert memory_place.rows() == truth


def list_at_the_same_time(list_files):
    """Return a method that lists files; three runs list the claims for the first time before any of them continues."""
    barrier = asyncio.Barrier(3)
    listed: set[int] = set()

    async def list_together(self: RemoteSync, *kinds: str):
        files = await list_files(self, *kinds)
        if "run" in kinds and id(self) not in listed:
            listed.add(id(self))
            await barrier.wait()
        return files

    return list_together
