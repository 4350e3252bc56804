"""`LocalSink` is durable: every change is fsynced, and so is each folder that lists a changed name."""

from __future__ import annotations

from pathlib import Path

import pytest

from agora_analytics.export.sinks import LocalSink, local


@pytest.fixture
def sink(tmp_path: Path) -> LocalSink:
    sink = LocalSink(tmp_path / "deep" / "export")
    sink.check()
    return sink


@pytest.fixture
def synced(sink, monkeypatch) -> list[str]:
    """Return a list of the folders that are fsynced, relative to the folder of the sink."""
    folders: list[str] = []
    sync = local.sync_folder

    def record(folder: Path) -> None:
        folders.append(folder.relative_to(sink.folder).as_posix())
        sync(folder)

    monkeypatch.setattr(local, "sync_folder", record)
    return folders


def new_file(tmp_path: Path) -> Path:
    file = tmp_path / "new"
    file.write_bytes(b"rows")
    return file


def test_creating_the_sink_folder_syncs_the_parent_of_each_new_folder_once(tmp_path, monkeypatch):
    folders: list[Path] = []
    monkeypatch.setattr(local, "sync_folder", folders.append)
    for _ in range(2):
        LocalSink(tmp_path / "a" / "b").check()
    assert folders == [tmp_path / "a", tmp_path]


def test_putting_a_file_syncs_its_folder_and_the_parents_of_new_folders(sink, synced, tmp_path):
    sink.put(new_file(tmp_path), "calls/app=x/part")
    assert sorted(synced) == [".", "calls", "calls/app=x"]
    synced.clear()
    sink.put(new_file(tmp_path), "calls/app=x/other")
    assert synced == ["calls/app=x"]


def test_creating_a_file_syncs_the_parent_of_its_new_folder(sink, synced):
    sink.create("runs/one", b"claim")
    assert "." in synced


def test_moving_a_file_syncs_its_old_and_its_new_folder(sink, synced, tmp_path):
    sink.put(new_file(tmp_path), "calls/part")
    synced.clear()
    sink.move("calls/part", "sessions/part")
    assert sorted(synced) == [".", "calls", "sessions"]


def test_removing_a_file_syncs_its_folder_and_removes_an_empty_one(sink, synced, tmp_path):
    for name in ("calls/day/one", "calls/day/two", "calls/other"):
        sink.put(new_file(tmp_path), name)
    synced.clear()
    sink.remove("calls/day/one")
    assert synced == ["calls/day"]
    sink.remove("calls/day/two")
    assert synced[-2:] == ["calls/day", "calls"]
    assert not (sink.folder / "calls" / "day").exists()


def test_removing_a_missing_file_creates_no_folder(sink):
    sink.remove("calls/app=x/part")
    assert list(sink.folder.iterdir()) == []


@pytest.mark.parametrize("has_links", [True, False])
def test_a_created_file_is_whole_synced_and_replaces_none(sink, synced, monkeypatch, has_links):
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(local.os, "link", no_links)
    sink.create("calls/_delta_log/0", b"first")
    assert "calls/_delta_log" in synced
    with pytest.raises(FileExistsError):
        sink.create("calls/_delta_log/0", b"second")
    assert sink.read("calls/_delta_log/0") == b"first"
    assert [path.name for path in (sink.folder / "calls/_delta_log").iterdir()] == ["0"]
