"""Files in a folder: what is done there outlasts a power cut, in the lists of files of each folder too."""

from __future__ import annotations

from pathlib import Path

import pytest

from agora_analytics.export.sinks import LocalSink, local


@pytest.fixture
def sink(tmp_path: Path) -> LocalSink:
    sink = LocalSink(tmp_path / "deep" / "there")
    sink.check()
    return sink


@pytest.fixture
def synced(sink, monkeypatch) -> list[str]:
    """The folders whose lists of files were brought to the disk, as seen from the sink's."""
    found: list[str] = []
    sync = local.sync_folder

    def noted(folder: Path) -> None:
        found.append(folder.relative_to(sink.folder).as_posix())
        sync(folder)

    monkeypatch.setattr(local, "sync_folder", noted)
    return found


def given(tmp_path: Path) -> Path:
    file = tmp_path / "made"
    file.write_bytes(b"rows")
    return file


def test_a_new_place_is_on_the_disk_with_all_folders_above_it(tmp_path, monkeypatch):
    found: list[Path] = []
    monkeypatch.setattr(local, "sync_folder", found.append)
    for _ in range(2):
        LocalSink(tmp_path / "a" / "b").check()
    assert found == [tmp_path / "a", tmp_path]


def test_a_file_is_on_the_disk_with_the_folders_that_were_made_for_it(sink, synced, tmp_path):
    sink.put(given(tmp_path), "calls/app=x/part")
    assert sorted(synced) == [".", "calls", "calls/app=x"]
    synced.clear()
    sink.put(given(tmp_path), "calls/app=x/other")
    assert synced == ["calls/app=x"]


def test_a_file_that_is_created_has_its_folder_on_the_disk(sink, synced):
    sink.create("runs/one", b"mine")
    assert "." in synced


def test_a_file_that_is_moved_is_gone_from_where_it_was(sink, synced, tmp_path):
    sink.put(given(tmp_path), "calls/part")
    synced.clear()
    sink.move("calls/part", "sessions/part")
    assert sorted(synced) == [".", "calls", "sessions"]


def test_a_file_that_is_removed_does_not_come_back_nor_does_its_folder(sink, synced, tmp_path):
    for name in ("calls/day/one", "calls/day/two", "calls/else"):
        sink.put(given(tmp_path), name)
    synced.clear()
    sink.remove("calls/day/one")
    assert synced == ["calls/day"]
    sink.remove("calls/day/two")
    assert synced[-2:] == ["calls/day", "calls"]
    assert not (sink.folder / "calls" / "day").exists()


def test_to_remove_a_file_makes_no_folder(sink):
    sink.remove("calls/app=x/part")
    assert list(sink.folder.iterdir()) == []
