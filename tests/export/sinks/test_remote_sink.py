"""Places that fsspec reaches: what a file there is while it is put, moved or claimed, whatever its store can do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from helpers.export_machines import There
from helpers.export_runs import options_of

from agora_analytics.export.sinks import open_sink
from agora_analytics.export.state.remote_copy import RemoteSync


class KilledError(BaseException):
    """Nothing catches it, as nothing catches `kill -9`."""


def test_a_name_is_claimed_by_one_alone(there):
    one, other = (open_sink(there.to, there.options) for _ in range(2))
    one.create("runs/1", b"one")
    with pytest.raises(FileExistsError):
        other.create("runs/1", b"other")
    other.create("runs/2", b"other")
    assert (one.read("runs/1"), one.read("runs/2")) == (b"one", b"other")


def test_a_file_that_is_moved_takes_the_place_of_another(there, tmp_path):
    sink = open_sink(there.to, there.options)
    for name in ("inner/one", "other"):
        (tmp_path / "file").write_bytes(name.encode())
        sink.put(tmp_path / "file", name)
    sink.move("inner/one", "other")
    assert (sink.read("inner/one"), sink.read("other")) == (None, b"inner/one")


def says_so(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
    if Path(target).exists():
        raise FileExistsError(target)
    Path(source).rename(target)


def does_nothing(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
    if not Path(target).exists():
        Path(source).rename(target)


def says_so_though_done(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
    Path(source).replace(target)
    raise ConnectionError("no answer")


@pytest.mark.parametrize("rename", [says_so, does_nothing])
def test_where_a_store_replaces_no_file_the_one_that_is_there_goes_first(tmp_path, monkeypatch, rename):
    monkeypatch.setattr(LocalFileSystem, "mv", rename)
    sink = open_sink(f"file://{tmp_path}/there", {})
    for held in (b"one", b"two"):
        (tmp_path / "file").write_bytes(held)
        sink.put(tmp_path / "file", "folder/name")
    assert sink.read("folder/name") == b"two"
    assert [path.name for path in (tmp_path / "there" / "folder").iterdir()] == ["name"]


def test_a_file_whose_renaming_is_not_confirmed_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalFileSystem, "mv", says_so_though_done)
    sink = open_sink(f"file://{tmp_path}/there", {})
    (tmp_path / "file").write_bytes(b"one")
    with pytest.raises(ConnectionError):
        sink.put(tmp_path / "file", "name")
    assert sink.read("name") == b"one"


def test_a_file_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    sink = open_sink(f"file://{tmp_path}/there", {})
    (tmp_path / "file").write_bytes(b"one")
    sink.put(tmp_path / "file", "name")

    def refuses(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
        if source.endswith(".part"):
            raise PermissionError(target)
        Path(source).rename(target)

    monkeypatch.setattr(LocalFileSystem, "mv", refuses)
    (tmp_path / "file").write_bytes(b"two")
    with pytest.raises(PermissionError):
        sink.put(tmp_path / "file", "name")
    assert sink.read("name") == b"one"


def test_two_look_at_once_whether_a_place_can_be_written_to(memory, monkeypatch):
    one, two = (open_sink(memory.to, {}) for _ in range(2))
    remove = one._store.rm_file

    def meanwhile(path: str) -> None:
        monkeypatch.setattr(one._store, "rm_file", remove)
        two.check()
        remove(path)

    monkeypatch.setattr(one._store, "rm_file", meanwhile)
    one.check()
    assert memory.names() == {}


@pytest.mark.skipif(fsspec.__version__ < "2026", reason="s3fs of that time only knows how to overwrite")
def test_a_name_is_claimed_by_one_alone_also_at_the_same_moment(tmp_path, s3, monkeypatch):
    one, other = (open_sink(f"s3://bucket/{tmp_path.name}", options_of(s3)) for _ in range(2))
    one.create("runs/1", b"one")
    monkeypatch.setattr(other._store, "exists", lambda *_: False)  # both looked before either made it
    with pytest.raises(FileExistsError):
        other.create("runs/1", b"other")


@pytest.mark.parametrize("what", ["/sessions/", "agora-export/state", "/manifest"])
async def test_killed_where_a_store_lets_a_file_be_half_there_the_next_run_goes_on(
    simulation, truth, tmp_path, monkeypatch, what
):
    place = There(f"file://{tmp_path}/there", {}, tmp_path)
    await place.run(simulation, "one", max_requests=10)
    put = LocalFileSystem.put_file

    def dies(self: LocalFileSystem, file: str, to: str, **options: object) -> None:
        put(self, file, to, **options)
        if what in to.replace("/.", "/"):
            half.append(to)
            Path(to).write_bytes(b"half")
            raise KilledError

    half: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "put_file", dies)
        patched.setattr(RemoteSync, "sync_after_failure", lambda *_: asyncio.sleep(0))
        with pytest.raises(KilledError):
            await place.run(simulation, "one")
    assert half
    for machine in ("two", "one"):
        assert (await place.run(simulation, machine)).complete
        assert place.rows() == truth
