"""Missing, altered or unknown files, or a damaged state, are reported before any request."""

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

FORMS = ("jsonl", "csv", "parquet", "delta", "sqlite", "duckdb")
SELECTION = last_hours(2, "calls", "sessions")


@pytest.fixture
async def refusal_after(tmp_path: Path, simulation: Simulation):
    """Return a function that changes an export, checks that it is refused before a request, and returns the message."""
    remove_rate_limits(simulation)

    async def run(change: Callable[[Path], object], form: str = "jsonl") -> str:
        folder = tmp_path / "export"
        for max_requests in (8, None):
            await export(simulation, SELECTION, folder, format=form, max_requests=max_requests)
        change(folder)
        before, content = request_count(simulation), contents(folder)
        for _ in range(2):  # a refusal must not repair or accept anything
            with pytest.raises(ExportError) as error:
                await export(simulation, SELECTION, folder, format=form)
        assert request_count(simulation) == before
        assert contents(folder) == content
        assert error.value.kind == "state"
        assert "export into another place" in error.value.hint
        return str(error.value)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of all files but those of the state."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".agora-export" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def state_file(folder: Path) -> Path:
    return folder / ".agora-export" / "state.db"


def empty_state(folder: Path) -> None:
    state_file(folder).write_bytes(b"")


def delete_state_folder(folder: Path) -> None:
    shutil.rmtree(folder / ".agora-export")


@pytest.mark.slow_except("delete_state_folder-jsonl", "delete_state_folder-sqlite", "empty_state-parquet")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("remove", [empty_state, delete_state_folder])
async def test_files_without_their_state_are_not_written_again(refusal_after, form, remove):
    message = await refusal_after(remove, form)
    assert "the state of the export that wrote it is gone or empty" in message


async def test_a_folder_copied_without_its_state_is_detected(refusal_after):
    def replace_by_copy(folder: Path) -> None:
        shutil.copytree(folder, folder.parent / "other", ignore=shutil.ignore_patterns(".agora-export"))
        shutil.rmtree(folder)
        (folder.parent / "other").rename(folder)

    assert "gone or empty" in await refusal_after(replace_by_copy)


@pytest.mark.parametrize("form", FORMS)
async def test_a_deleted_file_is_detected(refusal_after, form):
    message = await refusal_after(lambda folder: data_files(folder, "sessions")[0].unlink(), form)
    assert "gone: " in message


@pytest.mark.parametrize("form", FORMS)
async def test_an_altered_file_of_equal_size_and_age_is_detected(refusal_after, form):
    def alter(folder: Path) -> None:
        path = data_files(folder, "sessions")[0]
        before, content = path.stat(), bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert "altered: " in await refusal_after(alter, form)


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
async def test_the_database_of_a_killed_run_is_compared_part_by_part(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path, format=form)
    with sqlite3.connect(state_file(tmp_path)) as state:
        state.execute("DELETE FROM database")  # as while a run has the database open
    state.close()
    assert (await export(simulation, SELECTION, tmp_path, format=form)).complete
    with sqlite3.connect(state_file(tmp_path)) as state:
        state.execute("DELETE FROM database")
        state.execute("UPDATE parts SET row_count = row_count + 1 WHERE id = 1")
    state.close()
    with pytest.raises(ExportError, match=r"altered: part 1 of \w+"):
        await export(simulation, SELECTION, tmp_path, format=form)
    (tmp_path / f"export.{form}").unlink()
    with pytest.raises(ExportError, match=f"gone: export.{form}"):
        await export(simulation, SELECTION, tmp_path, format=form)
    assert not (tmp_path / f"export.{form}").exists()  # no empty database was created


async def test_a_duplicate_or_foreign_file_is_detected(refusal_after):
    def copy_file(folder: Path) -> None:
        path = data_files(folder, "calls")[0]
        shutil.copy(path, path.with_name("part-00001 (copy).jsonl"))

    message = await refusal_after(copy_file)
    assert "part-00001 (copy).jsonl" in message
    assert "Move the unknown files away" in message


async def test_a_state_older_than_its_files_is_detected(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path / "export", max_requests=8)
    shutil.copytree(tmp_path / "export" / ".agora-export", tmp_path / "backup")
    await export(simulation, SELECTION, tmp_path / "export")
    shutil.rmtree(tmp_path / "export" / ".agora-export")
    shutil.copytree(tmp_path / "backup", tmp_path / "export" / ".agora-export")
    with pytest.raises(ExportError, match="unknown: "):
        await export(simulation, SELECTION, tmp_path / "export")


async def test_the_database_of_a_state_knows_a_file_before_it_exists_even_without_its_log(
    tmp_path, simulation, monkeypatch
):
    put, known = LocalSink.put, []

    def check_state(self: LocalSink, file: Path, name: str) -> None:
        if name != "manifest.json":
            shutil.copy(state_file(self.folder), tmp_path / "cut.db")  # as a power cut may leave it: without its log
            state = ExportState(tmp_path / "cut.db", "place")
            known.append(name in {part_path(part, ".jsonl") for part, _ in state.known_parts()})
            state.close()
        put(self, file, name)

    monkeypatch.setattr(LocalSink, "put", check_state)
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
    complete = []
    for target, names in ((FileTarget, ("publish", "remove")), (DatabaseTarget, ("publish", "remove"))):
        for name in names:
            monkeypatch.setattr(target, name, recording_manifest(getattr(target, name), tmp_path, complete))
    await asyncio.sleep(3 * DAY)
    report = await export(simulation, selection, tmp_path, format=form)
    assert report.complete
    assert complete
    assert not any(complete)
    assert manifest_of(tmp_path)["complete"]


def recording_manifest(method, folder: Path, complete: list[bool]):
    """Return a method that first records whether the manifest says that the export is complete."""

    def recorded(self, part):
        complete.append(manifest_of(folder)["complete"])
        return method(self, part)

    return recorded


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

    def fail(*_: object) -> str:
        raise AssertionError("a file was read again")

    monkeypatch.setattr(LocalSink, "digest", fail)
    assert (await export(simulation, SELECTION, tmp_path / "second")).complete


async def test_a_file_in_a_folder_without_an_export_is_left_alone(tmp_path, simulation):
    (tmp_path / "manifest.json").write_text("a web page's")
    with pytest.raises(ExportError, match=r"has manifest\.json"):
        await export(simulation, SELECTION, tmp_path)
    assert (tmp_path / "manifest.json").read_text() == "a web page's"


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "csv", "parquet"])
async def test_a_manifest_has_the_size_and_checksum_of_each_file(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path, format=form)
    files = {path for dataset in SELECTION.datasets for path in data_files(tmp_path, dataset)}
    listed = {tmp_path / part["path"]: (part["bytes"], part["sha256"]) for part in manifest_of(tmp_path)["parts"]}
    assert listed == {path: size_and_checksum(path) for path in files}
    assert len(listed) > 1


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
async def test_a_manifest_has_the_size_and_checksum_of_a_database(tmp_path, simulation, form):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path, format=form)
    listed = manifest_of(tmp_path)["database"]
    assert (listed["bytes"], listed["sha256"]) == size_and_checksum(tmp_path / f"export.{form}")


def size_and_checksum(path: Path) -> tuple[int, str]:
    content = path.read_bytes()
    return len(content), hashlib.sha256(content).hexdigest()


# A damaged state


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_last_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])  # SQLite reads a null in its place


def overwrite_pages(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(range(1, 251)) * 40 + content[10_100:])


def overwrite_unused_table(path: Path) -> None:
    """Overwrite the first page of a table that is not read when the state is opened."""
    with sqlite3.connect(path) as state:
        ((page,), (size,)) = (
            state.execute(query).fetchone()
            for query in ("SELECT rootpage FROM sqlite_master WHERE name = 'partials'", "PRAGMA page_size")
        )
    state.close()
    content = path.read_bytes()
    path.write_bytes(content[: (page - 1) * size] + b"\xff" * size + content[page * size :])


def replace_by_text(path: Path) -> None:
    path.write_bytes(b"hello")


def replace_by_other_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE x (a)")
    other.close()


def set_later_version(path: Path) -> None:
    with sqlite3.connect(path) as state:
        state.execute("PRAGMA user_version = 99")
    state.close()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_in_half, "malformed"),
        (cut_last_byte, "its last page is cut short"),
        (overwrite_pages, ""),
        (overwrite_unused_table, ""),
        (replace_by_text, "not a database"),
        (replace_by_other_database, "not the state of an export"),
        (set_later_version, "its version is 99"),
    ],
)
async def test_a_damaged_state_is_reported_as_damaged(refusal_after, damage, reason):
    message = await refusal_after(lambda folder: damage(state_file(folder)))
    assert "is damaged" in message
    assert reason in message
    assert "room" not in message  # it is no full disk


# The comparison


INFO = PartInfo(rows=1, bytes=5, sha256="aa", mark="1")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a": FileStat(5, "1")}, Differences()),
        ({"a": FileStat(5, "2")}, Differences(marks={"a": "2"})),
        ({"a": FileStat(6, "1")}, Differences(altered=("a",))),
        ({}, Differences(lost=("a",))),
        ({"a": FileStat(5, "1"), "b": FileStat(5, "1")}, Differences()),
        ({"a": FileStat(5, "1"), "c": FileStat(5, "1")}, Differences(unknown=("c",))),
    ],
)
def test_files_are_compared_by_size_then_mark_then_checksum(files, expected):
    assert compare({"a": INFO, "b": None}, files, lambda _: "aa") == expected


@pytest.mark.parametrize(
    ("digest", "expected"), [("aa", Differences(marks={"a": ""})), ("bb", Differences(altered=("a",)))]
)
def test_without_marks_files_are_compared_by_checksum(digest, expected):
    assert compare({"a": attrs.evolve(INFO, mark="")}, {"a": FileStat(5, "")}, lambda _: digest) == expected


def test_another_checksum_means_an_altered_file():
    assert compare({"a": INFO}, {"a": FileStat(5, "2")}, lambda _: "bb") == Differences(altered=("a",))


@pytest.mark.parametrize(
    ("names", "message"), [("a", "gone: a"), ("abc", "gone: a, b, c"), ("abcde", "gone: a, b, c and 2 more")]
)
def test_an_error_lists_a_few_names_and_the_number_of_others(names, message):
    assert str(Differences(lost=tuple(names))) == message
