"""Where checkpoints are kept by name: in memory, or each in a file of a folder.

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

# ASCII alone: other letters take up to four bytes each in a file's name, and é has two spellings.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}")


class MemoryCheckpoints:
    """Keeps checkpoints for as long as it lives."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._leased: set[str] = set()

    async def load(self, name: str) -> Checkpoint | None:
        """Return what was saved under a name last, or None."""
        text = self._texts.get(checked(name))
        return None if text is None else Checkpoint.decode(text)

    async def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint under a name."""
        self._texts[checked(name)] = _checkpoint(checkpoint).encode()

    async def acquire(self, name: str) -> None:
        """Lease a name; raises `CheckpointError` while another stream has it."""
        name = checked(name)
        if name in self._leased:
            raise _in_use(name, "another stream")
        self._leased.add(name)

    async def release(self, name: str) -> None:
        """End the lease of a name; nothing happens where there is none."""
        self._leased.discard(checked(name))


class FileCheckpoints:
    """Keeps each checkpoint in a file of a folder, which is made if need be.

    Saved whole or not at all: written beside the file, brought to the disk, and put in its place; a save that is
    cancelled is completed first. A name is leased to one stream at a time, among all processes that use the folder; the
    lease ends with its process, however that ends. `folder` must be on a local disk. Raises `CheckpointError` for what
    cannot be read or written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = validation.path("folder", folder)
        self._leases: dict[str, Claim] = {}

    def __repr__(self) -> str:
        return f"FileCheckpoints({str(self.folder)!r})"

    async def load(self, name: str) -> Checkpoint | None:
        """Return what was saved under a name last, or None where there is no such file."""
        path = self._path(name)
        try:
            text = await asyncio.to_thread(files.read, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from None
        return Checkpoint.decode(text, source=str(path))

    async def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint under a name."""
        path, checkpoint = self._path(name), _checkpoint(checkpoint)
        try:
            await _completed(
                lambda: files.write_atomically(path, checkpoint.encode())
            )  # of thousands of windows it is megabytes
        except OSError as error:
            raise _unusable(path, error) from None

    async def acquire(self, name: str) -> None:
        """Lease a name; raises `CheckpointError` while another stream has it, in this process or another one."""
        name = checked(name)
        path = self._path(name)
        claimed: list[Claim] = []
        try:
            await _completed(lambda: claimed.extend(_claimed(path)))
        except OSError as error:
            raise _unusable(path, error) from None
        except asyncio.CancelledError:
            for claim in claimed:
                claim.give_up()
            raise
        if not claimed:
            raise _in_use(name, "another stream or process")
        self._leases[name] = claimed[0]

    async def release(self, name: str) -> None:
        """End the lease of a name; nothing happens where this store has none, as in a forked child."""
        lease = self._leases.pop(checked(name), None)
        if lease is not None:
            lease.give_up()

    def _path(self, name: str) -> Path:
        return self.folder / f"{_file_name(checked(name))}.json"


def checked(name: str, argument: str = "name") -> str:
    """Return a name that can be a file's; raises `ValueError` for another, and `TypeError` for what is no text."""
    found = validation.enum_value(name)
    if not isinstance(found, str):
        raise validation.type_error(
            argument, name, "a name: a str" if argument == "name" else "a Checkpoint, or a name: a str"
        )
    if not _NAME.fullmatch(found):
        raise ValueError(
            f"{argument}={validation.short_repr(found)}: allowed are 1 to 100 of the letters a to z and A to Z, digits"
            " and . _ @ + -, beginning with a letter, a digit or _"
        )
    return str.__str__(found)


def _checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    return validation.instance("checkpoint", checkpoint, Checkpoint)


def _file_name(name: str) -> str:
    """Spell a name so that two names are two files also where the file system does not tell A from a."""
    capitals = sum(1 << place for place, letter in enumerate(name) if letter.isupper())
    return f"{name}~{capitals:x}" if capitals else name


def _claimed(path: Path) -> list[Claim]:
    """Claim the checkpoint at a path, and clear away what a process that was killed left; empty if it is taken."""
    from agora_analytics._core.process_lock import claim  # noqa: PLC0415 - SQLite is loaded by those who use it

    path.parent.mkdir(parents=True, exist_ok=True)
    found = claim(path.with_name(f".{path.stem}.lock"))
    if found is None:
        return []
    torn = re.compile(re.escape(files.temporary_prefix(path)) + r"[a-z0-9_]{8}")
    for left in path.parent.iterdir():
        if torn.fullmatch(left.name):
            left.unlink(missing_ok=True)
    return [found]


async def _completed(work: Callable[[], T]) -> T:
    """Run in a thread, and return or raise after its end: a save is overtaken by no later one, nor by a lease's end."""
    # A future and not a task, which would be cancelled by itself when the loop is shut down.
    return await wait_until_done(asyncio.get_running_loop().run_in_executor(None, work))


def _in_use(name: str, by: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {name!r} is in use by {by}",
        hint="Close that stream first, or give this one a name of its own; a lease ends with its process.",
    )


def _unusable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {str(path)!r} cannot be used: {error.strerror or error}",
        hint="Check the path and its rights, and that the disk has room.",
        fault="host",
    )
