"""Checks a folder that a user gives for an export's state: it must be empty, or have the state of an export."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from agora_analytics._core import files
from agora_analytics.errors import ExportError
from agora_analytics.export.formats import DATABASE_FORMATS
from agora_analytics.export.state.sqlite_store import is_state_file
from agora_analytics.export.write.target import SCRATCH_FOLDER
from agora_analytics.export.write.writer import LOCK_FILE, is_writer_leftover

STATE_FILE: Final = "state.db"

_STARTUP_FILES: Final = re.compile(
    rf"{re.escape(STATE_FILE)}([.-].*)?|{re.escape(SCRATCH_FOLDER)}|{re.escape(LOCK_FILE)}"
)
"""Files of an export that was killed while it created its state, or whose state is damaged."""

_DATABASE: Final = "|".join(re.escape(one.file) for one in DATABASE_FORMATS.values())
_LEFTOVER_FILES: Final = re.compile(rf"state\.(copy(-[a-z]+)?|gz|plain)|database\.copy|({_DATABASE})([.-][a-z]+)?")
"""Files beside a state: the database of a format, and files in transfer to or from a store."""

_SQLITE_MAGIC: Final = b"SQLite format 3\0"
_HEADER_SIZE: Final = 100
"""Bytes of the header of a SQLite file."""

_WAL_HEADER_SIZE: Final = 32 + 24
"""Bytes before the first page in a write-ahead log."""


def check_state_folder(folder: Path) -> None:
    """Raise `ExportError` if the folder has foreign files, which could be overwritten, deleted or published."""
    if folder.is_symlink():
        raise _folder_error(folder, "is a symbolic link, which is not followed")
    strange, damaged = None, False
    with suppress(OSError):  # a missing folder is created later, an unreadable one fails later
        found = {path.name: path for path in sorted(folder.iterdir())}
        strange = next(_foreign_files(found), None)
        damaged = _is_damaged(found)
    if damaged:
        raise _damaged_error(folder)
    if strange is not None:
        raise _folder_error(folder, f"has {strange}")


def _folder_error(folder: Path, wrong: str) -> ExportError:
    return ExportError(
        f"state={str(folder)!r} must be the folder of an export's state, but {wrong}",
        hint="Nothing was sent, and nothing there was changed. Give a folder that is empty or does not exist.",
        kind="settings",
    )


def _damaged_error(folder: Path) -> ExportError:
    return ExportError(
        f"state={str(folder)!r} has a damaged state: {STATE_FILE} is no state of an export",
        hint="Nothing was sent, and nothing there was changed. Give another folder, empty or not existing: the "
        "export continues from the copy of its state beside its files.",
        kind="state",
    )


def _is_damaged(found: Mapping[str, Path]) -> bool:
    """Whether a damaged state is beside files of an export; a damaged one alone fails when it is opened."""
    state = found.get(STATE_FILE)
    if state is None or next(_wrong_kinds(found), None) or _is_export_state(state) or _is_database(state):
        return False
    others = {name for name in found if not _STARTUP_FILES.fullmatch(name)}
    left = [path.name for path in found[SCRATCH_FOLDER].iterdir()] if SCRATCH_FOLDER in found else []
    return bool(others or left) and all(map(_LEFTOVER_FILES.fullmatch, others)) and all(map(is_writer_leftover, left))


def _wrong_kinds(found: Mapping[str, Path]) -> Iterator[str]:
    """Yield symbolic links, and folders in place of files or the other way round."""
    for name, path in found.items():
        if path.is_symlink() or (path.is_dir() != (name == SCRATCH_FOLDER)):
            yield name


def _foreign_files(found: Mapping[str, Path]) -> Iterator[str]:
    """Yield what no export can have left."""
    yield from _wrong_kinds(found)
    state = found.get(STATE_FILE)
    if state is not None and _is_export_state(state):
        return
    yield from (name for name in found if not _STARTUP_FILES.fullmatch(name))
    if SCRATCH_FOLDER in found:
        yield from (f"{SCRATCH_FOLDER}/{path.name}" for path in found[SCRATCH_FOLDER].iterdir())
    if state is not None and _is_database(state):
        yield f"{STATE_FILE}, which is another program's"


def _is_export_state(path: Path) -> bool:
    """Whether a file is the state of an export; before the first checkpoint, only its write-ahead log shows that."""
    header, wal = _read_header(path), path.with_name(f"{path.name}-wal")
    if not header.startswith(_SQLITE_MAGIC):
        return False
    return is_state_file(header) or (wal.exists() and is_state_file(_read_header(wal, _WAL_HEADER_SIZE)))


def _is_database(path: Path) -> bool:
    """Whether a file is a SQLite database with more than its first page."""
    head = _read_header(path)
    return head.startswith(_SQLITE_MAGIC) and int.from_bytes(head[28:32]) > 1


def _read_header(path: Path, skipped: int = 0) -> bytes:
    with files.opened(path, "rb") as file:
        file.seek(skipped)
        return bytes(file.read(_HEADER_SIZE))
