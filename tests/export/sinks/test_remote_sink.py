"""`RemoteSink` puts, moves and creates files safely, however the store renames and overwrites."""

from __future__ import annotations

import asyncio
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from helpers.export_machines import RemotePlace
from helpers.export_runs import s3_options

from agora_analytics.export.sinks import open_sink
from agora_analytics.export.state.remote_copy import RemoteSync


class KilledError(BaseException):
    """The process is killed: a `BaseException`, so that no handler catches it."""


def test_only_one_writer_can_create_a_file(remote_place):
    one, other = (open_sink(remote_place.to, remote_place.options) for _ in range(2))
    one.create("runs/1", b"one")
    with pytest.raises(FileExistsError):
        other.create("runs/1", b"other")
    other.create("runs/2", b"other")
    assert (one.read("runs/1"), one.read("runs/2")) == (b"one", b"other")


def test_moving_a_file_replaces_the_target(remote_place, tmp_path):
    sink = open_sink(remote_place.to, remote_place.options)
    for name in ("inner/one", "other"):
        (tmp_path / "file").write_bytes(name.encode())
        sink.put(tmp_path / "file", name)
    sink.move("inner/one", "other")
    assert (sink.read("inner/one"), sink.read("other")) == (None, b"inner/one")


def raise_if_target_exists(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
    if Path(target).exists():
        raise FileExistsError(target)
    Path(source).rename(target)


def ignore_if_target_exists(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
    if not Path(target).exists():
        Path(source).rename(target)


def rename_and_raise(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
    Path(source).replace(target)
    raise ConnectionError("no answer")


@pytest.mark.parametrize("rename", [raise_if_target_exists, ignore_if_target_exists])
def test_a_file_is_replaced_even_if_renames_of_the_store_do_not_overwrite(tmp_path, monkeypatch, rename):
    monkeypatch.setattr(LocalFileSystem, "mv", rename)
    sink = open_sink(f"file://{tmp_path}/export", {})
    for content in (b"one", b"two"):
        (tmp_path / "file").write_bytes(content)
        sink.put(tmp_path / "file", "folder/name")
    assert sink.read("folder/name") == b"two"
    assert [path.name for path in (tmp_path / "export" / "folder").iterdir()] == ["name"]


def test_a_file_is_kept_if_its_rename_is_not_confirmed(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalFileSystem, "mv", rename_and_raise)
    sink = open_sink(f"file://{tmp_path}/export", {})
    (tmp_path / "file").write_bytes(b"one")
    with pytest.raises(ConnectionError):
        sink.put(tmp_path / "file", "name")
    assert sink.read("name") == b"one"


def test_a_file_is_kept_if_it_cannot_be_replaced(tmp_path, monkeypatch):
    sink = open_sink(f"file://{tmp_path}/export", {})
    (tmp_path / "file").write_bytes(b"one")
    sink.put(tmp_path / "file", "name")

    def refuse(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
        if source.endswith(".part"):
            raise PermissionError(target)
        Path(source).rename(target)

    monkeypatch.setattr(LocalFileSystem, "mv", refuse)
    (tmp_path / "file").write_bytes(b"two")
    with pytest.raises(PermissionError):
        sink.put(tmp_path / "file", "name")
    assert sink.read("name") == b"one"


def test_two_writers_can_check_a_place_at_the_same_time(memory_place, monkeypatch):
    one, two = (open_sink(memory_place.to, {}) for _ in range(2))
    remove = one._store.rm_file

    def check_by_the_other_first(path: str) -> None:
        monkeypatch.setattr(one._store, "rm_file", remove)
        two.check()
        remove(path)

    monkeypatch.setattr(one._store, "rm_file", check_by_the_other_first)
    one.check()
    assert memory_place.files() == {}


@pytest.mark.slow
@pytest.mark.skipif(fsspec.__version__ < "2026", reason="older s3fs cannot create a file exclusively")
def test_only_one_writer_can_create_a_file_even_at_the_same_time(tmp_path, s3, monkeypatch):
    one, other = (open_sink(f"s3://bucket/{tmp_path.name}", s3_options(s3)) for _ in range(2))
    one.create("runs/1", b"one")
    monkeypatch.setattr(other._store, "exists", lambda *_: False)  # as if it checked before the first created the file
    with pytest.raises(FileExistsError):
        other.create("runs/1", b"other")


@pytest.mark.parametrize("what", ["/sessions/", "agora-export/state", "/manifest"])
async def test_a_run_resumes_after_a_kill_that_left_a_half_written_file(simulation, truth, tmp_path, monkeypatch, what):
    place = RemotePlace(f"file://{tmp_path}/export", {}, tmp_path)
    await place.run(simulation, "one", max_requests=10)
    put = LocalFileSystem.put_file

    def write_half_and_die(self: LocalFileSystem, file: str, to: str, **options: object) -> None:
        put(self, file, to, **options)
        if what in to.replace("/.", "/"):
            half_written.append(to)
            Path(to).write_bytes(b"half")
            raise KilledError

    half_written: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "put_file", write_half_and_die)
        patched.setattr(RemoteSync, "sync_after_failure", lambda *_: asyncio.sleep(0))
        with pytest.raises(KilledError):
            await place.run(simulation, "one")
    assert half_written
    for machine in ("two", "one"):
        assert (await place.run(simulation, machine)).complete
        assert place.rows() == truth
