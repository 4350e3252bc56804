"""Interface of all sinks."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import attrs


@attrs.frozen
class FileStat:
    """Size of a file, and a mark that changes whenever its content may have changed (an ETag, or inode and mtime)."""

    size: int
    mark: str


class ReplacedError(OSError):
    """Another process has written or removed the file that was to be replaced."""


class Sink(Protocol):
    """A place for files, by relative names with `/`. A file appears whole or not at all."""

    @property
    def identity(self) -> str:
        """What identifies this place, across processes. It may hold secrets: do not show it."""

    def check(self) -> None:
        """Raise `OSError` if nothing can be written."""

    def expect(self, name: str) -> None:
        """Let the next `put` of a name raise `ReplacedError` if the file changes from now on, and the store can tell.

        So a process that is stopped between its last look at the store and its upload replaces nothing newer.
        """

    def put(self, file: Path, name: str) -> None:
        """Move a finished local file here, and replace a file of that name."""

    def move(self, name: str, to: str) -> None:
        """Rename a file, and replace a file of that name."""

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""

    def stat(self, name: str) -> FileStat | None:
        """Return size and mark of a file; None if there is none."""

    def files(self, folder: str) -> dict[str, FileStat]:
        """Return all files below a folder, by name, without those that readers skip (`.name`, `_name`)."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""

    def get(self, name: str, file: Path) -> None:
        """Download a file."""

    def create(self, name: str, content: bytes) -> None:
        """Create a file; raises `FileExistsError` if there is one."""

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file."""

    def scrub(self, text: str) -> str:
        """Replace all credentials in a text."""

    def __str__(self) -> str:
        """Return the place, without credentials."""


def error_text(error: Exception) -> str:
    """Return the message of an error."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
