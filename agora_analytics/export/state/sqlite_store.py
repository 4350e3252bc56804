"""The SQLite file of an export's state: how it is opened, checked and changed.

It is locked while an export runs. The lock is the kernel's, which drops it with the process.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final, Self

from agora_analytics._core.files import not_linked
from agora_analytics.errors import ExportError

SCHEMA_VERSION: Final = 3
"""Version of the tables; stored in the file."""

REBUILD_HINT: Final = "rebuild=True (--rebuild) rebuilds the state from manifest.json, if that lists every file"
"""What to do without a usable state."""

_APPLICATION_ID: Final = 0x41474F52
"""SQLite's application id of a state file."""

_DAMAGE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_PAGE_SIZE: Final = 8_192
"""Bytes of a page: answers are tens of kilobytes."""

_OPEN_TIMEOUT: Final = 0.5
"""Seconds to retry while another process opens the file at the same time; a running export holds its lock longer."""

_MAX_RETRY_DELAY: Final = 0.02
"""Most seconds between two attempts."""

_REPLACE_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that replaces a damaged file."""


class DamagedError(Exception):
    """The file is not what this version of the library writes."""


class SqliteStore:
    """The open file, used by one thread. Raises `ExportError` for every error of the file."""

    schema: ClassVar[str] = ""
    """SQL that creates the tables."""

    def __init__(self, path: Path, place: str) -> None:
        self._path = path
        self._place = place
        with self._translate_errors():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open()

    @classmethod
    def replace_damaged(cls, path: Path, place: str) -> Self:
        """Open a new file and rename the damaged one. Of several processes, one does so."""
        with cls._replacement_lock(path, place):
            try:
                return cls(path, place)  # another process may have replaced it
            except ExportError as error:
                if not is_damage(error.__cause__):
                    raise
            _rename_damaged(path)
            return cls(path, place)

    @staticmethod
    @contextmanager
    def _replacement_lock(path: Path, place: str) -> Iterator[None]:
        try:
            lock = sqlite3.connect(not_linked(Path(f"{path}.lock")), timeout=_REPLACE_TIMEOUT, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise _store_error(path, place, error) from error
        with closing(lock):
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                raise _store_error(path, place, error) from error
            yield

    def _open(self) -> None:
        """Open and lock the file. Two processes that do so at once may both fail: each retries after a random delay."""
        until = time.monotonic() + _OPEN_TIMEOUT
        while True:
            self._database = sqlite3.connect(
                not_linked(self._path), timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException as error:
                self._database.close()
                if not _is_locked(error) or time.monotonic() > until:
                    raise
                time.sleep(Random().uniform(0, _MAX_RETRY_DELAY))  # noqa: S311 - jitter, no secret
            else:
                return

    def _prepare(self) -> None:
        # Locked from the first access until closed; so the index of the write-ahead log stays in memory.
        self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
        # Before the first page is written: afterwards a file keeps its page size.
        self._database.execute(f"PRAGMA page_size={_PAGE_SIZE}")
        self._database.execute("PRAGMA journal_mode=WAL")
        # Commits survive the process; a power cut only what `sync` has written, which is called before parts appear.
        self._database.execute("PRAGMA synchronous=NORMAL")
        # Takes the lock now, and not at the first change.
        self._database.execute("BEGIN EXCLUSIVE")
        self._database.execute("COMMIT")
        self._path.chmod(0o600)
        self._validate()
        # First, so that a process killed here leaves a recognizable file.
        self._database.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        self._database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._database.executescript(self.schema)

    def _validate(self) -> None:
        """Raise `DamagedError` if the file is torn, or no state."""
        header = [self._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if (
            header != [_APPLICATION_ID, SCHEMA_VERSION]
            and self._database.execute("SELECT 1 FROM sqlite_master").fetchone()
        ):
            other = f"its version is {header[1]}, not {SCHEMA_VERSION}"
            raise DamagedError(other if header[0] == _APPLICATION_ID else "it is not the state of an export")
        found = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise DamagedError(found)
        if not self._is_whole():
            raise DamagedError("its last page is cut short")

    def _is_whole(self) -> bool:
        """Whether the last page is complete, which SQLite does not check; the write-ahead log may have it."""
        wal = self._path.with_name(f"{self._path.name}-wal")
        return (wal.exists() and wal.stat().st_size > 0) or self._path.stat().st_size % _PAGE_SIZE == 0

    def close(self) -> None:
        """Close the file, and release its lock."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes of the block, or none."""
        with self._translate_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.flush()
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                self.on_rollback()
                raise

    def sync(self) -> None:
        """Fsync all changes so far: they survive a power cut."""
        with self._translate_errors():
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def copy_to(self, path: Path) -> None:
        """Write a copy to `path`, and replace a file there."""
        remove_database(path)
        with self._translate_errors():
            # Without free pages, so that an upload has only what is needed.
            self._database.execute("VACUUM INTO ?", (str(path),))

    def replace_from(self, path: Path) -> None:
        """Replace the content by that of another file, which is deleted. The lock is held throughout."""
        with self._translate_errors():
            with closing(sqlite3.connect(not_linked(path))) as other:
                # Through the open connection: a file that is moved here would have no lock.
                other.backup(self._database)
            path.unlink()
        self.on_rollback()

    def flush(self) -> None:
        """Write buffered changes. Called before every read, and before a commit."""

    def on_rollback(self) -> None:
        """Discard caches and buffers of a transaction that was rolled back."""

    def _execute(self, statement: str, *values: object) -> int:
        return self._database.execute(statement, values).rowcount

    def _executemany(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._database.executemany(statement, rows)

    def _fetchall(self, statement: str, *values: object) -> list[Any]:
        self.flush()
        return self._database.execute(statement, values).fetchall()

    def _fetchone(self, statement: str, *values: object) -> Any:
        rows = self._fetchall(statement, *values)
        return rows[0] if rows else None

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, DamagedError) as error:
            raise _store_error(self._path, self._place, error) from error


def is_damage(error: BaseException | None) -> bool:
    """Whether an error means that the file is damaged."""
    return isinstance(error, DamagedError) or (error is not None and _sqlite_code(error) in _DAMAGE_CODES)


def remove_database(path: Path) -> None:
    """Remove a database with its side files: a log that a killed process left would be applied to the next file."""
    for file in (*side_files(path), path):
        # The database last: as long as it is there, no other file can get its log.
        file.unlink(missing_ok=True)


def side_files(path: Path) -> tuple[Path, ...]:
    """Return the paths where SQLite and DuckDB keep logs beside an open database."""
    return tuple(path.with_name(path.name + end) for end in ("-journal", "-wal", "-shm", ".wal"))


def _rename_damaged(path: Path) -> None:
    """Rename a damaged file and what SQLite keeps beside it."""
    for file in (*side_files(path), path):
        with suppress(FileNotFoundError):
            file.replace(path.with_name(file.name.replace(path.name, f"{path.name}.damaged")))


def is_state_file(head: bytes) -> bool:
    """Whether a file, or its first page, with this header is a state."""
    return int.from_bytes(head[68:72]) == _APPLICATION_ID


def _is_locked(error: BaseException) -> bool:
    """Whether another connection has the file locked."""
    return _sqlite_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _sqlite_code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _store_error(path: Path, place: str, error: Exception) -> ExportError:
    """Return the `ExportError` for an error of the file."""
    if _is_locked(error):
        return ExportError(
            f"an export into {place!r} is running already",
            hint="Wait for it, or export into another folder.",
            kind="running",
        )
    reason = getattr(error, "strerror", None) or str(error)
    if is_damage(error):
        return ExportError(
            f"the export's state {str(path)!r} is damaged: {reason}",
            hint=f"Put back a copy of it that is as new as the files, or export into another place; {REBUILD_HINT}.",
            kind="state",
        )
    return ExportError(
        f"the export's state {str(path)!r} cannot be written: {reason}",
        hint="Check the path, its permissions and the space on the disk; then run the same export again.",
        fault="host",
    )
