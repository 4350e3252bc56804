"""Copies of a state beside the files of a URL: what they are called, how they are packed, which database is theirs."""

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
from agora_analytics.export.state.found_parts import Held
from agora_analytics.export.state.progress import State
from agora_analytics.export.state.sqlite_store import DamagedError, is_damage, logs_of, remove_database
from agora_analytics.export.state.staging import Facts
from agora_analytics.export.write.writer import alone

FOLDER: Final = ".agora-export"
"""The folder beside the files that has the state."""

_NAME: Final = re.compile(rf"{re.escape(FOLDER)}/(run|state|database)-(\d{{8}})(?:-\d+)?(?:\.[a-z.]+)?")

DAMAGES: Final = (gzip.BadGzipFile, EOFError, zlib.error, DamagedError)
"""What unpacking and checking raise for a copy that is not what was written, rather than for a disk."""


class Copy(NamedTuple):
    """What is beside the files: the number of a run, the name, what it looks like, and of which kind it is."""

    run: int
    name: str
    mark: str
    kind: str


def found(sink: Sink, *kinds: str) -> list[Copy]:
    """Return what is beside the files, of the kinds `run`, `state` and `database`."""
    told = [(_NAME.fullmatch(name), seen) for name, seen in sink.files(FOLDER).items()]
    return [Copy(int(match[2]), match[0], seen.mark, match[1]) for match, seen in told if match and match[1] in kinds]


def write(state: State, path: Path, held: Held | None) -> None:
    """Write a copy of a state as it is now; `held` is the database that goes with it, of one that is not closed."""
    state.copy_to(path)
    if held is not None:
        copy = State(path, path.name)
        try:
            with copy.transaction():
                copy.keep_database(None)
                copy.keep_held(held)
        finally:
            copy.close()


def check(path: Path) -> Held | None:
    """Return which database goes with a copy; raises `DamagedError` for a file that is no state of an export."""
    try:
        state = State(path, path.name)
    except ExportError as error:
        if is_damage(error.__cause__):
            raise DamagedError(str(error.__cause__)) from None
        raise
    try:
        if not state.settings():
            raise DamagedError("it is empty")
        return state.held()
    finally:
        state.close()


def get(sink: Sink, name: str, file: Path) -> None:
    """Copy a file here, in the place of what is there; a link is replaced, and not followed."""
    remove_database(file)
    sink.get(name, file)


def fetch_held(sink: Sink, held: Held, path: Path) -> bool:
    """Bring the database that goes with a copy here, unless it is; return whether it is anywhere.

    It may have its own name, or that which readers know.
    """
    if _is(path, held.sha256):
        return True
    come = path.with_name("database.copy")
    for name in (held.name, path.name):
        if sink.look(name) is not None:
            get(sink, name, come)
            if _is(come, held.sha256):
                _place(come, path)
                return True
    return False


def fetch_closed(sink: Sink, facts: Facts | None, path: Path) -> None:
    """Bring a closed database here, if the one here is another."""
    if facts is not None and not _is(path, facts.sha256):
        come = path.with_name("database.copy")
        get(sink, path.name, come)
        _place(come, path)


def _is(path: Path, digest: str | None) -> bool:
    return path.exists() and files.digest(path) == digest and not any(log.exists() for log in logs_of(path))


def _place(come: Path, path: Path) -> None:
    """Put a database in the place of the one that is here, and of what was kept beside that."""
    lock = alone(path.parent)  # who writes the one that is here may outlive its export by a moment
    try:
        remove_database(path)
        come.replace(path)
    finally:
        lock.close()


def packed(path: Path) -> Path:
    """Compress a file, which is gone then."""
    into = path.with_suffix(".gz")
    with (
        files.opened(path, "rb") as file,
        files.opened(into, "wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as packing,
    ):
        shutil.copyfileobj(file, packing)
    path.unlink()
    return into


def unpack(path: Path) -> None:
    """Replace a compressed file by what it holds."""
    plain = path.with_suffix(".plain")
    with files.opened(path, "rb") as raw, gzip.GzipFile("", "rb", 1, raw) as file, files.opened(plain, "wb") as into:
        shutil.copyfileobj(file, into)
    plain.chmod(0o600)
    plain.replace(path)
