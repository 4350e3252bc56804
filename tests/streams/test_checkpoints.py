"""Names and texts of checkpoints, and files that are damaged, interrupted or linked."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from helpers.checkpoints import store_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from agora_analytics import Call, Checkpoint, CheckpointError, FileCheckpoints, MemoryCheckpoints, Span
from agora_analytics.protocols import CheckpointStore
from agora_analytics.streams.checkpoints import opened

pytestmark = pytest.mark.real_time

same_examples = settings(deadline=None, derandomize=True, database=None, max_examples=300)

CHECKPOINT = Checkpoint(stream="watch 0", done=(Span(20, 60), Span(100, 120)), open={"call": {"created_ts": 3}})


@pytest.fixture
def file(tmp_path: Path) -> FileCheckpoints:
    return FileCheckpoints(tmp_path / "checkpoints")


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, file: FileCheckpoints) -> CheckpointStore:
    return MemoryCheckpoints() if request.param == "memory" else file


INVALID_NAMES = [
    "",
    "../x",
    "a/b",
    ".hidden",
    "-x",
    "x" * 101,
    "a\0",
    "prod\n",
    "a b",
    "caf\xe9",
    "cafe\u0301",
    "é",
    "İ",
    "\ud800",
]


@pytest.mark.parametrize("name", INVALID_NAMES, ids=map(repr, INVALID_NAMES))
async def test_a_name_that_could_be_another_file_raises(store, name):
    for use in (store.load(name), store.save(name, CHECKPOINT, 1), store.acquire(name), store.release(name, 1)):
        with pytest.raises(ValueError, match=r"^name=.*: allowed are 1 to 100 of the letters"):
            await use


async def test_values_that_are_no_name_or_no_checkpoint_raise(store):
    for use in (store.load(None), store.save(5, CHECKPOINT, 1), store.acquire(b"x"), store.release([], 1)):
        with pytest.raises(TypeError, match=r"^name=.*: allowed is a name: a str$"):
            await use
    with pytest.raises(TypeError, match=r"^checkpoint='text': allowed is a Checkpoint$"):
        await store.save("name", "text", 1)
    for epoch in (None, 1.5, "1"):
        with pytest.raises(TypeError, match=r"^epoch=.*: allowed is an int$"):
            await store.save("name", CHECKPOINT, epoch)
        with pytest.raises(TypeError, match=r"^epoch=.*: allowed is an int$"):
            await store.release("name", epoch)
    with pytest.raises(ValueError, match=r"^epoch=-1: allowed are"):
        await store.save("name", CHECKPOINT, -1)


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}", fullmatch=True)


@same_examples
@given(NAMES, NAMES)
def test_names_that_differ_in_case_are_two_files_everywhere(one, other):
    files = FileCheckpoints("checkpoints")
    paths = [files._path(name) for name in (one, other, one.lower(), one.upper(), one.swapcase())]
    names = {one, other, one.lower(), one.upper(), one.swapcase()}
    assert len({path.name.lower() for path in paths}) == len(names)
    # The temporary file has a dot before this name and up to 14 bytes after it.
    assert max(len(path.name.encode()) for path in paths) <= 255 - 15


async def test_the_longest_name_can_be_saved(file):
    for name in ("x" * 100, "X" * 100):
        await store_checkpoint(file, name, CHECKPOINT)
        assert await file.load(name) == CHECKPOINT


def test_a_checkpoint_survives_encode_and_decode():
    assert Checkpoint.decode(CHECKPOINT.encode()) == CHECKPOINT
    assert "\n" not in CHECKPOINT.encode()


def test_adjacent_spans_are_merged():
    checkpoint = CHECKPOINT.with_done(Span(60, 80)).with_done(Span(10, 20)).with_done(Span(110, 200))
    assert checkpoint.done == (Span(10, 80), Span(100, 200))


DAMAGED = {
    "empty": "",
    "truncated": CHECKPOINT.encode()[:30],
    "foreign": "hello",
    "another document": '{"cow": "moo"}',
    "a span that ends before it begins": '{"stream":"x","done":[{"start":5,"end":1}],"version":1}',
    "binary": "\x00\xff",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
async def test_a_damaged_or_foreign_file_raises_and_never_restarts_the_stream(file, text):
    file.folder.mkdir()
    path = file.folder / "prod.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match="holds no checkpoint") as caught:
        await file.load("prod")
    assert str(path) in str(caught.value)
    assert "remove it to start over" in str(caught.value)
    assert path.read_text(encoding="latin-1") == text


async def test_a_file_of_a_later_version_raises(file):
    file.folder.mkdir()
    (file.folder / "prod.json").write_text(CHECKPOINT.encode().replace('"version":1', '"version":2'))
    with pytest.raises(CheckpointError, match="version 2"):
        await file.load("prod")


async def test_a_file_is_replaced_atomically_without_leftovers(file):
    for end in range(100, 200):
        await file.save("prod", CHECKPOINT.with_done(Span(0, end)), 1)
    assert [path.name for path in file.folder.iterdir()] == ["prod.json"]
    assert repr(file) == f"FileCheckpoints({str(file.folder)!r})"


async def test_a_failed_save_keeps_the_previous_checkpoint(file, monkeypatch):
    await file.save("prod", CHECKPOINT, 1)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        await file.save("prod", CHECKPOINT.with_done(Span(0, 1_000)), 1)
    assert await file.load("prod") == CHECKPOINT
    assert [path.name for path in file.folder.iterdir()] == ["prod.json"]


async def test_an_unusable_folder_raises(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = FileCheckpoints(tmp_path / "file" / "checkpoints")
    with pytest.raises(CheckpointError, match="cannot be used"):
        await store.save("prod", CHECKPOINT, 1)
    with pytest.raises(CheckpointError, match="cannot be used"):
        await store.load("prod")


# Texts that are no checkpoint.

DOCUMENT = json.loads(CHECKPOINT.encode())
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1.5,
    10**11,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\ud800",
    [],
    [[]],
    {},
    {"start": 5, "end": 5},
    {"start": 9, "end": 5},
)


def paths_in(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a document: its keys and indexes."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, child in inside for path in paths_in(child, (*at, key)))]


def replaced(at: tuple[Any, ...], value: Any) -> Any:
    """Return the document with another value at a path."""
    if not at:
        return value
    document = deepcopy(DOCUMENT)
    holder = document
    for key in at[:-1]:
        holder = holder[key]
    holder[at[-1]] = value
    return document


def check_decoding(text: str | bytes) -> None:
    """Check that a text raises an error with a hint, or is a checkpoint that keeps every field when encoded again."""
    try:
        found = Checkpoint.decode(text)
    except CheckpointError as error:
        assert error.hint  # noqa: PT017 - any other exception fails the test
        return
    assert Checkpoint.decode(found.encode()) == found
    before, after = json.loads(text), json.loads(found.encode())
    assert {key: value for key, value in before.items() if key != "done"}.items() <= after.items()


@same_examples
@given(st.sampled_from(paths_in(DOCUMENT)), st.sampled_from(ODD_VALUES))
def test_any_text_decodes_to_a_checkpoint_or_a_clear_error(at, value):
    check_decoding(json.dumps(replaced(at, value)))


@same_examples
@given(st.data())
def test_a_corrupted_text_decodes_to_a_checkpoint_or_a_clear_error(data):
    encoded = CHECKPOINT.encode().encode()
    at = data.draw(st.integers(0, len(encoded)))
    new = data.draw(st.binary(max_size=3))
    check_decoding(encoded[:at] + new + encoded[at + data.draw(st.integers(0, 3)) :])


MALFORMED = {
    "nested": ('{"stream":"x","open":' + "[" * 100_000 + "]" * 100_000 + "}", "(recursion|Stack overflow)"),
    "a huge number": ('{"stream":"x","open":{"a":{"b":' + "9" * 5_000 + "}}}", "range"),
    "NaN": ('{"stream":"x","open":{"a":{"b":NaN}}}', "invalid"),
    "a surrogate in the text": ('{"stream":"\ud800"}', "surrogate"),
    "an escaped surrogate": ('{"stream":"\\ud800"}', "truncated"),
    "a boolean for a number": ('{"stream":"x","done":[{"start":true,"end":5}]}', "bool"),
    "a boolean for a version": ('{"stream":"x","version":true}', "bool"),
    "an empty span": ('{"stream":"x","done":[{"start":5,"end":5}]}', "must be after"),
    "milliseconds": ('{"stream":"x","done":[{"start":5,"end":1795521600000}]}', "milliseconds"),
    "a list": ("[]", "array"),
}


@pytest.mark.parametrize(("text", "why"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_text_raises(text, why):
    with pytest.raises(CheckpointError, match=f"holds no checkpoint: .*{why}"):
        Checkpoint.decode(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"stream":"x","unknown":1,"version":1}',
        '{"stream":"x","done":[{"start":0,"end":5,"unknown":1}],"version":1}',
        '{"stream":"x","unknown":null}',
    ],
)
def test_an_unknown_field_raises_instead_of_being_lost(text):
    with pytest.raises(CheckpointError, match="fields that this version does not know: 'unknown'") as caught:
        Checkpoint.decode(text)
    assert "or a later one" in caught.value.hint


def test_another_version_is_reported_before_its_other_differences():
    with pytest.raises(CheckpointError, match="version 2; this library reads 1"):
        Checkpoint.decode('{"stream":["x"],"unknown":1,"version":2}')


def test_decoded_spans_are_in_order():
    text = '{"stream":"x","done":[{"start":60,"end":80},{"start":0,"end":20},{"start":20,"end":40}]}'
    assert Checkpoint.decode(text).done == (Span(0, 40), Span(60, 80))


def test_open_calls_are_decoded_with_exact_types():
    checkpoint = Checkpoint(stream="x", open={"a": {"open": {"call_id": "a", "created_ts": 3}}, "b": {"closed": 7}})
    assert opened(checkpoint, "open", Call) == {"a": Call(call_id="a", created_ts=3)}
    assert opened(checkpoint, "closed", int) == {"b": 7}
    for wrong in ({"cname": "c"}, {"call_id": 3}, {"call_id": "a", "call_mos": 4.2}, None, [], "a"):
        with pytest.raises(CheckpointError):
            opened(Checkpoint(stream="x", open={"a": {"open": wrong}}), "open", Call)


# Interrupted saves and links.


@pytest.fixture
def slow_disk(monkeypatch) -> tuple[threading.Event, threading.Event]:
    """Block each fsync: it sets the first event when it starts, and continues when the second is set."""
    started, resume = threading.Event(), threading.Event()
    fsync = os.fsync

    def wait(handle: int) -> None:
        started.set()
        assert resume.wait(20)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", wait)
    yield started, resume
    resume.set()


async def test_a_cancelled_save_is_completed_first(file, slow_disk):
    started, resume = slow_disk
    saving = asyncio.create_task(file.save("prod", CHECKPOINT, 1))
    await asyncio.to_thread(started.wait)
    for _ in range(3):
        saving.cancel()
        await asyncio.sleep(0)
    assert not saving.done()
    resume.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert await file.load("prod") == CHECKPOINT
    assert [path.name for path in file.folder.iterdir()] == ["prod.json"]


async def test_a_save_is_completed_when_the_loop_shuts_down(file, slow_disk):
    started, resume = slow_disk

    async def work() -> None:
        saving = asyncio.create_task(file.save("prod", CHECKPOINT, 1))
        await asyncio.to_thread(started.wait)
        asyncio.get_running_loop().call_soon(resume.set)
        del saving

    await asyncio.to_thread(asyncio.run, work())
    assert await file.load("prod") == CHECKPOINT
    assert [path.name for path in file.folder.iterdir()] == ["prod.json"]


async def test_a_half_written_file_is_removed_by_the_next_lease(file):
    file.folder.mkdir()
    for name in (".prod.json.abcd_123", ".prod.json", ".prod.json.other.json.abcd_123", ".prodxjson.abcd_123"):
        (file.folder / name).write_text("half")
    (file.folder / "prod.json").write_text(CHECKPOINT.encode())
    lease = await file.acquire("prod")
    await file.release("prod", lease.epoch)
    files = {path.name for path in file.folder.iterdir()}
    assert files == {"prod.json", ".prod.json", ".prod.json.other.json.abcd_123", ".prodxjson.abcd_123", ".prod.lock"}


async def test_a_removed_folder_is_created_again(file):
    await file.save("prod", CHECKPOINT, 1)
    (file.folder / "prod.json").unlink()
    file.folder.rmdir()
    await file.save("prod", CHECKPOINT, 1)
    assert await file.load("prod") == CHECKPOINT


async def test_a_checkpoint_that_is_a_symbolic_link_is_neither_read_nor_written_through(file, tmp_path):
    await file.save("prod", CHECKPOINT, 1)
    (file.folder / "prod.json").rename(tmp_path / "victim")
    before = (tmp_path / "victim").read_bytes()
    (file.folder / "prod.json").symlink_to(tmp_path / "victim")
    with pytest.raises(CheckpointError, match="symbolic link"):
        await file.load("prod")
    with pytest.raises(CheckpointError, match="symbolic link"):
        await file.save("prod", Checkpoint(stream="watch 1"), 1)
    assert (tmp_path / "victim").read_bytes() == before


async def test_a_lease_whose_file_is_a_symbolic_link_is_not_followed(file, tmp_path):
    file.folder.mkdir()
    (file.folder / ".prod.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(CheckpointError, match="symbolic link"):
        await file.acquire("prod")
    assert not (tmp_path / "victim").exists()
