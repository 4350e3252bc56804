"""A folder for the state of an export must be empty or have such a state; a foreign folder is left untouched."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from helpers.export_runs import export, last_hours, remove_rate_limits, request_count

from agora_analytics import ExportError
from agora_analytics.export.state import state_folder
from agora_analytics.export.state.export_state import ExportState

SELECTION = last_hours(1, "calls")


def add_files(folder: Path) -> None:
    (folder / "writing").mkdir()
    for name in ("2024.txt", "1.md", "export.old"):
        (folder / "writing" / name).write_text("mine")


def add_database(folder: Path, name: str = "export.sqlite") -> None:
    with closing(sqlite3.connect(folder / name)) as made:
        made.execute("CREATE TABLE diary (text)")


def add_other_state(folder: Path) -> None:
    add_database(folder, "state.db")


def add_damaged_state_and_database(folder: Path) -> None:
    (folder / "state.db").write_bytes(b"hello")
    add_database(folder, "diary.sqlite")


def add_damaged_state_and_link(folder: Path) -> None:
    add_link(folder)
    (folder / "state.db").write_bytes(b"hello")


def add_damaged_state_and_files(folder: Path) -> None:
    add_files(folder)
    (folder / "state.db").write_bytes(b"hello")


def add_link(folder: Path) -> None:
    ExportState(folder / "state.db", "place").close()
    (folder.parent / "victim").write_text("precious")
    (folder / "database.copy").symlink_to(folder.parent / "victim")


def add_text(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def add_folder_as_state(folder: Path) -> None:
    (folder / "state.db").mkdir()
    (folder / "state.db" / "thesis.txt").write_text("mine")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FOREIGN = [
    *(add_files, add_database, add_other_state, add_link, add_text, add_folder_as_state),
    *(add_damaged_state_and_database, add_damaged_state_and_link, add_damaged_state_and_files),
]


@pytest.mark.parametrize("fill", FOREIGN)
@pytest.mark.parametrize("rebuild", [False, True])
async def test_a_foreign_folder_is_refused_and_not_touched(tmp_path, simulation, fill, rebuild):
    folder = tmp_path / "given"
    folder.mkdir(mode=0o750)
    fill(folder)
    before = contents(tmp_path)
    to = f"memory://{tmp_path.name}/x"
    with pytest.raises(ExportError, match=r"state='.*given' .*, but has") as error:
        await export(simulation, SELECTION, to, format="sqlite", state=folder, rebuild=rebuild)
    assert error.value.kind == "settings"
    assert (contents(tmp_path), folder.stat().st_mode & 0o777, request_count(simulation)) == (before, 0o750, 0)


def leave_empty(_: Path) -> None:
    pass


def add_new_export(folder: Path) -> None:
    """Leave what an export leaves that was killed before it had a state."""
    (folder / "writing").mkdir()
    (folder / "writing.lock").touch()
    (folder / "state.db").touch()


def add_killed_run(folder: Path) -> None:
    """Leave what a killed process leaves whose state is only in the write-ahead log."""
    other = folder.parent / "other"
    state = ExportState(other / "state.db", "place")
    for path in other.iterdir():
        shutil.copy(path, folder)
    state.close()
    assert (folder / "state.db-wal").stat().st_size
    (folder / "writing").mkdir()
    (folder / "writing" / "1.jsonl").touch()


@pytest.mark.parametrize("fill", [leave_empty, add_new_export, add_killed_run])
async def test_an_empty_folder_and_one_with_a_state_are_accepted(tmp_path, simulation, fill):
    remove_rate_limits(simulation)
    folder = tmp_path / "given"
    folder.mkdir()
    fill(folder)
    for _ in range(2):
        report = await export(simulation, SELECTION, f"memory://{tmp_path.name}/x", state=folder)
    assert report.complete


async def test_a_folder_that_is_a_symbolic_link_is_refused(tmp_path, simulation):
    (tmp_path / "mine").mkdir()
    (tmp_path / "given").symlink_to(tmp_path / "mine")
    with pytest.raises(ExportError, match="is a symbolic link, which is not followed"):
        await export(simulation, SELECTION, f"memory://{tmp_path.name}/x", state=tmp_path / "given")
    assert (list((tmp_path / "mine").iterdir()), request_count(simulation)) == ([], 0)


async def test_a_damaged_state_is_reported_as_damaged(tmp_path, simulation):
    (tmp_path / "state.db").write_bytes(b"hello" * 5_000)
    with pytest.raises(ExportError, match="is damaged") as error:
        await export(simulation, SELECTION, f"memory://{tmp_path.name}/x", state=tmp_path)
    assert error.value.kind == "state"


@pytest.mark.parametrize("content", [b"", b"hello" * 5_000], ids=["emptied", "overwritten"])
@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
@pytest.mark.parametrize("rebuild", [False, True])
async def test_a_damaged_state_beside_leftovers_of_exports_is_reported_as_damaged(
    tmp_path, simulation, memory_place, content, form, rebuild
):
    remove_rate_limits(simulation)
    await memory_place.run(simulation, "one", selection=SELECTION, format=form, max_requests=2)
    (tmp_path / "one" / "state.copy").touch()
    (tmp_path / "one" / "state.copy-wal").touch()
    (tmp_path / "one" / "writing" / "1.jsonl").touch()
    (tmp_path / "one" / "state.db").write_bytes(content)
    before, cost = names(tmp_path / "one"), request_count(simulation)
    with pytest.raises(ExportError, match="has a damaged state") as error:
        await memory_place.run(simulation, "one", selection=SELECTION, format=form, rebuild=rebuild)
    assert (error.value.kind, "another folder" in error.value.hint) == ("state", True)
    assert (names(tmp_path / "one"), request_count(simulation)) == (before, cost)
    assert (await memory_place.run(simulation, "two", selection=SELECTION, format=form)).complete


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


async def test_a_foreign_file_is_reported_although_the_folder_cannot_be_read_in_full(tmp_path, simulation, monkeypatch):
    folder = tmp_path / "state"
    folder.mkdir()
    add_text(folder)

    def fail(_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(state_folder, "_is_damaged", fail)
    with pytest.raises(ExportError, match=r"has notes\.txt"):
        await export(simulation, SELECTION, f"file://{tmp_path}/export", state=folder)
    assert request_count(simulation) == 0
