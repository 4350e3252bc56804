"""Files in a folder of this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import attrs


@attrs.frozen
class LocalSink:
    """A folder, which is made if need be. A file is brought to the disk, then put in its place."""

    folder: Path

    @property
    def identity(self) -> str:
        """What tells this place from all others."""
        return str(self.folder)

    def check(self) -> None:
        """Raise `OSError` where nothing can be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(self.folder))

    def put(self, file: Path, name: str) -> None:
        """Move a finished file there."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        file.replace(target)
        _sync(target.parent)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there, and the folder that it leaves empty."""
        target = self.folder / name
        target.unlink(missing_ok=True)
        with suppress(OSError):
            target.parent.rmdir()

    def scrub(self, text: str) -> str:
        """Return the text: there are no credentials."""
        return text

    def __str__(self) -> str:
        return str(self.folder)


def _sync(folder: Path) -> None:
    """Bring a folder's list of files to the disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
