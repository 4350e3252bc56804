"""A folder given for an export's state is taken where it is empty, or where it has one: nothing else is touched."""

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


def files(folder: Path) -> None:
    (folder / "writing").mkdir()
    for name in ("2024.txt", "1.md", "export.old"):
        (folder / "writing" / name).write_text("mine")


def database(folder: Path, name: str = "export.sqlite") -> None:
    with closing(sqlite3.connect(folder / name)) as made:
        made.execute("CREATE TABLE diary (text)")


def another_state(folder: Path) -> None:
    database(folder, "state.db")


def damaged_and_more(folder: Path) -> None:
    (folder / "state.db").write_bytes(b"hello")
    database(folder, "diary.sqlite")


def damaged_beside_a_link(folder: Path) -> None:
    link(folder)
    (folder / "state.db").write_bytes(b"hello")


def damaged_and_files(folder: Path) -> None:
    files(folder)
    (folder / "state.db").write_bytes(b"hello")


def link(folder: Path) -> None:
    ExportState(folder / "state.db", "place").close()
    (folder.parent / "victim").write_text("precious")
    (folder / "database.copy").symlink_to(folder.parent / "victim")


def text(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def folders(folder: Path) -> None:
    (folder / "state.db").mkdir()
    (folder / "state.db" / "thesis.txt").write_text("mine")


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FILLED = [
    *(files, database, another_state, link, text, folders),
    *(damaged_and_more, damaged_beside_a_link, damaged_and_files),
]


@pytest.mark.parametrize("fill", FILLED)
@pytest.mark.parametrize("rebuild", [False, True])
async def test_a_foreign_folder_is_refused_and_not_touched(tmp_path, simulation, fill, rebuild):
    folder = tmp_path / "given"
    folder.mkdir(mode=0o750)
    fill(folder)
    before = held(tmp_path)
    to = f"memory://{tmp_path.name}/x"
    with pytest.raises(ExportError, match=r"state='.*given' .*, but has") as error:
        await export(simulation, SELECTION, to, format="sqlite", state=folder, rebuild=rebuild)
    assert error.value.kind == "settings"
    assert (held(tmp_path), folder.stat().st_mode & 0o777, request_count(simulation)) == (before, 0o750, 0)


def nothing(_: Path) -> None:
    pass


def begun(folder: Path) -> None:
    """As it is where an export was killed before it had a state."""
    (folder / "writing").mkdir()
    (folder / "writing.lock").touch()
    (folder / "state.db").touch()


def killed(folder: Path) -> None:
    """As it is where a process was killed whose state is in SQLite's log of changes alone."""
    other = folder.parent / "other"
    state = ExportState(other / "state.db", "place")
    for path in other.iterdir():
        shutil.copy(path, folder)
    state.close()
    assert (folder / "state.db-wal").stat().st_size
    (folder / "writing").mkdir()
    (folder / "writing" / "1.jsonl").touch()


@pytest.mark.parametrize("fill", [nothing, begun, killed])
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


@pytest.mark.parametrize("held", [b"", b"hello" * 5_000], ids=["emptied", "overwritten"])
@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
@pytest.mark.parametrize("rebuild", [False, True])
async def test_a_damaged_state_beside_leftovers_of_exports_is_reported_as_damaged(
    tmp_path, simulation, memory_place, held, form, rebuild
):
    remove_rate_limits(simulation)
    await memory_place.run(simulation, "one", selection=SELECTION, format=form, max_requests=2)
    (tmp_path / "one" / "state.copy").touch()
    (tmp_path / "one" / "state.copy-wal").touch()
    (tmp_path / "one" / "writing" / "1.jsonl").touch()
    (tmp_path / "one" / "state.db").write_bytes(held)
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
    text(folder)

    def unreadable(_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(state_folder, "_is_damaged", unreadable)
    with pytest.raises(ExportError, match=r"has notes\.txt"):
        await export(simulation, SELECTION, f"file://{tmp_path}/export", state=folder)
    assert request_count(simulation) == 0
