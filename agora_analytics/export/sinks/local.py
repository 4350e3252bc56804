"""Sink in a local folder. Every file is fsynced before it is renamed to its place, and so is its folder after that."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Final

import attrs

from agora_analytics._core.files import digest, folder_below, not_linked, opened, read, sync_folder
from agora_analytics.export.sinks.base import FileStat

_NOT_A_FILE: Final = FileStat(-1, "no file")
"""Stat of what is no regular file, like a symbolic link, which is not followed."""


@attrs.frozen
class LocalSink:
    """A local folder, created if it does not exist."""

    folder: Path

    @property
    def identity(self) -> str:
        """The path."""
        return str(self.folder)

    def check(self) -> None:
        """Raise `OSError` if nothing can be written."""
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file, and not a folder", str(self.folder))
        missing = _missing_folders(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        _fsync_parents(missing)
        # Asked and not tried: a file that is written as a test could be left behind.
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(self.folder))

    def expect(self, name: str) -> None:
        """Do nothing: the state beside the files is locked while a run lasts."""

    def put(self, file: Path, name: str) -> None:
        """Move a finished file here: fsync it, then rename it."""
        target = self._place_of(name)
        # Opened for writing although nothing is written: Windows flushes only files that are open for writing.
        with opened(file, "rb+") as written:
            os.fsync(written.fileno())
        file.replace(target)
        sync_folder(target.parent)

    def move(self, name: str, to: str) -> None:
        """Rename a file."""
        target, source = self._place_of(to), not_linked(self.folder / name)
        source.replace(target)
        for folder in {target.parent, source.parent}:
            sync_folder(folder)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists, and its folder if that is empty then; a power cut brings neither back."""
        target = self.folder / name
        if not target.parent.exists():
            return
        folder_below(self.folder, target.parent).joinpath(target.name).unlink(missing_ok=True)
        sync_folder(target.parent)
        # Not empty, as a rule.
        with suppress(OSError):
            target.parent.rmdir()
            sync_folder(target.parent.parent)

    def stat(self, name: str) -> FileStat | None:
        """Return size and mark of a file; None if there is none."""
        try:
            return _file_stat(os.lstat(self.folder / name))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def files(self, folder: str) -> dict[str, FileStat]:
        """Return all files below a folder, by name; a link is listed, and not followed."""
        top = self.folder / folder
        if top.is_symlink():
            return {folder: _NOT_A_FILE}
        return {path.relative_to(self.folder).as_posix(): seen for path, seen in _below(top)}

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        try:
            return read(self.folder / name)
        except FileNotFoundError:
            return None

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file."""
        return digest(self.folder / name)

    def get(self, name: str, file: Path) -> None:
        """Copy a file to `file`."""
        file.write_bytes(read(self.folder / name))

    def create(self, name: str, content: bytes) -> None:
        """Create a file; raises `FileExistsError` if there is one."""
        target = self._place_of(name)
        # Whole or not at all: half of an entry of a Delta log would make the table unreadable.
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with opened(draft, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _link(draft, target, content)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(target.parent)

    def _place_of(self, name: str) -> Path:
        """Return the path of a file; folders that are created for it survive a power cut."""
        target = self.folder / name
        missing = _missing_folders(target.parent)
        folder_below(self.folder, target.parent)
        _fsync_parents(missing)
        return target

    def scrub(self, text: str) -> str:
        """Return the text: a folder has no credentials."""
        return text

    def __str__(self) -> str:
        return os.fsencode(self.folder).decode(errors="backslashreplace")  # a file name is bytes, and not always text


def _link(draft: Path, target: Path, content: bytes) -> None:
    """Give a finished file its name; raises `FileExistsError` if there is one of that name."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:  # some file systems have no hard links
        with opened(target, "xb") as file:
            file.write(content)


def _below(folder: Path) -> Iterator[tuple[Path, FileStat]]:
    """Yield everything below a folder that is no folder; raises `OSError` if one cannot be listed."""
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))
        else:
            yield Path(entry.path), _file_stat(entry.stat(follow_symlinks=False))


def _file_stat(found: os.stat_result) -> FileStat:
    if not stat.S_ISREG(found.st_mode):
        return _NOT_A_FILE
    # A file whose mark is unchanged is not read again. An edit can restore size and modification time, and on POSIX
    # systems not the change time (on Windows, `st_ctime` is the time of creation).
    return FileStat(found.st_size, f"{found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}")


def _missing_folders(folder: Path) -> list[Path]:
    """Return the folders that do not exist yet on the way to `folder`, itself first."""
    return list(takewhile(lambda one: not one.exists(), (folder, *folder.parents)))


def _fsync_parents(folders: list[Path]) -> None:
    """Fsync the parents of new folders."""
    for folder in folders:
        sync_folder(folder.parent)
