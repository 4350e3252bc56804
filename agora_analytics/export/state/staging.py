"""Rows that wait for their file, and the parts that they make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

import attrs

from agora_analytics.export.state.sqlite_store import SqliteStore
from agora_analytics.export.write.column_batch import ColumnBatch, deserialize, serialize


@attrs.frozen
class Part:
    """A file of an export, or what takes its place in a database. `number` 0 holds what is provisional."""

    id: int
    dataset: str
    app: str
    day: int
    number: int

    @property
    def partition(self) -> Partition:
        """Whose rows it has."""
        return Partition(self.dataset, self.app, self.day)


@attrs.frozen(kw_only=True)
class PartInfo:
    """What a part holds: rows, and for a file its bytes, their SHA-256, and what it looks like (see `Seen.mark`)."""

    rows: int
    bytes: int | None = None
    sha256: str | None = None
    mark: str | None = None


@attrs.frozen
class Partition:
    """Rows that wait for one part."""

    dataset: str
    app: str
    day: int


@attrs.frozen
class SerializedRows:
    """Rows as they wait on disk: a tenth of what they take while they are objects."""

    dataset: str
    count: int
    payload: bytes


@attrs.frozen
class StagedRows:
    """Rows that waited, of so many bytes, up to the staged id `last`."""

    payloads: list[bytes]
    size: int
    last: int


def serialized(rows: ColumnBatch) -> SerializedRows:
    """Return rows as they wait on disk."""
    return SerializedRows(rows.dataset.name, rows.rows, serialize(rows))


_SEPARATOR: Final = b"\n"
"""What is in no packed rows."""

_INFO_COLUMNS: Final = ("rows", "bytes", "sha256", "mark")

_SELECT_PARTS: Final = "SELECT parts.id, dataset, app, day, number FROM parts JOIN groups ON groups.id = kin"


class StagingTables(SqliteStore):
    """Rows that wait for their file, and the parts that they make.

    Numbers are never given twice: a part that is sealed has the rows of its group up to a number, and those after it
    wait. One that was begun and not sealed is nothing yet.

    Attributes:
        grown: bytes that wait, by dataset, App ID and day; too much after a transaction that failed. Other threads
            may look at it.

    """

    schema: ClassVar[str] = """
CREATE TABLE IF NOT EXISTS groups (
    id INTEGER PRIMARY KEY, dataset TEXT, app TEXT, day INTEGER, UNIQUE (dataset, app, day)
);
CREATE TABLE IF NOT EXISTS staged (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kin INTEGER, provisional INTEGER, source TEXT, size INTEGER, bytes INTEGER,
    piece BLOB
);
CREATE INDEX IF NOT EXISTS staged_by_group ON staged (kin, provisional);
CREATE INDEX IF NOT EXISTS staged_by_source ON staged (source) WHERE provisional;
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kin INTEGER, number INTEGER, upto INTEGER, written INTEGER,
    size INTEGER, bytes INTEGER, sha256 TEXT, mark TEXT, UNIQUE (kin, number)
);
CREATE TABLE IF NOT EXISTS database (bytes INTEGER, sha256 TEXT, mark TEXT);
CREATE TABLE IF NOT EXISTS originals (
    id INTEGER PRIMARY KEY, kin INTEGER, number INTEGER, size INTEGER, bytes INTEGER, sha256 TEXT, reason TEXT
);
"""

    def __init__(self, path: Path, place: str) -> None:
        self._buffer: dict[tuple[int, bool, str], list[SerializedRows]] = {}
        self._partition_ids: dict[Partition, int] = {}
        super().__init__(path, place)
        self.staged_bytes = dict(self.unsealed_bytes())

    def replace_from(self, path: Path) -> None:
        """Become what another file holds, which is gone then."""
        super().replace_from(path)
        self.staged_bytes = dict(self.unsealed_bytes())

    def on_rollback(self) -> None:
        """Forget what a transaction that was not made had numbered."""
        self._partition_ids.clear()
        self._buffer.clear()

    def stage(self, app: str, day: int, rows: SerializedRows, *, source: str = "", provisional: bool = False) -> None:
        """Keep rows until their file is written; provisional ones until they are replaced."""
        if not rows.count:
            return
        partition = Partition(rows.dataset, app, day)
        if not provisional:
            self.staged_bytes[partition] = self.staged_bytes.get(partition, 0) + len(rows.payload)
        self._buffer.setdefault((self._partition_id(partition), provisional, source), []).append(rows)

    def flush(self) -> None:
        """Keep what was staged: what goes together as one, in fewer pages of the file than each by itself."""
        for key, some in self._buffer.items():
            piece = _SEPARATOR.join([one.payload for one in some])
            self._execute(
                "INSERT INTO staged (kin, provisional, source, size, bytes, piece) VALUES (?, ?, ?, ?, ?, ?)",
                *key,
                sum(one.count for one in some),
                sum(len(one.payload) for one in some),
                piece,
            )
        self._buffer.clear()

    def _partition_id(self, partition: Partition) -> int:
        """Return a group's number, a new one for a new group."""
        number = self._partition_ids.get(partition)
        if number is None:
            key = attrs.astuple(partition)
            self._execute("INSERT OR IGNORE INTO groups (dataset, app, day) VALUES (?, ?, ?)", *key)
            (number,) = self._fetchone("SELECT id FROM groups WHERE dataset = ? AND app = ? AND day = ?", *key)
            self._partition_ids[partition] = number
        return number

    def take_provisional(self, source: str) -> list[tuple[str, int, ColumnBatch]]:
        """Return App ID, day and rows of all that is provisional of a source, and forget it."""
        rows = self._fetchall(
            "SELECT dataset, app, day, piece FROM staged JOIN groups ON groups.id = kin"
            " WHERE provisional AND source = ?",
            source,
        )
        if rows:
            self._execute("DELETE FROM staged WHERE provisional AND source = ?", source)
        return [
            (app, day, deserialize(dataset, payload))
            for dataset, app, day, piece in rows
            for payload in piece.split(_SEPARATOR)
        ]

    def provisional_rows(self) -> int:
        """Return how many rows are provisional."""
        found = self._fetchone("SELECT coalesce(sum(size), 0) FROM staged WHERE provisional")
        return int(found[0])

    def unsealed_bytes(self) -> list[tuple[Partition, int]]:
        """Return the rows that wait for a part, by part, and their bytes."""
        rows = self._fetchall(
            "SELECT dataset, app, day, sum(bytes) FROM staged JOIN groups ON groups.id = kin WHERE NOT provisional"
            " AND staged.id > (SELECT coalesce(max(upto), 0) FROM parts WHERE parts.kin = staged.kin)"
            " GROUP BY kin ORDER BY dataset, app, day"
        )
        return [(Partition(*row[:3]), row[3]) for row in rows]

    def begin_part(self, partition: Partition) -> Part:
        """Number a new part of rows that wait."""
        kin = self._partition_id(partition)
        number, row = self._fetchone(
            "INSERT INTO parts (kin, number, written) SELECT ?, coalesce(max(number), 0) + 1, 0 FROM"
            " (SELECT kin, number FROM parts UNION ALL SELECT kin, number FROM originals) WHERE kin = ?"
            " RETURNING number, id",
            kin,
            kin,
        )
        return Part(row, partition.dataset, partition.app, partition.day, number)

    def seal_part(self, part: Part, sealed_through: int, size: int) -> None:
        """Note that a part has all rows that waited up to a staged id, of so many bytes."""
        self._execute("UPDATE parts SET upto = ? WHERE id = ?", sealed_through, part.id)
        self.staged_bytes[part.partition] = self.staged_bytes.get(part.partition, 0) - size

    def sealed_parts(self) -> list[Part]:
        """Return the parts that were sealed and not ended; those that were not even sealed are forgotten."""
        self._execute("DELETE FROM parts WHERE NOT written AND upto IS NULL")
        return [Part(*row) for row in self._fetchall(f"{_SELECT_PARTS} WHERE NOT written")]

    def provisional_parts(self) -> tuple[list[Part], list[Part]]:
        """Number the parts that provisional rows make now; return these, and the parts that have no rows any more.

        Until they are ended or removed, nothing is known of what was there under their names.
        """
        self.flush()
        self._execute("UPDATE parts SET size = NULL WHERE number = 0")
        self._execute(
            "INSERT OR IGNORE INTO parts (kin, number, written) SELECT DISTINCT kin, 0, 1 FROM staged WHERE provisional"
        )
        has_rows = "EXISTS (SELECT 1 FROM staged WHERE staged.kin = parts.kin AND provisional)"
        full = self._fetchall(f"{_SELECT_PARTS} WHERE number = 0 AND {has_rows}")
        empty = self._fetchall(f"{_SELECT_PARTS} WHERE number = 0 AND NOT {has_rows}")
        return [Part(*row) for row in full], [Part(*row) for row in empty]

    def read_rows(self, part: Part, after: int, most: int) -> StagedRows | None:
        """Return the next rows of a part, after a staged id, about so many bytes; None where there are no more."""
        found: list[bytes] = []
        size, last = 0, after
        cursor = self._database.execute(
            "SELECT staged.id, staged.bytes, piece FROM parts"
            " JOIN staged ON staged.kin = parts.kin AND provisional = (number = 0)"
            " WHERE parts.id = ? AND staged.id > ? AND (upto IS NULL OR staged.id <= upto) ORDER BY staged.id",
            (part.id, after),
        )
        for number, size_of_piece, piece in cursor:
            last = number
            found += piece.split(_SEPARATOR)
            size += size_of_piece
            if size >= most:
                break
        cursor.close()
        return StagedRows(found, size, last) if found else None

    def finish_part(self, part: Part, facts: PartInfo) -> None:
        """Note that a part is written; rows that are not provisional wait no more."""
        self._execute(
            "UPDATE parts SET written = 1, size = ?, bytes = ?, sha256 = ?, mark = ? WHERE id = ?",
            *attrs.astuple(facts),
            part.id,
        )
        if part.number:
            self._execute(
                "DELETE FROM staged WHERE NOT provisional AND kin = (SELECT kin FROM parts WHERE id = ?)"
                " AND id <= (SELECT upto FROM parts WHERE id = ?)",
                part.id,
                part.id,
            )

    def remove_part(self, part: Part) -> None:
        """Forget a part that has no rows."""
        self._execute("DELETE FROM parts WHERE id = ?", part.id)

    def parts(self) -> Iterator[tuple[Part, PartInfo]]:
        """Yield the parts that are written, in order."""
        return ((part, facts) for part, facts in self.known_parts() if facts is not None)

    def known_parts(self) -> list[tuple[Part, PartInfo | None]]:
        """Return every part that may be there, in order; without facts one that is written, or taken away, just now."""
        rows = self._fetchall(
            "SELECT parts.id, dataset, app, day, number, size, bytes, sha256, mark FROM parts"
            " JOIN groups ON groups.id = kin WHERE written OR upto IS NOT NULL ORDER BY dataset, app, day, number"
        )
        return [
            (Part(*row[:5]), None if row[5] is None else PartInfo(**dict(zip(_INFO_COLUMNS, row[5:], strict=True))))
            for row in rows
        ]

    def set_mark(self, part: Part, mark: str) -> None:
        """Note what the file of a part looks like now."""
        self._execute("UPDATE parts SET mark = ? WHERE id = ?", mark, part.id)

    # The file of a database

    def set_database(self, facts: PartInfo | None) -> None:
        """Note what the closed file of a database holds; None once it is open."""
        self._execute("DELETE FROM database")
        if facts is not None:
            self._execute("INSERT INTO database VALUES (?, ?, ?)", facts.bytes, facts.sha256, facts.mark)

    def database(self) -> PartInfo | None:
        """Return what the file of a database held when it was closed; None where it was not closed."""
        row = self._fetchone("SELECT bytes, sha256, mark FROM database")
        return None if row is None else PartInfo(rows=0, bytes=row[0], sha256=row[1], mark=row[2])
