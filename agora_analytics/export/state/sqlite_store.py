"""The SQLite file of an export's state: how it is opened, changed, and what is told when it cannot be.

It is locked for as long as an export runs, by the kernel, which also unlocks it for a process that is gone.
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

SCHEMA_VERSION: Final = 2
"""Of the tables."""

REBUILD_HINT: Final = "rebuild=True (--rebuild) makes a state of manifest.json, if that lists all that is there"
"""What helps where there is no state that can be used."""

_APPLICATION_ID: Final = 0x41474F52
"""What tells SQLite's file of a state from others."""

_DAMAGE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_PAGE_SIZE: Final = 8_192
"""Bytes of a page."""

_OPEN_TIMEOUT: Final = 0.5
"""Seconds that opening waits for others that are being opened; one that runs keeps its lock for longer."""

_MAX_RETRY_DELAY: Final = 0.02
"""Seconds between two tries meanwhile, at most."""

_REPLACE_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that puts a damaged file aside."""


class DamagedError(Exception):
    """The file is not what this version of the library wrote."""


class SqliteStore:
    """The open file; read and changed by one thread. Raises `ExportError` for whatever goes wrong with it."""

    schema: ClassVar[str] = ""
    """The tables."""

    def __init__(self, path: Path, place: str) -> None:
        self._path = path
        self._place = place
        with self._translate_errors():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open()

    @classmethod
    def replace_damaged(cls, path: Path, place: str) -> Self:
        """Open a new file in the place of a damaged one, which is renamed; of several that do so at once, one does."""
        with cls._replacement_lock(path, place):
            try:
                return cls(path, place)  # another process has done so meanwhile
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
        """Open it; two that meet while they lock it both fail, so each tries again, after a time of its own."""
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
        # Exclusive from the first access until closed, with the log of changes in memory of this process alone.
        self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._database.execute(f"PRAGMA page_size={_PAGE_SIZE}")  # answers are tens of kilobytes
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("BEGIN EXCLUSIVE")
        self._database.execute("COMMIT")
        self._path.chmod(0o600)
        self._validate()
        self._database.execute(f"PRAGMA application_id={_APPLICATION_ID}")  # first: whoever is killed here has begun it
        self._database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._database.executescript(self.schema)

    def _validate(self) -> None:
        """Raise `DamagedError` for a file that is torn, or somebody else's."""
        told = [self._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if (
            told != [_APPLICATION_ID, SCHEMA_VERSION]
            and self._database.execute("SELECT 1 FROM sqlite_master").fetchone()
        ):
            other = f"its version is {told[1]}, not {SCHEMA_VERSION}"
            raise DamagedError(other if told[0] == _APPLICATION_ID else "it is not the state of an export")
        found = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise DamagedError(found)
        if not self._is_whole():
            raise DamagedError("its last page is cut short")

    def _is_whole(self) -> bool:
        """Whether the last page is there to its end, which SQLite would fill up; the log of changes may have it."""
        log = self._path.with_name(f"{self._path.name}-wal")
        return (log.exists() and log.stat().st_size > 0) or self._path.stat().st_size % _PAGE_SIZE == 0

    def close(self) -> None:
        """Close it."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside, or none."""
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
        """Bring to the disk itself what was changed so far: it outlasts a power cut."""
        with self._translate_errors():
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def copy_to(self, path: Path) -> None:
        """Write all of it as it is now into a file, in the place of what is there."""
        path.unlink(missing_ok=True)
        with self._translate_errors():
            self._database.execute("VACUUM INTO ?", (str(path),))

    def replace_from(self, path: Path) -> None:
        """Become what another file holds, which is gone then; the lock is kept all the while."""
        with self._translate_errors():
            with closing(sqlite3.connect(not_linked(path))) as other:
                other.backup(self._database)
            path.unlink()
        self.on_rollback()

    def flush(self) -> None:
        """Put down what was gathered to go together; done before anything is read, and in the end."""

    def on_rollback(self) -> None:
        """Forget what is remembered of a transaction that was not made."""

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
    """Whether a file is not what this version of the library wrote."""
    return isinstance(error, DamagedError) or (error is not None and _sqlite_code(error) in _DAMAGE_CODES)


def _rename_damaged(path: Path) -> None:
    """Rename a damaged file, so that another takes its place."""
    for end in ("-wal", "-shm", "-journal", ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{end}").replace(f"{path}.damaged{end}")


def is_state_file(head: bytes) -> bool:
    """Whether these are the first bytes of a state's file, or of its first page."""
    return int.from_bytes(head[68:72]) == _APPLICATION_ID


def _is_locked(error: BaseException) -> bool:
    """Whether another one has the file."""
    return _sqlite_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _sqlite_code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _store_error(path: Path, place: str, error: Exception) -> ExportError:
    """Say what is wrong with the file of an export's state."""
    if _is_locked(error):
        return ExportError(
            f"an export into {place!r} is running already",
            hint="Wait for it, or export into another folder.",
            kind="running",
        )
    said = getattr(error, "strerror", None) or str(error)
    if is_damage(error):
        return ExportError(
            f"the export's state {str(path)!r} is damaged: {said}",
            hint=f"Put back a copy of it that is as new as the files, or export into another place; {REBUILD_HINT}.",
            kind="state",
        )
    return ExportError(
        f"the export's state {str(path)!r} cannot be kept: {said}",
        hint="Check the path and its rights, and that the disk has room; then run the same export again.",
        fault="host",
    )
