"""Files that were reported as gone or altered, and are restored: they are recognized, and their rows counted once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.export_files import data_files, manifest_of, rows
from helpers.export_runs import export, last_hours, remove_rate_limits, request_count

from agora_analytics import ExportError

SELECTION = last_hours(2, "calls", "sessions")


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\n") + 1])


def delete_state(folder: Path) -> None:
    shutil.rmtree(folder / ".agora-export")


@pytest.mark.parametrize("change", [delete, truncate])
@pytest.mark.parametrize("lose_state", [False, True], ids=["", "and the state is lost meanwhile"])
async def test_a_restored_file_counts_as_intact(tmp_path, simulation, change, lose_state):
    remove_rate_limits(simulation)
    before = await export(simulation, SELECTION, tmp_path)
    path = data_files(tmp_path, "sessions")[0]
    content = path.read_bytes()
    change(path)
    rebuilt = await export(simulation, SELECTION, tmp_path, rebuild=True)
    assert not rebuilt.complete
    if lose_state:
        delete_state(tmp_path)
        again = await export(simulation, SELECTION, tmp_path, rebuild=True)
        if path.exists():
            path.touch()
            again = await export(simulation, SELECTION, tmp_path)
        assert (again.skipped, again.rows) == (rebuilt.skipped, rebuilt.rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    requests = request_count(simulation)
    for rebuild in (False, True):
        after = await export(simulation, SELECTION, tmp_path, rebuild=rebuild)
        assert (after.rows, after.complete, after.skipped) == (before.rows, True, ())
        assert request_count(simulation) == requests
    assert len(rows(tmp_path, "sessions")) == before.rows["sessions"]
    assert {one["rows"] is None for one in manifest_of(tmp_path)["parts"]} == {False}


async def test_an_altered_file_has_an_unknown_number_of_rows(tmp_path, simulation):
    remove_rate_limits(simulation)
    before = await export(simulation, SELECTION, tmp_path)
    path = data_files(tmp_path, "sessions")[0]
    (old,) = [one for one in manifest_of(tmp_path)["parts"] if tmp_path / one["path"] == path]
    truncate(path)
    for rebuild in (True, False):
        report = await export(simulation, SELECTION, tmp_path, rebuild=rebuild)
        (new,) = [one for one in manifest_of(tmp_path)["parts"] if tmp_path / one["path"] == path]
        assert (new["rows"], new["bytes"]) == (None, path.stat().st_size)
        assert report.rows == before.rows | {"sessions": before.rows["sessions"] - old["rows"]}


async def test_a_file_altered_repeatedly_is_reported_once(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path)
    path = data_files(tmp_path, "sessions")[0]
    count = len(path.read_bytes().splitlines())
    for change, reason in ((truncate, "altered"), (lambda one: one.write_bytes(b""), "altered"), (delete, "gone")):
        change(path)
        report = await export(simulation, SELECTION, tmp_path, rebuild=True)
        assert [(one.what, reason in one.reason, one.rows) for one in report.skipped] == [("sessions", True, count)]


async def test_another_file_under_the_name_of_a_lost_one_is_unknown(tmp_path, simulation):
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path)
    path = data_files(tmp_path, "sessions")[0]
    content = path.read_bytes()
    path.unlink()
    await export(simulation, SELECTION, tmp_path, rebuild=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content[:-2] + b"!\n")
    with pytest.raises(ExportError, match="unknown: sessions/"):
        await export(simulation, SELECTION, tmp_path)
