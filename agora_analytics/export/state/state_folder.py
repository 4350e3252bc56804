"""A folder that is given for an export's state: taken if it is empty, or has the state of an export."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from agora_analytics._core import files
from agora_analytics.errors import ExportError
from agora_analytics.export.formats import DATABASES
from agora_analytics.export.state.sqlite_store import is_state
from agora_analytics.export.write.target import SCRATCH
from agora_analytics.export.write.writer import LOCK, is_left_by_a_writer

STATE: Final = "state.db"

_BEGUN: Final = re.compile(rf"{re.escape(STATE)}([.-].*)?|{re.escape(SCRATCH)}|{re.escape(LOCK)}")
"""What is there of an export that was killed while it made its state, or whose state is damaged."""

_DATABASE: Final = "|".join(re.escape(one.file) for one in DATABASES.values())
_LEFT: Final = re.compile(rf"state\.(copy(-[a-z]+)?|gz|plain)|database\.copy|({_DATABASE})([.-][a-z]+)?")
"""What exports leave beside a state: the database of a format, and what was on its way to the URL or from there."""

_SQLITE: Final = b"SQLite format 3\0"
_HEAD: Final = 100
"""Bytes of a SQLite file that tell what it is."""

_FRAME: Final = 32 + 24
"""Bytes before the first page in SQLite's log of changes."""


def check_given(folder: Path) -> None:
    """Raise `ExportError` where there are files of something else, which would be overwritten, deleted or published."""
    if folder.is_symlink():
        raise _refused(folder, "is a symbolic link, which is not followed")
    strange, damaged = None, False
    with suppress(OSError):  # one that is not there is made, and one that cannot be read is told when it is opened
        found = {path.name: path for path in sorted(folder.iterdir())}
        strange = next(_strange(found), None)
        damaged = _is_damaged(found)
    if damaged:
        raise _damaged(folder)
    if strange is not None:
        raise _refused(folder, f"holds {strange}")


def _refused(folder: Path, wrong: str) -> ExportError:
    return ExportError(
        f"state={str(folder)!r} is to be the folder of an export's state, and {wrong}",
        hint="Nothing was sent, and nothing there was touched. Give a folder that is empty or not there.",
        kind="settings",
    )


def _damaged(folder: Path) -> ExportError:
    return ExportError(
        f"state={str(folder)!r} holds an export's state that is damaged: {STATE} is no state any more",
        hint="Nothing was sent, and nothing there was touched. Give another folder, which is empty or not there: the "
        "export goes on from the copy of its state that lies beside its files.",
        kind="state",
    )


def _is_damaged(found: Mapping[str, Path]) -> bool:
    """Whether a state is damaged among files that exports leave; a state without them is told when it is opened."""
    state = found.get(STATE)
    if state is None or next(_unlike(found), None) or _is_ours(state) or _is_database(state):
        return False
    others = {name for name in found if not _BEGUN.fullmatch(name)}
    left = [path.name for path in found[SCRATCH].iterdir()] if SCRATCH in found else []
    return bool(others or left) and all(map(_LEFT.fullmatch, others)) and all(map(is_left_by_a_writer, left))


def _unlike(found: Mapping[str, Path]) -> Iterator[str]:
    """Yield what is a link, or a folder where exports have a file or the other way round."""
    for name, path in found.items():
        if path.is_symlink() or (path.is_dir() != (name == SCRATCH)):
            yield name


def _strange(found: Mapping[str, Path]) -> Iterator[str]:
    """Yield what no export can have left there."""
    yield from _unlike(found)
    state = found.get(STATE)
    if state is not None and _is_ours(state):
        return
    yield from (name for name in found if not _BEGUN.fullmatch(name))
    if SCRATCH in found:
        yield from (f"{SCRATCH}/{path.name}" for path in found[SCRATCH].iterdir())
    if state is not None and _is_database(state):
        yield f"{STATE}, which is another program's"


def _is_ours(path: Path) -> bool:
    """Whether a file is the state of an export; until SQLite brings it there, its log of changes tells so."""
    head, log = _head(path), path.with_name(f"{path.name}-wal")
    if not head.startswith(_SQLITE):
        return False
    return is_state(head) or (log.exists() and is_state(_head(log, _FRAME)))


def _is_database(path: Path) -> bool:
    """Whether a file is a database that has more than its head, which SQLite writes first."""
    head = _head(path)
    return head.startswith(_SQLITE) and int.from_bytes(head[28:32]) > 1


def _head(path: Path, skipped: int = 0) -> bytes:
    with files.opened(path, "rb") as file:
        file.seek(skipped)
        return bytes(file.read(_HEAD))
