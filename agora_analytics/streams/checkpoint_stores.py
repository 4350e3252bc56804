"""Stores that keep checkpoints by name: in memory, or in the files of a folder.

Both know whether the holder of a name runs, and refuse it to a second stream until that has ended. The lease on a file
is a lock of the kernel, which ends with its process.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from agora_analytics._core import files, validation
from agora_analytics._core.futures import wait_until_done
from agora_analytics.protocols import Lease
from agora_analytics.streams.checkpoint_contract import (
    check_size,
    checked_checkpoint,
    checked_epoch,
    checked_name,
    in_use,
    next_epoch,
    seconds_between_saves,
    split_epoch,
    taken_over,
    unusable,
    with_epoch,
)
from agora_analytics.streams.checkpoints import Checkpoint

if TYPE_CHECKING:
    from agora_analytics._core.process_lock import Claim
    from agora_analytics.errors import CheckpointError

__all__ = ["FileCheckpoints", "MemoryCheckpoints"]

T = TypeVar("T")

_EPOCH_BYTES: Final = 64
"""Bytes at the start of a file in which its epoch is."""


class MemoryCheckpoints:
    """Keeps checkpoints in memory; for tests, and for streams that resume within one process.

    Streams save under a name at most once in `every` seconds.
    """

    def __init__(self, *, every: float = 0.0) -> None:
        self.every = seconds_between_saves(every)
        self._texts: dict[str, str] = {}
        self._epochs: dict[str, int] = {}
        self._leased: set[str] = set()

    async def load(self, name: str) -> Checkpoint | None:
        """Return the checkpoint that was saved last, or None; takes nothing over."""
        text = self._texts.get(checked_name(name))
        return None if text is None else Checkpoint.decode(text)

    async def acquire(self, name: str) -> Lease:
        """Take a name over; raises `CheckpointError` while another stream holds it."""
        name = checked_name(name)
        if name in self._leased:
            raise in_use(name, "another stream")
        lease = Lease(self._epochs.get(name, 0) + 1, await self.load(name))
        self._epochs[name] = lease.epoch
        self._leased.add(name)
        return lease

    async def save(self, name: str, checkpoint: Checkpoint, epoch: int) -> None:
        """Save a checkpoint; raises `CheckpointError` if the name was acquired after `epoch`."""
        name, text, epoch = checked_name(name), checked_checkpoint(checkpoint).encode(), checked_epoch(epoch)
        if epoch < self._epochs.get(name, 0):
            raise taken_over(name)
        # As text, as a file has it: what cannot be encoded fails here too, and nothing is shared with the stream.
        self._texts[name], self._epochs[name] = text, epoch

    async def release(self, name: str, epoch: int) -> None:
        """End the lease with this epoch; does nothing if it has ended."""
        name, epoch = checked_name(name), checked_epoch(epoch)
        if epoch == self._epochs.get(name):
            self._leased.discard(name)


class FileCheckpoints:
    """Keeps each checkpoint in a file of a folder, which is created if needed.

    ```python
    async with AnalyticsClient.from_env(checkpoints=FileCheckpoints("checkpoints")) as client:
        async with client.calls.follow(checkpoint="calls") as calls:  # resumes where the last run stopped
            async for event in calls:
                print(event)
                break
    ```

    Saves are atomic: written to a temporary file, synced to the disk, and renamed; a cancelled save is completed first.
    A name is leased to one stream at a time, among all processes that use the folder. The lease ends with its process,
    even if that is killed, and not while it is only stopped. `folder` must be on a local disk: where locks do not work,
    the epoch in the file still tells the earlier of two streams that it was taken over. Streams save under a name at
    most once in `every` seconds. Raises `CheckpointError` if a file cannot be read or written.
    """

    def __init__(self, folder: str | Path, *, every: float = 0.0) -> None:
        self.folder = validation.path("folder", folder)
        self.every = seconds_between_saves(every)
        self._claims: dict[tuple[str, int], Claim] = {}

    def __repr__(self) -> str:
        return f"FileCheckpoints({str(self.folder)!r})"

    async def load(self, name: str) -> Checkpoint | None:
        """Return the checkpoint that was saved last, or None; takes nothing over."""
        return (await self._completed(self._path(name), _read)).checkpoint

    async def acquire(self, name: str) -> Lease:
        """Take a name over; raises `CheckpointError` while another stream of any process holds it."""
        name = checked_name(name)
        claimed: list[Claim] = []
        try:
            lease = await self._completed(self._path(name), lambda path: _acquire(path, claimed))
        except BaseException:
            # The claim may have been made although the caller was cancelled, or the file cannot be written.
            for claim in claimed:
                claim.release()
            raise
        if lease is None:
            raise in_use(name, "another stream or process")
        self._claims[name, lease.epoch] = claimed[0]
        return lease

    async def save(self, name: str, checkpoint: Checkpoint, epoch: int) -> None:
        """Save a checkpoint; raises `CheckpointError` if the name was acquired after `epoch`."""
        name, checkpoint, epoch = checked_name(name), checked_checkpoint(checkpoint), checked_epoch(epoch)
        # In a thread: for thousands of windows this is megabytes.
        if not await self._completed(self._path(name), lambda path: _save(path, checkpoint, epoch)):
            raise taken_over(name)

    async def release(self, name: str, epoch: int) -> None:
        """End the lease with this epoch; does nothing if this store does not have it, as in a forked child."""
        claim = self._claims.pop((checked_name(name), checked_epoch(epoch)), None)
        if claim is not None:
            claim.release()

    async def _completed(self, path: Path, work: Callable[[Path], T]) -> T:
        """Run `work` in a thread, and return or raise only once it has ended: saves and releases stay in order."""
        try:
            # Not a task, which would be cancelled by itself when the loop shuts down.
            return await wait_until_done(asyncio.get_running_loop().run_in_executor(None, work, path))
        except OSError as error:
            raise _unusable(path, error) from None

    def _path(self, name: str) -> Path:
        return self.folder / f"{_file_name(checked_name(name))}.json"


def _file_name(name: str) -> str:
    """Return the file name for a name, which is unique even if the file system ignores case."""
    # Which letters are capitals, as bits: names that differ in case alone get files of their own.
    capitals = sum(1 << position for position, letter in enumerate(name) if letter.isupper())
    return f"{name}~{capitals:x}" if capitals else name


def _claimed(path: Path) -> list[Claim]:
    """Lock the checkpoint at a path and delete temporary files of killed processes; return [] if it is locked."""
    from agora_analytics._core.process_lock import claim  # noqa: PLC0415 - loads SQLite

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = claim(path.with_name(f".{path.stem}.lock"))
    if lock is None:
        return []
    # Under the lock no other process writes this checkpoint, so all its temporary files are left over.
    temporary = re.compile(re.escape(files.temporary_prefix(path)) + r"[a-z0-9_]{8}")
    for file in path.parent.iterdir():
        if temporary.fullmatch(file.name):
            file.unlink(missing_ok=True)
    return [lock]


def _read(path: Path) -> Lease:
    """Return the epoch and the checkpoint of a file, 0 and None if there is none."""
    try:
        check_size(path.lstat().st_size, str(path))
        epoch, text = split_epoch(files.read(path))
    except FileNotFoundError:
        return Lease(0)
    return Lease(epoch, Checkpoint.decode(text, source=str(path)) if text or not epoch else None)


def _acquire(path: Path, claimed: list[Claim]) -> Lease | None:
    """Draw the next epoch of the checkpoint at a path, once it is locked; None where another holds the lock."""
    claimed.extend(_claimed(path))
    if not claimed:
        return None
    found = _read(path)
    lease = Lease(next_epoch(found.epoch, time.time()), found.checkpoint)
    files.write_atomically(path, with_epoch(lease.epoch, lease.checkpoint))
    return lease


def _save(path: Path, checkpoint: Checkpoint, epoch: int) -> bool:
    """Replace the checkpoint at a path; False if its epoch is a later one."""
    try:
        with files.opened(path, "rb") as file:
            found, _ = split_epoch(file.read(_EPOCH_BYTES))
    except FileNotFoundError:
        found = 0
    if found > epoch:
        return False
    text = with_epoch(epoch, checkpoint)
    check_size(len(text), str(path))
    files.write_atomically(path, text)
    return True


def _unusable(path: Path, error: OSError) -> CheckpointError:
    hint = "Check the path, its permissions, and the free space of the disk."
    return unusable(f"the checkpoint {str(path)!r}", error.strerror or error, hint)
