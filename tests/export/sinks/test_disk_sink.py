"""The sink of a `file://` URL lists no folder to put a file, and follows no symbolic link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agora_analytics.export.sinks import Sink, open_sink


@pytest.fixture
def sink(tmp_path: Path) -> Sink:
    sink = open_sink(f"file://{tmp_path}/export", {})
    sink.check()
    return sink


def new_file(tmp_path: Path, content: bytes = b"rows") -> Path:
    file = tmp_path / "new"
    file.write_bytes(content)
    return file


def test_putting_a_file_lists_no_folder(sink, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("a folder was listed")

    sink.put(new_file(tmp_path), "calls/one")
    with monkeypatch.context() as patched:
        for name in ("listdir", "scandir"):
            patched.setattr(os, name, fail)
        sink.put(new_file(tmp_path), "calls/two")
        sink.put(new_file(tmp_path, b"more"), "calls/one")
    assert sorted(sink.files("calls")) == ["calls/one", "calls/two"]
    assert sink.read("calls/one") == b"more"


@pytest.mark.parametrize("suffix", ["part", "old"])
def test_a_symbolic_link_under_a_temporary_name_is_not_followed(sink, tmp_path, monkeypatch, suffix):
    (tmp_path / "victim").write_text("precious")
    sink.put(new_file(tmp_path), "calls/one")
    (tmp_path / "export" / "calls" / f".one.{suffix}").symlink_to(tmp_path / "victim")
    if suffix == "old":  # a rename that does not replace a file makes the sink move the old file away
        monkeypatch.setattr(sink._store, "mv", lambda *_: None)
    with pytest.raises(OSError, match="is a symbolic link, and is not followed"):
        sink.put(new_file(tmp_path, b"more"), "calls/one")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "export" / "calls" / f".one.{suffix}").is_symlink()
