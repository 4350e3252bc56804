"""What a format is: how rows become a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from agora_analytics.export.schema import DATASETS, Dataset
from agora_analytics.export.write.column_batch import ColumnBatch
from agora_analytics.spans import moment


class FileEncoder(Protocol):
    """A file that is being written."""

    def write(self, batch: ColumnBatch) -> None:
        """Add rows."""

    def close(self) -> None:
        """Write what is left, and close the file."""


class FileFormat(Protocol):
    """How rows become a file."""

    @property
    def suffix(self) -> str:
        """How the names of its files end."""

    def writer(self, path: Path, dataset: Dataset) -> FileEncoder:
        """Begin a file of a dataset."""


class _Closed(Protocol):
    def close(self) -> None: ...


@contextmanager
def close_on_error(opened: _Closed) -> Iterator[None]:
    """Close what was opened, where what is done with it fails: nobody gets it then."""
    try:
        yield
    except BaseException:
        opened.close()
        raise


@lru_cache(maxsize=65_536)
def utc(ts: int | None) -> datetime | None:
    """Return a moment; the same second is asked for again and again."""
    return moment(ts)


@lru_cache(maxsize=65_536)
def iso(ts: int | None) -> str | None:
    """Return a moment in ISO 8601, like `2026-11-25T10:00:00Z`."""
    found = moment(ts)
    return None if found is None else found.strftime("%Y-%m-%dT%H:%M:%SZ")


def count_rows(ask: Callable[[str], Iterable[tuple[Any, ...]]], tables: str) -> list[tuple[str, int, int]]:
    """Return dataset, part and rows of all that a database holds, whose table names the query `tables` finds."""
    there = {name for (name,) in ask(tables)}
    return [
        (name, part, rows)
        for name in DATASETS
        if name in there
        for part, rows in ask(f"SELECT _part, count(*) FROM {name} GROUP BY _part")  # noqa: S608 - a dataset's own name
    ]
