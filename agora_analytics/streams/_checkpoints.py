"""Where a stream is: the spans of time that are done, and what it must remember of them; and where that is kept."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import attrs

from agora_analytics._json import Unreadable, encode, strict
from agora_analytics.errors import CheckpointError
from agora_analytics.spans import Span, merged

_VERSION: Final = 1
_NAME: Final = re.compile(r"[\w][\w.@+-]{0,99}")


@attrs.frozen(kw_only=True)
class Checkpoint:
    """Where a stream is: `done` are the spans that were delivered, `stream` what it reads, `open` what goes on.

    It goes into a text with `encode()`, for a sink that keeps it in its own transaction, and back with
    `Checkpoint.decode`.
    """

    stream: str
    done: tuple[Span, ...] = ()
    open: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    version: int = _VERSION

    def with_done(self, span: Span) -> Self:
        """Return a checkpoint in which one more span is done."""
        return attrs.evolve(self, done=merged((*self.done, span)))

    def encode(self) -> str:
        """Return it as one line of JSON."""
        return encode(self).decode()

    @classmethod
    def decode(cls, text: str | bytes, *, source: str = "the text") -> Checkpoint:
        """Read it back; raises `CheckpointError` for what is none, or of a later version of this library."""
        try:
            found = _decode(text.encode() if isinstance(text, str) else text)
        except (*Unreadable, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{source} holds no checkpoint: {error}",
                advice="Restore it, or remove it to begin anew: what the service still keeps is read again then.",
            ) from None
        if found.version != _VERSION:
            raise CheckpointError(
                f"{source} holds a checkpoint of version {found.version}; this library reads {_VERSION}",
                advice="Use the version of the library that wrote it, or a later one.",
            )
        return found

    def check(self, stream: str, source: str) -> Self:
        """Return it if it is of this stream; raises `CheckpointError` for one of another."""
        if self.stream != stream:
            raise CheckpointError(
                f"{source} is of another stream ({self.stream}, not {stream})",
                advice="Give each stream a checkpoint of its own: a name for each set of series.",
            )
        return self


_decode = strict(Checkpoint)


class MemoryCheckpoints:
    """Keeps checkpoints for as long as it lives."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    async def load(self, name: str) -> Checkpoint | None:
        """Return what was saved under a name last, or None."""
        text = self._texts.get(checked(name))
        return None if text is None else Checkpoint.decode(text)

    async def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint under a name."""
        self._texts[checked(name)] = checkpoint.encode()


class FileCheckpoints:
    """Keeps each checkpoint in a file of a folder, which is made if need be.

    Saved whole or not at all: written beside the file, brought to the disk, and put in its place. Raises
    `CheckpointError` for what cannot be read or written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    def __repr__(self) -> str:
        return f"FileCheckpoints({str(self.folder)!r})"

    async def load(self, name: str) -> Checkpoint | None:
        """Return what was saved under a name last, or None where there is no such file."""
        path = self._path(name)
        try:
            text = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from None
        return Checkpoint.decode(text, source=str(path))

    async def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint under a name."""
        path = self._path(name)
        try:
            await asyncio.to_thread(_replace, path, checkpoint.encode())
        except OSError as error:
            raise _unusable(path, error) from None

    def _path(self, name: str) -> Path:
        return self.folder / f"{checked(name)}.json"


def checked(name: str) -> str:
    """Return a name that can be a file's; raises `ValueError` for another."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"checkpoint={name!r}: allowed are up to 100 letters, digits and . _ @ + -, not first a sign")
    return name


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(beside).unlink()
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Bring a folder's list of files to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {str(path)!r} cannot be used: {error.strerror or error}",
        advice="Check the path and its rights, and that the disk has room.",
    )
