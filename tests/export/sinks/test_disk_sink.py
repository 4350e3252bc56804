"""A folder that is named by a `file://` URL: what is put there costs the same however many files there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agora_analytics.export.sinks import Sink, open_sink


@pytest.fixture
def sink(tmp_path: Path) -> Sink:
    sink = open_sink(f"file://{tmp_path}/there", {})
    sink.check()
    return sink


def given(tmp_path: Path, held: bytes = b"rows") -> Path:
    file = tmp_path / "made"
    file.write_bytes(held)
    return file


def test_to_put_a_file_no_folder_is_listed(sink, tmp_path, monkeypatch):
    def listed(*_: object) -> None:
        raise AssertionError("a folder was listed")

    sink.put(given(tmp_path), "calls/one")
    with monkeypatch.context() as patched:
        for name in ("listdir", "scandir"):
            patched.setattr(os, name, listed)
        sink.put(given(tmp_path), "calls/two")
        sink.put(given(tmp_path, b"more"), "calls/one")
    assert sorted(sink.files("calls")) == ["calls/one", "calls/two"]
    assert sink.read("calls/one") == b"more"


@pytest.mark.parametrize("end", ["part", "old"])
def test_a_link_under_a_name_that_a_file_has_for_a_while_is_not_followed(sink, tmp_path, monkeypatch, end):
    (tmp_path / "victim").write_text("precious")
    sink.put(given(tmp_path), "calls/one")
    (tmp_path / "there" / "calls" / f".one.{end}").symlink_to(tmp_path / "victim")
    if end == "old":  # as a store that replaces no file
        monkeypatch.setattr(sink._store, "mv", lambda *_: None)
    with pytest.raises(OSError, match="is a symbolic link, and is not followed"):
        sink.put(given(tmp_path, b"more"), "calls/one")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "there" / "calls" / f".one.{end}").is_symlink()
