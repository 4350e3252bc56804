"""Exports to a URL, from machines that share nothing else: the state lies beside the files."""

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

FORMS = ("jsonl", "csv", "parquet", "sqlite", "duckdb")


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


@pytest.mark.parametrize("form", FORMS)
async def test_runs_of_two_machines_alternate_in_every_format(simulation, memory_place, truth, form):
    longer = last_hours(2, *DATASETS)
    for machine, most in (("one", 9), ("two", 9), ("one", 9), ("two", None), ("one", None)):
        report = await memory_place.run(simulation, machine, format=form, selection=longer, max_requests=most)
    assert report.complete
    found = {name: len(some) for name, some in memory_place.rows().items()}
    assert report.rows == found == {name: len(some) for name, some in truth.items()}


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

    def dies(self: RemoteSink, file: Path, name: str) -> None:
        put(self, file, name)
        if name.startswith("sessions/"):
            raise OSError("killed")

    async def nothing(_: RemoteSync, __: object) -> None:
        return

    with monkeypatch.context() as patched:
        patched.setattr(RemoteSink, "put", dies)
        patched.setattr(RemoteSync, "sync_after_failure", nothing)
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
    held = SlowTransport(simulation.transport(), count=12)
    async with simulation.client(quotas=False, transport=held) as client:
        first = asyncio.create_task(
            client.export.run(SELECTION, memory_place.to, format=form, state=tmp_path / "one", concurrency=1)
        )
        await held.reached.wait()
        assert (await memory_place.run(simulation, "two", format=form)).complete
        before = memory_place.rows()
        held.released.set()
        with pytest.raises(ExportError, match="another run of the export"):
            await first
    assert memory_place.rows() == before
    for machine in ("one", "two"):
        assert (await memory_place.run(simulation, machine, format=form)).complete
        assert {name: len(some) for name, some in memory_place.rows().items()} == {
            n: len(some) for n, some in truth.items()
        }


@pytest.fixture
def another(simulation, memory_place, monkeypatch):
    """Has machine two run to its end once, just before machine one does a thing."""
    done = []

    def another(owner: type, name: str, when=lambda *_: True, options=None) -> list[object]:
        before = getattr(owner, name)

        async def meanwhile(self, *given):
            if not done and when(self, *given):
                done.append("begun")
                done.append(await memory_place.run(simulation, "two", **(options or {})))
            return await before(self, *given)

        monkeypatch.setattr(owner, name, meanwhile)
        return done

    return another


async def test_a_superseded_run_overwrites_no_part_of_the_later_one(
    simulation, memory_place, truth, another, monkeypatch
):
    sealed, seal = [], ExportState.seal_part
    noted = lambda self, part, *of: sealed.append(part.dataset) or seal(self, part, *of)  # noqa: E731
    monkeypatch.setattr(ExportState, "seal_part", noted)
    monkeypatch.setattr(FileTarget, "part_size", 2_000)  # the other run seals another part under the same name
    monkeypatch.setattr(part_writer, "_FLUSH_SIZE", 1_000)

    def between(self: RemoteSync, *_: object) -> bool:
        if "sessions" in sealed and self._path.parent.name == "one":
            monkeypatch.setattr(FileTarget, "part_size", 2**24)
            monkeypatch.setattr(part_writer, "_FLUSH_SIZE", 2**19)
            return True
        return False

    done = another(RemoteSync, "_upload_state", between)
    with pytest.raises(ExportError, match="another run of the export") as told:
        await memory_place.run(simulation, "one", concurrency=1)
    assert (told.value.kind, done[1].complete) == ("running", True)
    assert memory_place.rows() == truth
    await memory_place.run(simulation, "three")
    assert memory_place.rows() == truth


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_a_run_superseded_at_its_last_step_leaves_the_manifest_alone(
    simulation, memory_place, truth, another, form
):
    done = another(PartWriter, "write_manifest", options={"format": form})
    with pytest.raises(ExportError, match="another run of the export"):
        await memory_place.run(simulation, "one", format=form, max_requests=9)
    assert done[1].complete
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
    assert {name: len(some) for name, some in memory_place.rows().items()} == {
        n: len(some) for n, some in truth.items()
    }


@pytest.mark.parametrize(
    "text",
    [b"", b"hello", gzip.compress(b"hello"), gzip.compress(b"x" * 99)[:-9]],
    ids=["empty", "not packed", "no database", "cut short"],
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
@pytest.mark.parametrize("error", [TimeoutError("no answer"), EOFError("no answer")])
async def test_a_copy_that_cannot_be_downloaded_is_not_reported_as_damaged(
    simulation, memory_place, truth, monkeypatch, rebuild, error
):
    await memory_place.run(simulation, "one", max_requests=9)
    before = memory_place.contents()

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(RemoteSink, "get", fails)
        with pytest.raises(ExportError, match="no answer") as told:
            await memory_place.run(simulation, "two", rebuild=rebuild)
    assert (told.value.kind, memory_place.contents()) == ("disk", before)
    assert (await memory_place.run(simulation, "two", rebuild=rebuild)).complete
    assert memory_place.rows() == truth


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_a_file_deleted_or_altered_in_the_store_is_detected(simulation, memory_place, truth, form):
    await memory_place.run(simulation, "one", format=form)
    data = min(path for name, path in memory_place.files().items() if name.startswith(("sessions/", "export.")))
    held = memory_place.store.cat_file(data)
    memory_place.store.pipe_file(data, held[:-1] + b"X")
    with pytest.raises(ExportError, match="altered: "):
        await memory_place.run(simulation, "one", format=form)
    memory_place.store.rm_file(data)
    for machine in ("one", "two"):
        with pytest.raises(ExportError, match="gone: "):
            await memory_place.run(simulation, machine, format=form)
    memory_place.store.pipe_file(data, held)
    assert (await memory_place.run(simulation, "two", format=form)).complete


def lost_state(remote_place: RemotePlace) -> None:
    spoil(remote_place, ".agora-export/", None)


def damaged_state(remote_place: RemotePlace) -> None:
    spoil(remote_place, ".agora-export/state-", b"hello")


def lost_data(remote_place: RemotePlace) -> None:
    spoil(remote_place, ("sessions/", "export."), None)


def altered_data(remote_place: RemotePlace) -> None:
    spoil(remote_place, ("sessions/", "export."), b"hello")


def nothing(_: RemotePlace) -> None:
    """Leave all as it is."""


def spoil(remote_place: RemotePlace, prefix: str | tuple[str, ...], held: bytes | None) -> None:
    for name, path in remote_place.files().items():
        if name.startswith(prefix):
            remote_place.store.rm_file(path) if held is None else remote_place.store.pipe_file(path, held)


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
@pytest.mark.parametrize("machine", ["one", "two"])
@pytest.mark.parametrize(
    ("do", "options"),
    [
        *((do, {}) for do in (lost_state, damaged_state, lost_data, altered_data)),
        (nothing, {"selection": last_hours(2, "calls")}),
        (nothing, {"format": "csv"}),
        (nothing, {"selection": last_hours(2, "calls"), "rebuild": True}),
    ],
)
async def test_a_refused_run_does_not_change_the_store(simulation, memory_place, form, machine, do, options):
    remove_rate_limits(simulation)
    await memory_place.run(simulation, "one", format=form, max_requests=9)
    do(memory_place)
    if do in {lost_state, damaged_state}:
        machine = "two"  # that which has its own state goes on
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
    monkeypatch.setattr(RemoteSink, "create", lambda self, name, held: self._store.pipe_file(self._path(name), held))
    monkeypatch.setattr(RemoteSync, "_list_files", once_together(RemoteSync._list_files))
    runs = [memory_place.run(simulation, f"machine {number}") for number in range(3)]
    done = await asyncio.gather(*runs, return_exceptions=True)
    assert sum(isinstance(one, ExportError) for one in done) == 2
    assert memory_place.rows() == truth


def once_together(found):
    """Let the first of each look at the runs before any of them claims one."""
    looked = asyncio.Barrier(3)
    begun: set[int] = set()

    async def together(self: RemoteSync, *kinds: str):
        told = await found(self, *kinds)
        if "run" in kinds and id(self) not in begun:
            begun.add(id(self))
            await looked.wait()
        return told

    return together
