"""Where files go: one seam, and what is common to all places."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import attrs


@attrs.frozen
class FileStat:
    """What a file looks like without being read: `mark` is another one whenever its bytes may be others."""

    size: int
    mark: str


class Sink(Protocol):
    """A place for files, by names relative to it with `/` between; each appears whole or not at all."""

    @property
    def identity(self) -> str:
        """What tells this place from all others; not for showing."""

    def check(self) -> None:
        """Raise `OSError` where nothing can be written."""

    def put(self, file: Path, name: str) -> None:
        """Move a finished local file there, in the place of what has that name."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name, in the place of what has that."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def stat(self, name: str) -> FileStat | None:
        """Return what a file looks like; None where there is none."""

    def files(self, folder: str) -> dict[str, FileStat]:
        """Return the files in a folder and below, by name; without those that readers skip (`.name`, `_name`)."""

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes; None where there is none."""

    def get(self, name: str, file: Path) -> None:
        """Copy a file from there."""

    def create(self, name: str, held: bytes) -> None:
        """Make a file; raises `FileExistsError` where there is one."""

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file's bytes."""

    def scrub(self, text: str) -> str:
        """Return a text without credentials."""

    def __str__(self) -> str:
        """The place, without credentials."""


def error_text(error: Exception) -> str:
    """Return what an error says, in its own words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
