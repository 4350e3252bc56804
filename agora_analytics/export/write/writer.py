"""Who writes parts: rows as they wait on disk become rows of a format.

One writer at a time: one that outlives its export, since that was killed, is waited for.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

from agora_analytics._core.files import not_linked, own_folder
from agora_analytics.export.formats import DATABASE_FORMATS, FILE_FORMATS, open_tables
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.state.sqlite_store import is_damage
from agora_analytics.export.write.column_batch import concat, deserialize
from agora_analytics.export.write.lock_wait import LockWait, is_busy

_CHUNK_SIZE: Final = 2**17
"""Bytes of waiting rows that are turned into rows of a format in one go."""

LOCK_FILE: Final = "writing.lock"
"""The file beside the state that a writer locks."""

_SUFFIXES: Final = "|".join(re.escape(one.suffix) for one in FILE_FORMATS.values())
_WHOLE_FILES: Final = "|".join(
    re.escape(name) for name in ("manifest.json", *(one.file for one in DATABASE_FORMATS.values()))
)
_LEFTOVER_FILES: Final = re.compile(rf"\d+({_SUFFIXES})|{_WHOLE_FILES}")
"""What writers leave behind where they are killed: parts, the manifest, a copy of a database."""

_LOCK_TIMEOUT: Final = 30.0
"""Seconds to wait for a writer whose export is gone; it ends once it has done what it was told."""


_ROW_ERRORS: Final = (ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
"""What the library of a format raises for rows rather than for files."""


_DUCKDB_DAMAGED: Final = re.compile(
    "corrupt|not a valid duckdb|could not read enough bytes|version number", re.IGNORECASE
)
"""How DuckDB says that a file is damaged or of another version; its classes of errors do not tell that from a disk."""

_DUCKDB_LOCKED: Final = re.compile("could not set lock", re.IGNORECASE)
"""How DuckDB says that another process has the file open."""

RESTORE_HINT: Final = "Put back a copy of it that is as new as the state, or export into another place."
"""What to do about a database that cannot be read."""


class WriterError(OSError):
    """What makes the files has failed, and not the disk that they are on."""


class DatabaseError(OSError):
    """The file of a database is damaged, or is none."""


class BusyError(OSError):
    """Another process has what is to be written."""


def error_kind(error: BaseException) -> Literal["running", "disk", "writer", "state"]:
    """Tell what failed: the place of the files, who makes them, or a database: another one has it, or it is damaged."""
    if isinstance(error, DatabaseError) or is_damage(error) or _matches(error, _DUCKDB_DAMAGED):
        return "state"
    if isinstance(error, BusyError) or is_busy(error) or _matches(error, _DUCKDB_LOCKED):
        return "running"
    return "writer" if isinstance(error, (WriterError, *_ROW_ERRORS)) else "disk"


def _matches(error: BaseException, what: re.Pattern[str]) -> bool:
    return "duckdb" in type(error).__module__ and what.search(str(error)) is not None


class RowWriter(Protocol):
    """Writes parts, one after the other; used by one thread. What goes wrong may be told by `end` alone."""

    def ready(self) -> None:
        """Wait until all is open; raises what went wrong with that."""

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part and rows of all that a database holds."""

    def begin(self, dataset: str, part: int) -> None:
        """Begin a part, in the place of what was begun before."""

    def add(self, stored: Sequence[bytes]) -> None:
        """Add rows as they wait on disk."""

    def end(self) -> int:
        """Complete the part, and return how many rows it has."""

    def copy(self, name: str) -> None:
        """Copy a database as it is between two parts into the folder of what is not complete."""

    def close(self) -> None:
        """Let go of everything; a part that was begun is not kept."""

    def abort(self) -> None:
        """Make what another thread waits for end now, where that can be: the writer is of no more use then."""


class InProcessWriter:
    """Writes in this process."""

    def __init__(self, name: str, folder: Path, scratch: Path) -> None:
        self._lock = writer_lock(scratch.parent)
        self._scratch = scratch
        self._dataset = ""
        self._rows = 0
        try:
            for left in own_folder(scratch).iterdir():
                if is_writer_leftover(left.name):
                    left.unlink()
            self._tables = open_tables(name, folder, scratch)
        except BaseException:
            self._lock.close()
            raise

    def ready(self) -> None:
        """Open what others may have."""
        self._tables.ready()

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part and rows of all that a database holds."""
        return self._tables.part_row_counts()

    def begin(self, dataset: str, part: int) -> None:
        """Begin a part."""
        self._tables.undo()
        self._tables.begin(DATASETS[dataset], part)
        self._dataset, self._rows = dataset, 0

    def add(self, stored: Sequence[bytes]) -> None:
        """Add rows."""
        for some in _chunks(stored):
            batch = concat([deserialize(self._dataset, one) for one in some])
            self._tables.add(batch)
            self._rows += batch.rows

    def end(self) -> int:
        """Complete the part."""
        self._tables.end()
        return self._rows

    def copy(self, name: str) -> None:
        """Copy a database."""
        self._tables.copy(self._scratch / name)

    def close(self) -> None:
        """Let go of everything."""
        try:
            self._tables.undo()
            self._tables.close()
        finally:
            self._lock.close()

    def abort(self) -> None:
        """End the wait for others; this process goes on."""
        self._tables.abort()


def is_writer_leftover(name: str) -> bool:
    """Whether a file in the folder of what is not complete has a name that writers give."""
    return _LEFTOVER_FILES.fullmatch(name) is not None


def writer_lock(folder: Path) -> sqlite3.Connection:
    """Return what keeps other writers out for as long as it is open; the system lets go of it with the process.

    Raises `BusyError` where another writer does not end.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = sqlite3.connect(not_linked(folder / LOCK_FILE), timeout=0, isolation_level=None, check_same_thread=False)
    try:
        LockWait(_LOCK_TIMEOUT, LOCK_FILE).run(lambda: lock.execute("BEGIN EXCLUSIVE"))
    except BaseException as error:
        lock.close()
        if is_busy(error):
            raise BusyError("another process still writes there") from error
        raise
    return lock


def _chunks(stored: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield rows a few pieces at a time."""
    some: list[bytes] = []
    size = 0
    for piece in stored:
        some.append(piece)
        size += len(piece)
        if size >= _CHUNK_SIZE:
            yield some
            some, size = [], 0
    if some:
        yield some
