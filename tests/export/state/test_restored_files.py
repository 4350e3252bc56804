"""Files that were taken as gone or altered, and are again what they were: known as such, and never counted twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.export_files import data_files, manifest_of, rows
from helpers.export_runs import export, last_hours, remove_rate_limits, request_count

from agora_analytics import ExportError

SELECTION = last_hours(2, "calls", "sessions")


def gone(path: Path) -> None:
    path.unlink()


def altered(path: Path) -> None:
    held = path.read_bytes()
    path.write_bytes(held[: held.index(b"\n") + 1])


def without_state(folder: Path) -> None:
    shutil.rmtree(folder / ".agora-export")


@pytest.mark.parametrize("change", [gone, altered])
@pytest.mark.parametrize("lose", [False, True], ids=["", "and the state is lost meanwhile"])
async def test_a_restored_file_counts_as_intact(tmp_path, simulation, change, lose):
    remove_rate_limits(simulation)
    before = await export(simulation, SELECTION, tmp_path)
    path = data_files(tmp_path, "sessions")[0]
    held = path.read_bytes()
    change(path)
    told = await export(simulation, SELECTION, tmp_path, rebuild=True)
    assert not told.complete
    if lose:
        without_state(tmp_path)
        again = await export(simulation, SELECTION, tmp_path, rebuild=True)
        if path.exists():
            path.touch()
            again = await export(simulation, SELECTION, tmp_path)
        assert (again.skipped, again.rows) == (told.skipped, told.rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(held)
    made = request_count(simulation)
    for rebuild in (False, True):
        after = await export(simulation, SELECTION, tmp_path, rebuild=rebuild)
        assert (after.rows, after.complete, after.skipped, request_count(simulation)) == (before.rows, True, (), made)
    assert len(rows(tmp_path, "sessions")) == before.rows["sessions"]
    assert {one["rows"] is None for one in manifest_of(tmp_path)["parts"]} == {False}


async def test_an_altered_file_has_an_unknown_number_of_rows(tmp_path, simulation):
    remove_rate_limits(simulation)
    before = await export(simulation, SELECTION, tmp_path)
    path = data_files(tmp_path, "sessions")[0]
    (was,) = [one for one in manifest_of(tmp_path)["parts"] if tmp_path / one["path"] == path]
    altered(path)
    for rebuild in (True, False):
        report = await export(simulation, SELECTION, tmp_path, rebuild=rebuild)
        (now,) = [one for one in manifest_of(tmp_path)["parts"] if tmp_path / one["path"] == path]
        assert (now["rows"], now["bytes"]) == (None, path.stat().st_size)
        assert report.rows == before.rows | {"sessions": before.rows["sessions"] - was["rows"]}


async def test_a_file_altered_repeatedly_is_reported_once(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path)
    path = data_files(tmp_path, "sessions")[0]
    count = len(path.read_bytes().splitlines())
    for change, reason in ((altered, "altered"), (lambda one: one.write_bytes(b""), "altered"), (gone, "gone")):
        change(path)
        report = await export(simulation, SELECTION, tmp_path, rebuild=True)
        assert [(one.what, reason in one.reason, one.rows) for one in report.skipped] == [("sessions", True, count)]


async def test_another_file_under_the_name_of_a_lost_one_is_unknown(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path)
    path = data_files(tmp_path, "sessions")[0]
    held = path.read_bytes()
    path.unlink()
    await export(simulation, SELECTION, tmp_path, rebuild=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(held[:-2] + b"!\n")
    with pytest.raises(ExportError, match="unknown: sessions/"):
        await export(simulation, SELECTION, tmp_path)
