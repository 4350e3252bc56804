"""Base of all format writers: serialized rows in, a file or rows of a database out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

from agora_analytics._core.files import not_linked
from agora_analytics.export.schema import DATASETS, Dataset
from agora_analytics.export.write.column_batch import ColumnBatch, concat, deserialize
from agora_analytics.spans import moment

_CHUNK_SIZE: Final = 2**17
"""Bytes of serialized rows that are decoded and encoded at a time."""


class FormatWriter(ABC):
    """Writes the rows of parts in one format: one part after the other, each whole or not at all.

    `begin`, any number of `add`, and `end` write a part. A part that was begun and not ended is discarded. Used by one
    thread; only `abort` may be called by another.

    Attributes:
        resources: what `close` releases, after the writer itself.

    """

    def __init__(self) -> None:
        self.resources = ExitStack()
        self._dataset = ""
        self._rows = 0

    def ready(self) -> None:  # noqa: B027 - optional
        """Open what another program may have locked, and wait for it."""

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return dataset, part id and rows of every part in a database; of files, an empty list."""
        return []

    def begin(self, dataset: str, part: int) -> None:
        """Begin a part, and discard one that was not ended. Rows that a database already has of it are replaced."""
        self._roll_back()
        self._begin(DATASETS[dataset], part)
        self._dataset, self._rows = dataset, 0

    def add(self, payloads: Sequence[bytes]) -> None:
        """Add serialized rows (see `column_batch.serialize`)."""
        for chunk in _chunks(payloads):
            batch = concat([deserialize(self._dataset, payload) for payload in chunk])
            self._write(batch)
            self._rows += batch.rows

    def end(self) -> int:
        """Complete the part, and return its number of rows."""
        self._commit()
        return self._rows

    def copy(self, path: Path) -> None:  # noqa: B027 - optional
        """Copy a database to `path`, between two parts. File formats have nothing to copy."""

    def close(self) -> None:
        """Release everything. A part that was not ended is discarded."""
        with self.resources:
            self._roll_back()
            self._close()

    def abort(self) -> None:  # noqa: B027 - optional
        """End a wait for a lock, from another thread; the writer cannot be used any more."""

    @abstractmethod
    def _begin(self, dataset: Dataset, part: int) -> None: ...

    @abstractmethod
    def _write(self, batch: ColumnBatch) -> None: ...

    @abstractmethod
    def _commit(self) -> None: ...

    @abstractmethod
    def _roll_back(self) -> None: ...

    def _close(self) -> None:  # noqa: B027 - optional
        """Close the database."""


class FileWriter(FormatWriter):
    """Writes each part into a file of its own, `ID.SUFFIX` in the scratch folder."""

    def __init__(self, scratch: Path, suffix: str) -> None:
        super().__init__()
        self._scratch = scratch
        self._suffix = suffix
        self._is_open = False

    def _begin(self, dataset: Dataset, part: int) -> None:
        self._open_file(not_linked(self._scratch / f"{part}{self._suffix}"), dataset)
        self._is_open = True

    def _commit(self) -> None:
        if self._is_open:
            self._is_open = False
            self._close_file()

    def _roll_back(self) -> None:
        self._commit()  # an incomplete file stays in the scratch folder, and is overwritten or deleted there

    @abstractmethod
    def _open_file(self, path: Path, dataset: Dataset) -> None: ...

    @abstractmethod
    def _close_file(self) -> None: ...


def _chunks(payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for payload in payloads:
        chunk.append(payload)
        size += len(payload)
        if size >= _CHUNK_SIZE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _Closable(Protocol):
    def close(self) -> None: ...


@contextmanager
def close_on_error(opened: _Closable) -> Iterator[None]:
    """Close a resource if the block fails, since the caller does not get it then."""
    try:
        yield
    except BaseException:
        opened.close()
        raise


@lru_cache(maxsize=65_536)
def utc(ts: int | None) -> datetime | None:
    """Return a UTC timestamp as a datetime. Cached, since the same seconds recur in many rows."""
    return moment(ts)


@lru_cache(maxsize=65_536)
def iso(ts: int | None) -> str | None:
    """Return a UTC timestamp in ISO 8601, like `2026-11-25T10:00:00Z`."""
    found = moment(ts)
    return None if found is None else found.strftime("%Y-%m-%dT%H:%M:%SZ")


def count_rows(query: Callable[[str], Iterable[tuple[Any, ...]]], table_names: str) -> list[tuple[str, int, int]]:
    """Return dataset, part id and rows of every part in a database; the query `table_names` lists its tables."""
    existing = {name for (name,) in query(table_names)}
    return [
        (name, part, rows)
        for name in DATASETS
        if name in existing
        for part, rows in query(f"SELECT _part, count(*) FROM {name} GROUP BY _part")  # noqa: S608 - a dataset's name
    ]
