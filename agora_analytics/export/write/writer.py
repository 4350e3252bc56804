"""What writes the rows of parts: its interface, its errors, and the lock that keeps a second writer out."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

from agora_analytics._core.files import not_linked, own_folder
from agora_analytics.export.formats import DATABASE_FORMATS, FILE_FORMATS, open_format
from agora_analytics.export.formats.base import FormatWriter
from agora_analytics.export.sinks import ReplacedError
from agora_analytics.export.state.sqlite_store import is_damage
from agora_analytics.export.write.delta_log import DamagedLogError
from agora_analytics.export.write.lock_wait import LockWait, is_busy

LOCK_FILE: Final = "writing.lock"
"""The file beside the state that a writer locks."""

_SUFFIXES: Final = "|".join(re.escape(one.suffix) for one in FILE_FORMATS.values())
_NAMES: Final = "|".join(
    re.escape(name) for name in ("manifest.json", *(one.file for one in DATABASE_FORMATS.values()))
)
_LEFTOVER_FILES: Final = re.compile(rf"\d+({_SUFFIXES})|{_NAMES}")
"""What a killed writer leaves in the scratch folder: parts, the manifest, a copy of a database."""

_LOCK_TIMEOUT: Final = 30.0
"""Seconds to wait for the writer of a killed export: it ends once it has executed its last commands."""

_ROW_ERRORS: Final = (ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
"""What the library of a format raises for rows rather than for files."""

_DUCKDB_DAMAGED: Final = re.compile(
    "corrupt|not a valid duckdb|could not read enough bytes|version number", re.IGNORECASE
)
"""DuckDB's messages for a damaged file or one of another version; its error classes are those of disk errors."""

_DUCKDB_LOCKED: Final = re.compile("could not set lock", re.IGNORECASE)
"""DuckDB's message for a file that another process has open."""

RESTORE_HINT: Final = "Put back a copy of it that is as new as the state, or export into another place."
"""What to do about a database that cannot be read."""


class WriterError(OSError):
    """The writer failed, and not the disk that it writes to."""


class WriterRestartedError(WriterError):
    """The writer process died: the part that was being written must be begun again, which starts a new process."""


class DatabaseError(OSError):
    """The file of a database is damaged, or is no database."""


class BusyError(OSError):
    """Another process has locked what is to be written."""


def error_kind(error: BaseException) -> Literal["running", "superseded", "disk", "writer", "state"]:
    """Return what failed.

    `superseded`: another run continues the export; `state`: a damaged database or log; `running`: another process has
    it locked; `writer`: the encoder or its process; `disk`: anything else.
    """
    if isinstance(error, ReplacedError):
        return "superseded"
    if isinstance(error, DatabaseError | DamagedLogError) or is_damage(error) or _matches(error, _DUCKDB_DAMAGED):
        return "state"
    if isinstance(error, BusyError) or is_busy(error) or _matches(error, _DUCKDB_LOCKED):
        return "running"
    return "writer" if isinstance(error, (WriterError, *_ROW_ERRORS)) else "disk"


def _matches(error: BaseException, message: re.Pattern[str]) -> bool:
    return "duckdb" in type(error).__module__ and message.search(str(error)) is not None


class RowWriter(Protocol):
    """Writes parts, one after the other: a `FormatWriter`, or a `SubprocessWriter`.

    Used by one thread. Errors of `begin` and `add` may be raised as late as by `end`. `add` and `end` may raise
    `WriterRestartedError`.
    """

    def ready(self) -> None:
        """Wait until everything is open; raises what failed while it was opened."""

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part id and rows of every part in a database."""

    def begin(self, dataset: str, part: int) -> None:
        """Begin a part, in place of one that was not ended."""

    def add(self, payloads: Sequence[bytes]) -> None:
        """Add serialized rows."""

    def end(self) -> int:
        """Complete the part, and return its number of rows."""

    def copy(self, path: Path) -> None:
        """Copy a database to `path`, between two parts."""

    def close(self) -> None:
        """Release everything. A part that was not ended is discarded."""

    def abort(self) -> None:
        """End what another thread waits for, if possible; the writer cannot be used any more."""


def open_in_process(name: str, folder: Path, scratch: Path) -> FormatWriter:
    """Open a writer of a format in this process, with an empty scratch folder and the writer lock."""
    # Before the scratch folder is cleared, where another writer may still be at work.
    lock = writer_lock(scratch.parent)
    try:
        for path in own_folder(scratch).iterdir():
            if is_writer_leftover(path.name):
                path.unlink()
        writer = open_format(name, folder, scratch)
    except BaseException:
        lock.close()
        raise
    writer.resources.callback(lock.close)
    return writer


def is_writer_leftover(name: str) -> bool:
    """Whether a file name in the scratch folder is one that writers use."""
    return _LEFTOVER_FILES.fullmatch(name) is not None


def writer_lock(folder: Path) -> sqlite3.Connection:
    """Lock out other writers until the connection is closed or its process is gone.

    Raises `BusyError` if another writer does not end within 30 s.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite's lock works on every system, and ends with the process however that ends.
    lock = sqlite3.connect(not_linked(folder / LOCK_FILE), timeout=0, isolation_level=None, check_same_thread=False)
    try:
        LockWait(_LOCK_TIMEOUT, LOCK_FILE).run(lambda: lock.execute("BEGIN EXCLUSIVE"))
    except BaseException as error:
        lock.close()
        if is_busy(error):
            raise BusyError("another process still writes there") from error
        raise
    return lock
