"""The library's own files: opened without following symbolic links, written atomically."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from io import BufferedReader

_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
"""Where the system lacks it, the path is checked before."""

_OTHERS_WRITE: Final = 0o022


def not_linked(path: Path) -> Path:
    """Return a path, existing or not; raises `OSError` if it is a symbolic link."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"{path.name} is a symbolic link, and is not followed", str(path))
    return path


def opened(path: Path, mode: str) -> IO[Any]:
    """Open a file, to read or to write; raises `OSError` if it is a symbolic link."""
    # `Path.open` takes no opener.
    # The flag closes the moment between the check and the opening, in which a link could be put there.
    return open(not_linked(path), mode, opener=lambda name, flags: os.open(name, flags | _NO_LINK, 0o666))


def read(path: Path) -> bytes:
    """Return the bytes of a file; raises `OSError` if it is a symbolic link."""
    with opened(path, "rb") as file:
        return bytes(file.read())


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; raises `OSError` if it is a symbolic link."""
    with opened(path, "rb") as file:
        return file_digest(cast("BufferedReader", file), "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's text whole or not at all, power cuts included; its folder is created if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, as a rename is atomic only within one file system.
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # The rename may reach the disk before the text does: a power cut would then leave an empty file.
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(beside).unlink()
        raise
    # Until its folder is on the disk, a power cut may undo the rename.
    sync_folder(path.parent)


def check_writable(path: Path) -> None:
    """Raise `OSError` if `write_atomically` could not replace a file; its folder is created if needed."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, and not a file to write", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent, prefix=temporary_prefix(path)).close()


def temporary_prefix(path: Path) -> str:
    """Return how the names of temporary files begin that are to replace a file."""
    return f".{path.name}."


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of files to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder_below(top: Path, folder: Path) -> Path:
    """Create a folder below another if needed, and return it; raises `OSError` if any part is a symbolic link."""
    path = top
    for name in folder.relative_to(top).parts:
        path /= name
        not_linked(path).mkdir(exist_ok=True)
    return path


def own_folder(path: Path) -> Path:
    """Create a folder that only this user may write to if needed, and return it.

    Raises `OSError` if it is a symbolic link, belongs to a user who does not own its parent folder, or is shared by all
    users (`/tmp`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    not_linked(path).mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if hasattr(os, "geteuid") and found.st_uid not in {os.geteuid(), path.parent.stat().st_uid}:
        raise OSError(errno.EPERM, f"{path.name} belongs to another user ({found.st_uid})", str(path))
    if found.st_mode & _OTHERS_WRITE:
        # A folder like /tmp belongs to everyone: it is refused rather than closed to others.
        if found.st_mode & stat.S_ISVTX:
            raise OSError(errno.EPERM, f"{path.name} is shared with other users", str(path))
        # Anyone who may write to a folder can put other files, or links, in the place of ours.
        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE)
    return path
