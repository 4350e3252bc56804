"""Exports whose files or state are not what they were: noticed before anything is asked for."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from helpers.export_files import data_files, manifest_of
from helpers.export_runs import DAY, NOON, export, last_hours, remove_rate_limits, request_count

from agora_analytics import ExportError, Insight, Selection
from agora_analytics.export.sinks import FileStat, LocalSink
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.inventory import Differences, compare
from agora_analytics.export.state.staging import PartInfo
from agora_analytics.export.write.target import DatabaseTarget, FileTarget, part_path
from agora_analytics.simulator import Simulation

FORMS = ("jsonl", "csv", "parquet", "sqlite", "duckdb")
SELECTION = last_hours(2, "calls", "sessions")


@pytest.fixture
async def refused(tmp_path: Path, simulation: Simulation):
    """Runs an export again after something was done to it; returns what the refusal says, once nothing was asked."""
    remove_rate_limits(simulation)

    async def run(do: Callable[[Path], object], form: str = "jsonl", most: int | None = 8) -> str:
        folder = tmp_path / "export"
        for limit in (most, None):
            await export(simulation, SELECTION, folder, format=form, max_requests=limit)
        do(folder)
        before, held = request_count(simulation), contents(folder)
        for _ in range(2):  # a run that was refused makes the next one no easier
            with pytest.raises(ExportError) as error:
                await export(simulation, SELECTION, folder, format=form)
        assert request_count(simulation) == before
        assert contents(folder) == held
        assert error.value.kind == "state"
        assert "export into another place" in error.value.hint
        return str(error.value)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """What is in all files but those of the state."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".agora-export" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def state_of(folder: Path) -> Path:
    return folder / ".agora-export" / "state.db"


def emptied(folder: Path) -> None:
    state_of(folder).write_bytes(b"")


def without(folder: Path) -> None:
    shutil.rmtree(folder / ".agora-export")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lose", [emptied, without])
async def test_files_without_their_state_are_not_written_again(refused, form, lose):
    told = await refused(lose, form)
    assert "the state of the export that wrote it is gone or empty" in told


async def test_a_folder_copied_without_its_state_is_detected(refused):
    def copied(folder: Path) -> None:
        shutil.copytree(folder, folder.parent / "other", ignore=shutil.ignore_patterns(".agora-export"))
        shutil.rmtree(folder)
        (folder.parent / "other").rename(folder)

    assert "gone or empty" in await refused(copied)


@pytest.mark.parametrize("form", FORMS)
async def test_a_deleted_file_is_detected(refused, form):
    told = await refused(lambda folder: data_files(folder, "sessions")[0].unlink(), form)
    assert "gone: " in told


@pytest.mark.parametrize("form", FORMS)
async def test_an_altered_file_of_equal_size_and_age_is_detected(refused, form):
    def alter(folder: Path) -> None:
        path = data_files(folder, "sessions")[0]
        before, held = path.stat(), bytearray(path.read_bytes())
        held[len(held) // 2] ^= 1
        path.write_bytes(held)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert "altered: " in await refused(alter, form)


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
async def test_the_database_of_a_killed_run_is_compared_part_by_part(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path, format=form)
    with sqlite3.connect(state_of(tmp_path)) as state:
        state.execute("DELETE FROM database")  # as it is while a run has it open
    state.close()
    assert (await export(simulation, SELECTION, tmp_path, format=form)).complete
    with sqlite3.connect(state_of(tmp_path)) as state:
        state.execute("DELETE FROM database")
        state.execute("UPDATE parts SET size = size + 1 WHERE id = 1")
    state.close()
    with pytest.raises(ExportError, match=r"altered: part 1 of \w+"):
        await export(simulation, SELECTION, tmp_path, format=form)
    (tmp_path / f"export.{form}").unlink()
    with pytest.raises(ExportError, match=f"gone: export.{form}"):
        await export(simulation, SELECTION, tmp_path, format=form)
    assert not (tmp_path / f"export.{form}").exists()  # nor is an empty one made in its place


async def test_a_duplicate_or_foreign_file_is_detected(refused):
    def double(folder: Path) -> None:
        path = data_files(folder, "calls")[0]
        shutil.copy(path, path.with_name("part-00001 (copy).jsonl"))

    told = await refused(double)
    assert "part-00001 (copy).jsonl" in told
    assert "Move the unknown files away" in told


async def test_a_state_older_than_its_files_is_detected(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path / "export", max_requests=8)
    shutil.copytree(tmp_path / "export" / ".agora-export", tmp_path / "backup")
    await export(simulation, SELECTION, tmp_path / "export")
    shutil.rmtree(tmp_path / "export" / ".agora-export")
    shutil.copytree(tmp_path / "backup", tmp_path / "export" / ".agora-export")
    with pytest.raises(ExportError, match="unknown: "):
        await export(simulation, SELECTION, tmp_path / "export")


async def test_a_state_knows_a_file_before_it_exists_although_its_log_is_lost(tmp_path, simulation, monkeypatch):
    put, known = LocalSink.put, []

    def looked(self: LocalSink, file: Path, name: str) -> None:
        if name != "manifest.json":
            shutil.copy(state_of(self.folder), tmp_path / "cut.db")  # what a power cut leaves
            state = ExportState(tmp_path / "cut.db", "place")
            known.append(name in {part_path(part, ".jsonl") for part, _ in state.known_parts()})
            state.close()
        put(self, file, name)

    monkeypatch.setattr(LocalSink, "put", looked)
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path / "export")
    assert known
    assert all(known)


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
async def test_no_manifest_is_complete_while_a_listed_file_is_being_replaced(tmp_path, simulation, monkeypatch, form):
    remove_rate_limits(simulation)
    insights = [Insight("userCount", granularity="1h")]
    selection = Selection(NOON - DAY, NOON - 60, datasets=("insights",), insights=insights)
    assert (await export(simulation, selection, tmp_path, format=form)).provisional
    claimed = []
    for target, names in ((FileTarget, ("publish", "remove")), (DatabaseTarget, ("publish", "remove"))):
        for name in names:
            monkeypatch.setattr(target, name, telling(getattr(target, name), tmp_path, claimed))
    await asyncio.sleep(3 * DAY)
    report = await export(simulation, selection, tmp_path, format=form)
    assert report.complete
    assert claimed
    assert not any(claimed)
    assert manifest_of(tmp_path)["complete"]


def telling(do, folder: Path, claimed: list[bool]):
    """What does as before, and notes what the manifest says meanwhile."""

    def done(self, part):
        claimed.append(manifest_of(folder)["complete"])
        return do(self, part)

    return done


async def test_files_that_readers_ignore_are_allowed(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path)
    folder = data_files(tmp_path, "calls")[0].parent
    for name in ("_SUCCESS", ".DS_Store"):
        (folder / name).write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    assert (await export(simulation, SELECTION, tmp_path)).complete


async def test_an_export_copied_with_its_state_resumes(tmp_path, simulation, monkeypatch):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    assert (await export(simulation, SELECTION, tmp_path / "second")).complete

    def never(*_: object) -> str:
        raise AssertionError("read once more")

    monkeypatch.setattr(LocalSink, "digest", never)
    assert (await export(simulation, SELECTION, tmp_path / "second")).complete


async def test_a_file_in_a_folder_without_an_export_is_left_alone(tmp_path, simulation):
    (tmp_path / "manifest.json").write_text("a web page's")
    with pytest.raises(ExportError, match=r"has manifest\.json"):
        await export(simulation, SELECTION, tmp_path)
    assert (tmp_path / "manifest.json").read_text() == "a web page's"


async def test_a_manifest_has_size_and_checksum_of_each_file(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path, format="sqlite")
    held = (tmp_path / "export.sqlite").read_bytes()
    told = manifest_of(tmp_path)["database"]
    assert told == {"bytes": len(held), "sha256": hashlib.sha256(held).hexdigest()}


# A state that is damaged


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def short_of_a_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])  # SQLite reads a null in its place


def garbled(path: Path) -> None:
    held = path.read_bytes()
    path.write_bytes(held[:100] + bytes(range(1, 251)) * 40 + held[10_100:])


def torn(path: Path) -> None:
    """Spoil a page that nothing reads at once."""
    with sqlite3.connect(path) as state:
        ((page,), (size,)) = (
            state.execute(query).fetchone()
            for query in ("SELECT rootpage FROM sqlite_master WHERE name = 'halves'", "PRAGMA page_size")
        )
    state.close()
    held = path.read_bytes()
    path.write_bytes(held[: (page - 1) * size] + b"\xff" * size + held[page * size :])


def overwritten(path: Path) -> None:
    path.write_bytes(b"hello")


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE x (a)")
    other.close()


def later(path: Path) -> None:
    with sqlite3.connect(path) as state:
        state.execute("PRAGMA user_version = 99")
    state.close()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "malformed"),
        (short_of_a_byte, "its last page is cut short"),
        (garbled, ""),
        (torn, ""),
        (overwritten, "not a database"),
        (foreign, "not the state of an export"),
        (later, "its version is 99"),
    ],
)
async def test_a_damaged_state_is_reported_as_damaged(refused, damage, reason):
    told = await refused(lambda folder: damage(state_of(folder)))
    assert "is damaged" in told
    assert reason in told
    assert "room" not in told


# The comparison itself


FACTS = PartInfo(rows=1, bytes=5, sha256="aa", mark="1")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"a": FileStat(5, "1")}, Differences()),
        ({"a": FileStat(5, "2")}, Differences(marks={"a": "2"})),
        ({"a": FileStat(6, "1")}, Differences(altered=("a",))),
        ({}, Differences(lost=("a",))),
        ({"a": FileStat(5, "1"), "b": FileStat(5, "1")}, Differences()),
        ({"a": FileStat(5, "1"), "c": FileStat(5, "1")}, Differences(unknown=("c",))),
    ],
)
def test_files_are_compared_by_size_then_mark_then_checksum(seen, expected):
    assert compare({"a": FACTS, "b": None}, seen, lambda _: "aa") == expected


@pytest.mark.parametrize(
    ("digest", "expected"), [("aa", Differences(marks={"a": ""})), ("bb", Differences(altered=("a",)))]
)
def test_without_marks_files_are_compared_by_checksum(digest, expected):
    assert compare({"a": attrs.evolve(FACTS, mark="")}, {"a": FileStat(5, "")}, lambda _: digest) == expected


def test_another_checksum_means_an_altered_file():
    assert compare({"a": FACTS}, {"a": FileStat(5, "2")}, lambda _: "bb") == Differences(altered=("a",))


@pytest.mark.parametrize(
    ("names", "told"), [("a", "gone: a"), ("abc", "gone: a, b, c"), ("abcde", "gone: a, b, c and 2 more")]
)
def test_an_error_lists_a_few_names_and_the_number_of_others(names, told):
    assert str(Differences(lost=tuple(names))) == told
