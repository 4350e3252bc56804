"""Files of the state in a store: claims of runs, compressed copies of the state, and copies of its database."""

from __future__ import annotations

import gzip
import re
import shutil
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from agora_analytics._core import files
from agora_analytics.errors import ExportError
from agora_analytics.export.sinks import Sink
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.recovery_tables import DatabaseCopy
from agora_analytics.export.state.sqlite_store import DamagedError, is_damage, remove_database, side_files
from agora_analytics.export.state.staging import PartInfo
from agora_analytics.export.write.writer import writer_lock

FOLDER: Final = ".agora-export"
"""The folder of the state in a store."""

_NAME: Final = re.compile(rf"{re.escape(FOLDER)}/(run|state|database)-(\d{{8}})(?:-\d+)?(?:\.[a-z.]+)?")

DAMAGE_ERRORS: Final = (gzip.BadGzipFile, EOFError, zlib.error, DamagedError)
"""Errors of decompressing and checking that mean a damaged copy, and not a failing disk."""


class RemoteFile(NamedTuple):
    """A file of the state: its run number, name, mark, and kind (`run`, `state` or `database`)."""

    run: int
    name: str
    mark: str
    kind: str


def list_files(sink: Sink, *kinds: str) -> list[RemoteFile]:
    """List the files of the given kinds."""
    matched = [(_NAME.fullmatch(name), stat) for name, stat in sink.files(FOLDER).items()]
    return [
        RemoteFile(int(match[2]), match[0], stat.mark, match[1])
        for match, stat in matched
        if match and match[1] in kinds
    ]


def write_copy(state: ExportState, path: Path, database: DatabaseCopy | None) -> None:
    """Write a copy of the state to `path`; `database` is the copy of its open database that belongs to it."""
    state.copy_to(path)
    if database is not None:
        copy = ExportState(path, path.name)
        try:
            with copy.transaction():
                # In the copy alone: the state here has the open database, which goes on.
                copy.set_database(None)
                copy.set_database_copy(database)
        finally:
            copy.close()


def check_copy(path: Path) -> DatabaseCopy | None:
    """Return the database that belongs to a copy; raises `DamagedError` if the file is no state of an export."""
    try:
        state = ExportState(path, path.name)
    except ExportError as error:
        if is_damage(error.__cause__):
            raise DamagedError(str(error.__cause__)) from None
        raise
    try:
        if not state.settings():
            raise DamagedError("it is empty")
        return state.database_copy()
    finally:
        state.close()


def download(sink: Sink, name: str, file: Path) -> None:
    """Download a file, and replace one that is there; a symbolic link is replaced, and not followed."""
    remove_database(file)
    sink.get(name, file)


def fetch_database(sink: Sink, database: DatabaseCopy, path: Path) -> bool:
    """Download the database that belongs to a copy, unless it is here; return whether it was found.

    It has a name of its own, or that of the published database.
    """
    if _has_digest(path, database.sha256):
        return True
    download_path = path.with_name("database.copy")
    for name in (database.name, path.name):
        if sink.stat(name) is not None:
            download(sink, name, download_path)
            if _has_digest(download_path, database.sha256):
                _install_database(download_path, path)
                return True
    return False


def fetch_closed_database(sink: Sink, info: PartInfo | None, path: Path) -> None:
    """Download a closed database, unless it is here."""
    if info is not None and not _has_digest(path, info.sha256):
        download_path = path.with_name("database.copy")
        download(sink, path.name, download_path)
        _install_database(download_path, path)


def _has_digest(path: Path, digest: str | None) -> bool:
    # A log beside it has changes that the file lacks.
    return path.exists() and files.digest(path) == digest and not any(file.exists() for file in side_files(path))


def _install_database(new: Path, path: Path) -> None:
    """Replace the database on this machine, and delete the files beside it."""
    lock = writer_lock(path.parent)  # the writer of the old one may still run for a moment
    try:
        remove_database(path)
        new.replace(path)
    finally:
        lock.close()


def compress(path: Path) -> Path:
    """Compress a file, and delete it; return the new one."""
    target = path.with_suffix(".gz")
    with (
        files.opened(path, "rb") as file,
        files.opened(target, "wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as compressor,
    ):
        shutil.copyfileobj(file, compressor)
    path.unlink()
    return target


def decompress(path: Path) -> None:
    """Decompress a file in place."""
    plain = path.with_suffix(".plain")
    with (
        files.opened(path, "rb") as raw,
        gzip.GzipFile("", "rb", 1, raw) as file,
        files.opened(plain, "wb") as decompressed,
    ):
        shutil.copyfileobj(file, decompressed)
    plain.chmod(0o600)
    plain.replace(path)
