"""Leases of checkpoint names: one holder at a time, and none that has ended, crashed or been forked."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.checkpoints import store_checkpoint
from helpers.paths import HELPERS, ROOT
from helpers.streaming import NOON

from agora_analytics import Checkpoint, CheckpointError, FileCheckpoints, MemoryCheckpoints, Span
from agora_analytics._core import process_lock
from agora_analytics.protocols import CheckpointStore, Lease
from agora_analytics.streams.position import Position

pytestmark = pytest.mark.real_time

CHECKPOINT = Checkpoint(stream="watch 0", done=(Span(NOON - 100, NOON - 40), Span(NOON - 20, NOON)))
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, folder: Path) -> CheckpointStore:
    return MemoryCheckpoints() if request.param == "memory" else FileCheckpoints(folder)


@pytest.fixture
def start_process(folder: Path) -> Iterator[Start]:
    """Start processes that lease the name; each is killed after the test."""
    started = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(HELPERS / "lease_process.py"), str(folder), *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            pipe.close()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_a_name_is_leased_once_until_it_is_released(store):
    lease = await store.acquire("prod")
    other = await store.acquire("Prod")
    with pytest.raises(CheckpointError, match="'prod' is in use by another stream") as caught:
        await store.acquire("prod")
    assert "Close that stream first" in caught.value.hint
    await store.release("prod", lease.epoch)
    lease = await store.acquire("prod")
    await store.release("prod", lease.epoch)
    await store.release("prod", lease.epoch)
    await store.release("never-leased", 1)
    with pytest.raises(CheckpointError, match="'Prod' is in use"):
        await store.acquire("Prod")
    await store.release("Prod", other.epoch)


async def test_two_stores_of_one_folder_share_leases_and_only_the_holder_releases(folder):
    one, other = FileCheckpoints(folder), FileCheckpoints(folder)
    lease = await one.acquire("prod")
    await other.release("prod", lease.epoch)
    with pytest.raises(CheckpointError, match="in use"):
        await other.acquire("prod")
    await one.release("prod", lease.epoch)
    lease = await other.acquire("prod")
    await other.release("prod", lease.epoch)
    # The lock file is empty, and the other one has an epoch alone.
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sizes == {".prod.lock": 0, "prod.json": len(f'{{"epoch":{lease.epoch}}}')}


async def test_a_stream_whose_lock_does_not_hold_is_told_that_it_was_taken_over(folder):
    """As on a network file system without locks, or where somebody removed the lock."""
    one, other = FileCheckpoints(folder), FileCheckpoints(folder)
    old = await one.acquire("prod")
    (folder / ".prod.lock").unlink()
    new = await other.acquire("prod")
    with pytest.raises(CheckpointError, match="another process took this stream over") as caught:
        await one.save("prod", CHECKPOINT, old.epoch)
    assert caught.value.kind == "taken_over"
    await one.release("prod", old.epoch)
    await other.save("prod", CHECKPOINT, new.epoch)
    await other.release("prod", new.epoch)


async def test_a_stream_whose_checkpoint_was_removed_goes_on_unless_another_has_begun(folder):
    one, other = FileCheckpoints(folder), FileCheckpoints(folder)
    old = await one.acquire("prod")
    await one.save("prod", CHECKPOINT, old.epoch)
    for path in folder.iterdir():
        path.unlink()
    await one.save("prod", CHECKPOINT, old.epoch)
    for path in folder.iterdir():
        path.unlink()
    new = await other.acquire("prod")
    assert (new.checkpoint, new.epoch > old.epoch) == (None, True)
    with pytest.raises(CheckpointError, match="took this stream over"):
        await one.save("prod", CHECKPOINT, old.epoch)
    await one.release("prod", old.epoch)
    await other.release("prod", new.epoch)


async def test_one_of_many_concurrent_attempts_gets_the_lease(folder):
    stores = [FileCheckpoints(folder) for _ in range(20)]
    results = await asyncio.gather(*(store.acquire("prod") for store in stores), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == [*["CheckpointError"] * 19, "Lease"]
    (lease,) = (result for result in results if isinstance(result, Lease))
    await asyncio.gather(*(store.release("prod", lease.epoch) for store in stores))


async def test_a_cancelled_attempt_holds_no_lease(folder, monkeypatch):
    store, claim_lease = FileCheckpoints(folder), process_lock.claim

    def claim(path: Path) -> process_lock.Claim | None:
        loop.call_soon_threadsafe(acquiring.cancel)
        return claim_lease(path)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(process_lock, "claim", claim)
    acquiring = asyncio.create_task(store.acquire("prod"))
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    monkeypatch.setattr(process_lock, "claim", claim_lease)
    await FileCheckpoints(folder).acquire("prod")


async def test_a_dropped_store_holds_no_lease(folder):
    store = FileCheckpoints(folder)
    await store.acquire("prod")
    del store
    gc.collect()
    other = FileCheckpoints(folder)
    lease = await other.acquire("prod")
    await other.release("prod", lease.epoch)


async def test_a_file_system_without_locks_is_reported(folder):
    folder.mkdir()
    (folder / ".prod.lock").write_text("hello" * 1_000)
    with pytest.raises(CheckpointError, match=r"cannot be used: \.prod\.lock"):
        await FileCheckpoints(folder).acquire("prod")
    (folder / ".prod.lock").unlink()
    (folder / ".prod.lock").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot be used: \.prod\.lock"):
        await FileCheckpoints(folder).acquire("prod")


async def test_an_unusable_folder_raises(folder):
    folder.write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be used"):
        await FileCheckpoints(folder).acquire("prod")


@pytest.mark.slow
@pytest.mark.process
async def test_a_killed_process_holds_no_lease(folder, start_process):
    store, process = FileCheckpoints(folder), start_process()
    assert (read_line(process), read_line(process)) == ("parent leased", "ready")
    with pytest.raises(CheckpointError, match="in use by another stream or process"):
        await store.acquire("prod")
    process.kill()
    process.wait()
    lease = await store.acquire("prod")
    assert read_line(start_process()) == "parent refused"
    await store.release("prod", lease.epoch)
    assert read_line(start_process()) == "parent leased"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("fork", ["keep", "release"])
@pytest.mark.process
async def test_a_forked_child_holds_no_lease_of_its_parent(folder, start_process, fork):
    store, process = FileCheckpoints(folder), start_process(fork)
    assert [read_line(process) for _ in range(3)] == ["parent leased", "child refused", "ready"]
    with pytest.raises(CheckpointError, match="in use"):
        await store.acquire("prod")  # even if the child has released what it inherited
    process.send_signal(signal.SIGKILL)
    process.wait()
    lease = await store.acquire("prod")  # although the child is alive
    await store.release("prod", lease.epoch)
    process.stdin.write("once more\n")
    process.stdin.flush()
    assert read_line(process) == "child leased"
    with pytest.raises(CheckpointError, match="in use"):
        await store.acquire("prod")
    process.stdin.close()
    assert process.stdout.read() == ""  # the child has ended
    await store_checkpoint(store, "prod", CHECKPOINT)


# The lease of a stream.


async def test_a_stream_holds_its_lease_from_start_to_end(store):
    await store_checkpoint(store, "prod", CHECKPOINT)
    first, other = (Position("watch 0", store=store, name="prod") for _ in range(2))
    await other.release()  # it holds no lease
    assert (await first.resume()).done == CHECKPOINT.done
    assert (await first.resume()).done == CHECKPOINT.done
    with pytest.raises(CheckpointError, match="in use"):
        await other.resume()
    await other.release()
    with pytest.raises(CheckpointError, match="in use"):
        await store.acquire("prod")
    await first.release()
    await first.release()
    assert (await other.resume()).done == CHECKPOINT.done
    await first.release()
    with pytest.raises(CheckpointError, match="in use"):
        await store.acquire("prod")
    await other.release()


async def test_a_stream_that_cannot_start_holds_no_lease(store):
    await store_checkpoint(store, "prod", CHECKPOINT)
    with pytest.raises(CheckpointError, match="belongs to another stream"):
        await Position("watch 1", store=store, name="prod").resume()
    await store_checkpoint(store, "prod", CHECKPOINT)


async def test_a_checkpoint_in_the_future_raises_at_once(store):
    await store_checkpoint(store, "prod", CHECKPOINT)
    for position in (Position("watch 0", store=store, name="prod"), Position("watch 0", given=CHECKPOINT)):
        await position.resume()
        for now in (NOON - 300, NOON - 299.5, NOON, NOON + 1e9):
            position.check_not_in_future(now)
        with pytest.raises(CheckpointError, match="lies in the future") as caught:
            position.check_not_in_future(NOON - 301)
        await position.release()
        message = str(caught.value)
        assert "up to 2026-11-24T12:00:00Z, 301 s after the service's time, which is 2026-11-24T11:54:59Z" in message
        assert "remove it to start over" in message
    Position("watch 0").check_not_in_future(0)
