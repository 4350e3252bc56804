"""Stores that keep checkpoints by name: in memory, or in the files of a folder.

A name is leased to one stream at a time. The lease on a file is a lock of the kernel, which ends with its process.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from agora_analytics._core import files, validation
from agora_analytics._core.futures import wait_until_done
from agora_analytics.errors import CheckpointError
from agora_analytics.streams.checkpoints import Checkpoint

if TYPE_CHECKING:
    from agora_analytics._core.process_lock import Claim

__all__ = ["FileCheckpoints", "MemoryCheckpoints"]

T = TypeVar("T")

# Only ASCII: other letters take up to four bytes each in a file name, and é has two encodings.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}")


class MemoryCheckpoints:
    """Keeps checkpoints in memory; for tests, and for streams that resume within one process."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._leased: set[str] = set()

    async def load(self, name: str) -> Checkpoint | None:
        """Return the checkpoint that was saved last, or None."""
        text = self._texts.get(checked_name(name))
        return None if text is None else Checkpoint.decode(text)

    async def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Save a checkpoint."""
        # As text, as a file has it: what cannot be encoded fails here too, and nothing is shared with the stream.
        self._texts[checked_name(name)] = _checkpoint(checkpoint).encode()

    async def acquire(self, name: str) -> None:
        """Lease a name; raises `CheckpointError` while another stream holds it."""
        name = checked_name(name)
        if name in self._leased:
            raise _in_use(name, "another stream")
        self._leased.add(name)

    async def release(self, name: str) -> None:
        """Release a name; does nothing if it is not leased."""
        self._leased.discard(checked_name(name))


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
    even if that is killed. `folder` must be on a local disk. Raises `CheckpointError` if a file cannot be read or
    written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = validation.path("folder", folder)
        self._leases: dict[str, Claim] = {}

    def __repr__(self) -> str:
        return f"FileCheckpoints({str(self.folder)!r})"

    async def load(self, name: str) -> Checkpoint | None:
        """Return the checkpoint that was saved last, or None."""
        path = self._path(name)
        try:
            text = await asyncio.to_thread(files.read, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from None
        return Checkpoint.decode(text, source=str(path))

    async def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Save a checkpoint."""
        path, checkpoint = self._path(name), _checkpoint(checkpoint)
        try:
            # In a thread: for thousands of windows this is megabytes.
            await _completed(lambda: files.write_atomically(path, checkpoint.encode()))
        except OSError as error:
            raise _unusable(path, error) from None

    async def acquire(self, name: str) -> None:
        """Lease a name; raises `CheckpointError` while another stream of any process holds it."""
        name = checked_name(name)
        path = self._path(name)
        claimed: list[Claim] = []
        try:
            await _completed(lambda: claimed.extend(_claimed(path)))
        except OSError as error:
            raise _unusable(path, error) from None
        except asyncio.CancelledError:
            # The lock was taken meanwhile, and nobody would release it.
            for claim in claimed:
                claim.release()
            raise
        if not claimed:
            raise _in_use(name, "another stream or process")
        self._leases[name] = claimed[0]

    async def release(self, name: str) -> None:
        """Release a name; does nothing if this store has not leased it, as in a forked child."""
        lease = self._leases.pop(checked_name(name), None)
        if lease is not None:
            lease.release()

    def _path(self, name: str) -> Path:
        return self.folder / f"{_file_name(checked_name(name))}.json"


def checked_name(name: str, argument: str = "name") -> str:
    """Return a name that can be a file name; raises `ValueError` for others, and `TypeError` if it is no text."""
    text = validation.enum_value(name)
    if not isinstance(text, str):
        raise validation.type_error(
            argument, name, "a name: a str" if argument == "name" else "a Checkpoint, or a name: a str"
        )
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{argument}={validation.short_repr(text)}: allowed are 1 to 100 of the letters a to z and A to Z, digits"
            " and . _ @ + -, beginning with a letter, a digit or _"
        )
    return str.__str__(text)


def _checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    return validation.instance("checkpoint", checkpoint, Checkpoint)


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


async def _completed(work: Callable[[], T]) -> T:
    """Run `work` in a thread, and return or raise only once it has ended, so that saves and releases stay in order."""
    # Not a task, which would be cancelled by itself when the loop shuts down.
    return await wait_until_done(asyncio.get_running_loop().run_in_executor(None, work))


def _in_use(name: str, by: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {name!r} is in use by {by}",
        hint="Close that stream first, or give this one another name; a lease ends with its process.",
    )


def _unusable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {str(path)!r} cannot be used: {error.strerror or error}",
        hint="Check the path, its permissions, and the free space of the disk.",
        fault="host",
    )
