"""Parts as files of their own, in a folder out of sight."""

from __future__ import annotations

from pathlib import Path

import attrs

from agora_analytics._core.files import not_linked
from agora_analytics.export.formats.base import FileEncoder, FileFormat
from agora_analytics.export.schema import Dataset
from agora_analytics.export.write.column_batch import ColumnBatch


@attrs.define
class FileTables:
    """Writes each part into a file `PART.SUFFIX` of a folder."""

    _format: FileFormat
    _folder: Path
    _writer: FileEncoder | None = None

    def ready(self) -> None:
        """Do nothing: each file is opened when it begins."""

    def begin(self, dataset: Dataset, part: int) -> None:
        """Begin a file."""
        self._writer = self._format.writer(not_linked(self._folder / f"{part}{self._format.suffix}"), dataset)

    def add(self, batch: ColumnBatch) -> None:
        """Add rows."""
        if self._writer is not None:
            self._writer.write(batch)

    def end(self) -> None:
        """Write what is left, and close the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def undo(self) -> None:
        """Close the file; it is nobody's."""
        self.end()

    def part_row_counts(self) -> list[tuple[str, int, int]]:
        """Return nothing: each file is by itself."""
        return []

    def copy(self, path: Path) -> None:
        """Do nothing: each file is by itself."""

    def close(self) -> None:
        """Do nothing more: each file is closed when it ends."""

    def abort(self) -> None:
        """Do nothing: nobody else has the files."""
