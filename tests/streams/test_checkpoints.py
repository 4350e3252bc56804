"""One contract for all stores of checkpoints, and what a file has to stand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agora_analytics import Checkpoint, CheckpointError, FileCheckpoints, MemoryCheckpoints, Span
from agora_analytics.protocols import CheckpointStore

PLACE = Checkpoint(stream="watch 0", done=(Span(20, 60), Span(100, 120)), open={"call": {"created_ts": 3}})


@pytest.fixture
def file(tmp_path: Path) -> FileCheckpoints:
    return FileCheckpoints(tmp_path / "places")


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, file: FileCheckpoints) -> CheckpointStore:
    return MemoryCheckpoints() if request.param == "memory" else file


async def test_what_was_saved_last_is_loaded(store):
    assert await store.load("prod") is None
    await store.save("prod", Checkpoint(stream="watch 0"))
    await store.save("prod", PLACE)
    await store.save("other", Checkpoint(stream="watch 1"))
    assert await store.load("prod") == PLACE


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "x" * 101, "a\0", None])
async def test_a_name_that_could_leave_the_folder_is_misuse(store, name):
    with pytest.raises(ValueError, match="checkpoint="):
        await store.load(name)
    with pytest.raises(ValueError, match="checkpoint="):
        await store.save(name, PLACE)


def test_it_goes_through_a_text():
    assert Checkpoint.decode(PLACE.encode()) == PLACE
    assert "\n" not in PLACE.encode()


def test_spans_that_touch_become_one():
    place = PLACE.with_done(Span(60, 80)).with_done(Span(10, 20)).with_done(Span(110, 200))
    assert place.done == (Span(10, 80), Span(100, 200))


TORN = {
    "empty": "",
    "torn": PLACE.encode()[:30],
    "foreign": "hello",
    "another document": '{"cow": "moo"}',
    "a span that ends before it begins": '{"stream":"x","done":[{"start":5,"end":1}],"version":1}',
    "binary": "\x00\xff",
}


@pytest.mark.parametrize("text", TORN.values(), ids=TORN)
async def test_a_torn_or_foreign_file_is_told_and_never_a_new_beginning(file, text):
    file.folder.mkdir()
    path = file.folder / "prod.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match="holds no checkpoint") as caught:
        await file.load("prod")
    assert str(path) in str(caught.value)
    assert "remove it to begin anew" in str(caught.value)
    assert path.read_text(encoding="latin-1") == text


async def test_a_file_of_a_later_version_is_told(file):
    file.folder.mkdir()
    (file.folder / "prod.json").write_text(PLACE.encode().replace('"version":1', '"version":2'))
    with pytest.raises(CheckpointError, match="version 2"):
        await file.load("prod")


async def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(file):
    for end in range(100, 200):
        await file.save("prod", PLACE.with_done(Span(0, end)))
    assert [path.name for path in file.folder.iterdir()] == ["prod.json"]
    assert repr(file) == f"FileCheckpoints({str(file.folder)!r})"


async def test_a_save_that_fails_leaves_the_old_one(file, monkeypatch):
    await file.save("prod", PLACE)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        await file.save("prod", PLACE.with_done(Span(0, 1_000)))
    assert await file.load("prod") == PLACE
    assert [path.name for path in file.folder.iterdir()] == ["prod.json"]


async def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = FileCheckpoints(tmp_path / "file" / "places")
    with pytest.raises(CheckpointError, match="cannot be used"):
        await store.save("prod", PLACE)
    with pytest.raises(CheckpointError, match="cannot be used"):
        await store.load("prod")
