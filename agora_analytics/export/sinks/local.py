"""Files in a folder of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Final

import attrs

from agora_analytics._core.files import digest, folder_below, not_linked, opened, read, sync_folder
from agora_analytics.export.sinks.base import Seen

_LINK: Final = Seen(-1, "no file")
"""What is no plain file: a symbolic link, for one, which is not followed."""


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
        missing = _missing(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        _sync_names(missing)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(self.folder))

    def put(self, file: Path, name: str) -> None:
        """Move a finished file there."""
        target = self._place_of(name)
        with opened(file, "rb+") as written:
            os.fsync(written.fileno())
        file.replace(target)
        sync_folder(target.parent)

    def move(self, name: str, to: str) -> None:
        """Give a file another name."""
        target, source = self._place_of(to), not_linked(self.folder / name)
        source.replace(target)
        for folder in {target.parent, source.parent}:
            sync_folder(folder)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there, and the folder that it leaves empty; neither comes back with a power cut."""
        target = self.folder / name
        if not target.parent.exists():
            return
        folder_below(self.folder, target.parent).joinpath(target.name).unlink(missing_ok=True)
        sync_folder(target.parent)
        with suppress(OSError):
            target.parent.rmdir()
            sync_folder(target.parent.parent)

    def look(self, name: str) -> Seen | None:
        """Return what a file looks like; None where there is none."""
        try:
            return _seen(os.lstat(self.folder / name))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def files(self, folder: str) -> dict[str, Seen]:
        """Return the files in a folder and below, by name; a link is told, and not followed."""
        top = self.folder / folder
        if top.is_symlink():
            return {folder: _LINK}
        return {path.relative_to(self.folder).as_posix(): seen for path, seen in _below(top)}

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes; None where there is none."""
        try:
            return read(self.folder / name)
        except FileNotFoundError:
            return None

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file's bytes."""
        return digest(self.folder / name)

    def get(self, name: str, file: Path) -> None:
        """Copy a file from there."""
        file.write_bytes(read(self.folder / name))

    def create(self, name: str, held: bytes) -> None:
        """Make a file; raises `FileExistsError` where there is one."""
        with opened(self._place_of(name), "xb") as file:
            file.write(held)

    def _place_of(self, name: str) -> Path:
        """Return a file's path; the folders that are made for it outlast a power cut."""
        target = self.folder / name
        missing = _missing(target.parent)
        folder_below(self.folder, target.parent)
        _sync_names(missing)
        return target

    def scrub(self, text: str) -> str:
        """Return the text: there are no credentials."""
        return text

    def __str__(self) -> str:
        return os.fsencode(self.folder).decode(errors="backslashreplace")  # a name on disk is bytes, not always text


def _below(folder: Path) -> Iterator[tuple[Path, Seen]]:
    """Yield what is in a folder and below that is no folder; what cannot be listed is an error."""
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))
        else:
            yield Path(entry.path), _seen(entry.stat(follow_symlinks=False))


def _seen(found: os.stat_result) -> Seen:
    if not stat.S_ISREG(found.st_mode):
        return _LINK
    return Seen(found.st_size, f"{found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}")


def _missing(folder: Path) -> list[Path]:
    """Return the folders that are to be made for one, itself first."""
    return list(takewhile(lambda one: not one.exists(), (folder, *folder.parents)))


def _sync_names(folders: list[Path]) -> None:
    """Bring to the disk that there are new folders."""
    for folder in folders:
        sync_folder(folder.parent)
