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

VERSION: Final = 2
"""Of the tables."""

REBUILD: Final = "rebuild=True (--rebuild) makes a state of manifest.json, if that lists all that is there"
"""What helps where there is no state that can be used."""

_KIND: Final = 0x41474F52
"""What tells SQLite's file of a state from others."""

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_PAGE: Final = 8_192
"""Bytes of a page."""

_MEANWHILE: Final = 0.5
"""Seconds that opening waits for others that are being opened; one that runs keeps its lock for longer."""

_POLL: Final = 0.02
"""Seconds between two tries meanwhile, at most."""

_RENEWING: Final = 5.0
"""Seconds to wait for another process that puts a damaged file aside."""


class DamagedError(Exception):
    """The file is not what this version of the library wrote."""


class Tables:
    """The open file; read and changed by one thread. Raises `ExportError` for whatever goes wrong with it."""

    layout: ClassVar[str] = ""
    """The tables."""

    def __init__(self, path: Path, place: str) -> None:
        self._path = path
        self._place = place
        with self._telling():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open()

    @classmethod
    def renewed(cls, path: Path, place: str) -> Self:
        """Open a new file in the place of a damaged one, which is renamed; of several that do so at once, one does."""
        with cls._one_renews(path, place):
            try:
                return cls(path, place)  # another process has done so meanwhile
            except ExportError as error:
                if not is_damage(error.__cause__):
                    raise
            _put_aside(path)
            return cls(path, place)

    @staticmethod
    @contextmanager
    def _one_renews(path: Path, place: str) -> Iterator[None]:
        try:
            lock = sqlite3.connect(not_linked(Path(f"{path}.lock")), timeout=_RENEWING, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise _unusable(path, place, error) from error
        with closing(lock):
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                raise _unusable(path, place, error) from error
            yield

    def _open(self) -> None:
        """Open it; two that meet while they lock it both fail, so each tries again, after a time of its own."""
        until = time.monotonic() + _MEANWHILE
        while True:
            self._database = sqlite3.connect(
                not_linked(self._path), timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException as error:
                self._database.close()
                if not _locked(error) or time.monotonic() > until:
                    raise
                time.sleep(Random().uniform(0, _POLL))  # noqa: S311 - jitter, no secret
            else:
                return

    def _prepare(self) -> None:
        # Exclusive from the first access until closed, with the log of changes in memory of this process alone.
        self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._database.execute(f"PRAGMA page_size={_PAGE}")  # answers are tens of kilobytes
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("BEGIN EXCLUSIVE")
        self._database.execute("COMMIT")
        self._path.chmod(0o600)
        self._check()
        self._database.execute(f"PRAGMA application_id={_KIND}")  # first: whoever is killed here has begun it
        self._database.execute(f"PRAGMA user_version={VERSION}")
        self._database.executescript(self.layout)

    def _check(self) -> None:
        """Raise `DamagedError` for a file that is torn, or somebody else's."""
        told = [self._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if told != [_KIND, VERSION] and self._database.execute("SELECT 1 FROM sqlite_master").fetchone():
            other = f"its version is {told[1]}, not {VERSION}"
            raise DamagedError(other if told[0] == _KIND else "it is not the state of an export")
        found = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise DamagedError(found)
        if not self._is_whole():
            raise DamagedError("its last page is cut short")

    def _is_whole(self) -> bool:
        """Whether the last page is there to its end, which SQLite would fill up; the log of changes may have it."""
        log = self._path.with_name(f"{self._path.name}-wal")
        return (log.exists() and log.stat().st_size > 0) or self._path.stat().st_size % _PAGE == 0

    def close(self) -> None:
        """Close it."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside, or none."""
        with self._telling():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.settle()
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                self.undone()
                raise

    def sync(self) -> None:
        """Bring to the disk itself what was changed so far: it outlasts a power cut."""
        with self._telling():
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def copy_to(self, path: Path) -> None:
        """Write all of it as it is now into a file, in the place of what is there."""
        remove_database(path)
        with self._telling():
            self._database.execute("VACUUM INTO ?", (str(path),))

    def take_from(self, path: Path) -> None:
        """Become what another file holds, which is gone then; the lock is kept all the while."""
        with self._telling():
            with closing(sqlite3.connect(not_linked(path))) as other:
                other.backup(self._database)
            path.unlink()
        self.undone()

    def settle(self) -> None:
        """Put down what was gathered to go together; done before anything is read, and in the end."""

    def undone(self) -> None:
        """Forget what is remembered of a transaction that was not made."""

    def _run(self, statement: str, *values: object) -> int:
        return self._database.execute(statement, values).rowcount

    def _many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._database.executemany(statement, rows)

    def _all(self, statement: str, *values: object) -> list[Any]:
        self.settle()
        return self._database.execute(statement, values).fetchall()

    def _one(self, statement: str, *values: object) -> Any:
        rows = self._all(statement, *values)
        return rows[0] if rows else None

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, DamagedError) as error:
            raise _unusable(self._path, self._place, error) from error


def is_damage(error: BaseException | None) -> bool:
    """Whether a file is not what this version of the library wrote."""
    return isinstance(error, DamagedError) or (error is not None and _code(error) in _DAMAGE)


def remove_database(path: Path) -> None:
    """Remove a database with what SQLite and DuckDB keep beside it.

    A log that a killed process left there would be taken for that of whatever file has the name next.
    """
    for file in (*logs_of(path), path):
        file.unlink(missing_ok=True)


def logs_of(path: Path) -> tuple[Path, ...]:
    """Return what SQLite and DuckDB keep beside a database while it is open, whether it is there or not."""
    return tuple(path.with_name(path.name + end) for end in ("-journal", "-wal", "-shm", ".wal"))


def _put_aside(path: Path) -> None:
    """Rename a damaged file, so that another takes its place."""
    for file in (*logs_of(path), path):
        with suppress(FileNotFoundError):
            file.replace(path.with_name(file.name.replace(path.name, f"{path.name}.damaged")))


def is_state(head: bytes) -> bool:
    """Whether these are the first bytes of a state's file, or of its first page."""
    return int.from_bytes(head[68:72]) == _KIND


def _locked(error: BaseException) -> bool:
    """Whether another one has the file."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _unusable(path: Path, place: str, error: Exception) -> ExportError:
    """Say what is wrong with the file of an export's state."""
    if _locked(error):
        return ExportError(
            f"an export into {place!r} is running already",
            hint="Wait for it, or export into another folder.",
            kind="running",
        )
    said = getattr(error, "strerror", None) or str(error)
    if is_damage(error):
        return ExportError(
            f"the export's state {str(path)!r} is damaged: {said}",
            hint=f"Put back a copy of it that is as new as the files, or export into another place; {REBUILD}.",
            kind="state",
        )
    return ExportError(
        f"the export's state {str(path)!r} cannot be kept: {said}",
        hint="Check the path and its rights, and that the disk has room; then run the same export again.",
        fault="host",
    )
