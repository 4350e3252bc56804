"""CSV as RFC 4180 has it: a header, quotes where needed; null is an empty field, times are in ISO 8601.

Text that a spreadsheet would take for a formula gets an apostrophe in front, which spreadsheets do not show.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from agora_analytics.export._batches import Batch, Runs, Values
from agora_analytics.export._columns import Dataset
from agora_analytics.export.formats._writing import iso

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@attrs.frozen
class Csv:
    """CSV."""

    @property
    def suffix(self) -> str:
        """How the names of its files end."""
        return ".csv"

    def writer(self, path: Path, dataset: Dataset) -> CsvWriter:
        """Begin a file."""
        return CsvWriter(path, dataset)


class CsvWriter:
    """Writes CSV."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._kinds = [column.kind for column in dataset.columns]
        self._writer = csv.writer(self._file, lineterminator="\r\n")
        self._writer.writerow(dataset.names)

    def write(self, batch: Batch) -> None:
        """Add rows."""
        self._writer.writerows(zip(*map(_told, self._kinds, batch.columns), strict=True))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _told(kind: str, values: Values) -> Iterable[Any]:
    function = _TELL.get(kind)
    if function is None:
        return values
    if isinstance(values, Runs):
        return values.map(function)
    return map(function, values)


def _harmless(text: str | None) -> str | None:
    return f"'{text}" if text and text.startswith(_FORMULA) else text


def _flag(value: bool | None) -> str | None:  # noqa: FBT001 - a cell
    return None if value is None else str(value).lower()


_TELL: Final[Mapping[str, Callable[[Any], Any]]] = {"text": _harmless, "time": iso, "boolean": _flag}
