"""Staging: fetched rows wait in the state until they are published in a part, whatever crashes in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

import attrs

from agora_analytics.export.state.sqlite_store import SqliteStore
from agora_analytics.export.write.column_batch import ColumnBatch, deserialize, serialize


@attrs.frozen
class Part:
    """A part of a partition: a file, or rows of a database. Part number 0 has the provisional rows."""

    id: int
    dataset: str
    app: str
    day: int
    number: int

    @property
    def partition(self) -> Partition:
        """The partition that it belongs to."""
        return Partition(self.dataset, self.app, self.day)


@attrs.frozen(kw_only=True)
class PartInfo:
    """Rows of a published part; of a file its size, its SHA-256, and its mark (see `FileStat`)."""

    rows: int
    bytes: int | None = None
    sha256: str | None = None
    mark: str | None = None


@attrs.frozen
class Partition:
    """Rows that are published together: those of a dataset, an App ID and a UTC day (days since 1970)."""

    dataset: str
    app: str
    day: int


@attrs.frozen
class SerializedRows:
    """Serialized rows: a tenth of their size as objects."""

    dataset: str
    count: int
    payload: bytes


@attrs.frozen
class StagedRows:
    """Staged rows up to the id `last`, `size` bytes in all."""

    payloads: list[bytes]
    size: int
    last: int


def serialized(rows: ColumnBatch) -> SerializedRows:
    """Serialize rows for staging."""
    return SerializedRows(rows.dataset.name, rows.rows, serialize(rows))


_SEPARATOR: Final = b"\n"
"""Separates payloads; JSON on one line does not contain it."""

_INFO_COLUMNS: Final = ("rows", "bytes", "sha256", "mark")

_SELECT_PARTS: Final = "SELECT parts.id, dataset, app, day, number FROM parts JOIN partitions USING (partition_id)"


class StagingTables(SqliteStore):
    """Staged rows by partition, and their parts.

    Ids of staged rows are never reused (AUTOINCREMENT). So a sealed part owns exactly the staged rows of its partition
    with `id <= sealed_through`, which are deleted once it is published. An unsealed part owns nothing, and is dropped
    when the export continues.

    Attributes:
        staged_bytes: bytes by partition that no sealed part owns; too many after a failed transaction. Other threads
            may read it.

    """

    schema: ClassVar[str] = """
CREATE TABLE IF NOT EXISTS partitions (
    partition_id INTEGER PRIMARY KEY, dataset TEXT, app TEXT, day INTEGER, UNIQUE (dataset, app, day)
);
CREATE TABLE IF NOT EXISTS staged (
    id INTEGER PRIMARY KEY AUTOINCREMENT, partition_id INTEGER, provisional INTEGER, source TEXT, row_count INTEGER,
    bytes INTEGER, payload BLOB
);
CREATE INDEX IF NOT EXISTS staged_by_partition ON staged (partition_id, provisional);
CREATE INDEX IF NOT EXISTS staged_by_source ON staged (source) WHERE provisional;
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, partition_id INTEGER, number INTEGER, sealed_through INTEGER,
    published INTEGER, row_count INTEGER, bytes INTEGER, sha256 TEXT, mark TEXT, UNIQUE (partition_id, number)
);
CREATE TABLE IF NOT EXISTS database (bytes INTEGER, sha256 TEXT, mark TEXT);
CREATE TABLE IF NOT EXISTS original_parts (
    id INTEGER PRIMARY KEY, partition_id INTEGER, number INTEGER, row_count INTEGER, bytes INTEGER, sha256 TEXT,
    reason TEXT
);
"""

    def __init__(self, path: Path, place: str) -> None:
        self._buffer: dict[tuple[int, bool, str], list[SerializedRows]] = {}
        self._partition_ids: dict[Partition, int] = {}
        super().__init__(path, place)
        self.staged_bytes = dict(self.unsealed_bytes())

    def replace_from(self, path: Path) -> None:
        """Replace the content by that of another file, which is deleted."""
        super().replace_from(path)
        self.staged_bytes = dict(self.unsealed_bytes())

    def on_rollback(self) -> None:
        """Discard rows and partition ids of a transaction that was rolled back."""
        self._partition_ids.clear()
        self._buffer.clear()

    def stage(self, app: str, day: int, rows: SerializedRows, *, source: str = "", provisional: bool = False) -> None:
        """Stage rows until their part is published; provisional ones until their source replaces them."""
        if not rows.count:
            return
        partition = Partition(rows.dataset, app, day)
        if not provisional:
            self.staged_bytes[partition] = self.staged_bytes.get(partition, 0) + len(rows.payload)
        self._buffer.setdefault((self._partition_id(partition), provisional, source), []).append(rows)

    def flush(self) -> None:
        """Insert buffered rows: all of one partition and source as one row, which takes fewer pages."""
        for key, buffered in self._buffer.items():
            payload = _SEPARATOR.join([one.payload for one in buffered])
            self._execute(
                "INSERT INTO staged (partition_id, provisional, source, row_count, bytes, payload)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                *key,
                sum(one.count for one in buffered),
                sum(len(one.payload) for one in buffered),
                payload,
            )
        self._buffer.clear()

    def _partition_id(self, partition: Partition) -> int:
        """Return the id of a partition, and create it if it is new."""
        number = self._partition_ids.get(partition)
        if number is None:
            key = attrs.astuple(partition)
            self._execute("INSERT OR IGNORE INTO partitions (dataset, app, day) VALUES (?, ?, ?)", *key)
            (number,) = self._fetchone(
                "SELECT partition_id FROM partitions WHERE dataset = ? AND app = ? AND day = ?", *key
            )
            self._partition_ids[partition] = number
        return number

    def take_provisional(self, source: str) -> list[tuple[str, int, ColumnBatch]]:
        """Return App ID, day and rows of all provisional rows of a source, and delete them."""
        rows = self._fetchall(
            "SELECT dataset, app, day, payload FROM staged JOIN partitions USING (partition_id)"
            " WHERE provisional AND source = ?",
            source,
        )
        if rows:
            self._execute("DELETE FROM staged WHERE provisional AND source = ?", source)
        return [
            (app, day, deserialize(dataset, payload))
            for dataset, app, day, payloads in rows
            for payload in payloads.split(_SEPARATOR)
        ]

    def provisional_rows(self) -> int:
        """Return the number of provisional rows."""
        found = self._fetchone("SELECT coalesce(sum(row_count), 0) FROM staged WHERE provisional")
        return int(found[0])

    def unsealed_bytes(self) -> list[tuple[Partition, int]]:
        """Return the partitions with rows that no sealed part owns, and their bytes."""
        rows = self._fetchall(
            "SELECT dataset, app, day, sum(bytes) FROM staged JOIN partitions USING (partition_id)"
            " WHERE NOT provisional AND staged.id > (SELECT coalesce(max(sealed_through), 0) FROM parts"
            " WHERE parts.partition_id = staged.partition_id) GROUP BY partition_id ORDER BY dataset, app, day"
        )
        return [(Partition(*row[:3]), row[3]) for row in rows]

    def begin_part(self, partition: Partition) -> Part:
        """Begin a new part of a partition."""
        partition_id = self._partition_id(partition)
        # Never the number of a file that is gone or altered: that may be put back.
        number, row = self._fetchone(
            "INSERT INTO parts (partition_id, number, published) SELECT ?, coalesce(max(number), 0) + 1, 0 FROM"
            " (SELECT partition_id, number FROM parts UNION ALL SELECT partition_id, number FROM original_parts)"
            " WHERE partition_id = ?"
            " RETURNING number, id",
            partition_id,
            partition_id,
        )
        return Part(row, partition.dataset, partition.app, partition.day, number)

    def seal_part(self, part: Part, sealed_through: int, size: int) -> None:
        """Seal a part: it owns all rows up to a staged id, `size` bytes."""
        self._execute("UPDATE parts SET sealed_through = ? WHERE id = ?", sealed_through, part.id)
        self.staged_bytes[part.partition] = self.staged_bytes.get(part.partition, 0) - size

    def sealed_parts(self) -> list[Part]:
        """Return the parts that were sealed and not published, and drop those that were not sealed."""
        self._execute("DELETE FROM parts WHERE NOT published AND sealed_through IS NULL")
        return [Part(*row) for row in self._fetchall(f"{_SELECT_PARTS} WHERE NOT published")]

    def provisional_parts(self) -> tuple[list[Part], list[Part]]:
        """Return the parts of provisional rows, and those that have no rows any more.

        Until they are published or removed, the content of their files is unknown.
        """
        self.flush()
        self._execute("UPDATE parts SET row_count = NULL WHERE number = 0")
        self._execute(
            "INSERT OR IGNORE INTO parts (partition_id, number, published)"
            " SELECT DISTINCT partition_id, 0, 1 FROM staged WHERE provisional"
        )
        has_rows = "EXISTS (SELECT 1 FROM staged WHERE staged.partition_id = parts.partition_id AND provisional)"
        full = self._fetchall(f"{_SELECT_PARTS} WHERE number = 0 AND {has_rows}")
        empty = self._fetchall(f"{_SELECT_PARTS} WHERE number = 0 AND NOT {has_rows}")
        return [Part(*row) for row in full], [Part(*row) for row in empty]

    def read_rows(self, part: Part, after: int, most: int) -> StagedRows | None:
        """Return the next rows of a part after a staged id, about `most` bytes; None if there are no more."""
        found: list[bytes] = []
        size, last = 0, after
        # Read row by row: `_fetchall` would load a whole part.
        cursor = self._database.execute(
            "SELECT staged.id, staged.bytes, payload FROM parts"
            " JOIN staged ON staged.partition_id = parts.partition_id AND provisional = (number = 0)"
            " WHERE parts.id = ? AND staged.id > ? AND (sealed_through IS NULL OR staged.id <= sealed_through)"
            " ORDER BY staged.id",
            (part.id, after),
        )
        for number, row_bytes, payload in cursor:
            last = number
            found += payload.split(_SEPARATOR)
            size += row_bytes
            if size >= most:
                break
        cursor.close()
        return StagedRows(found, size, last) if found else None

    def finish_part(self, part: Part, info: PartInfo) -> None:
        """Record a published part, and delete its staged rows unless they are provisional."""
        self._execute(
            "UPDATE parts SET published = 1, row_count = ?, bytes = ?, sha256 = ?, mark = ? WHERE id = ?",
            *attrs.astuple(info),
            part.id,
        )
        if part.number:
            self._execute(
                "DELETE FROM staged WHERE NOT provisional"
                " AND partition_id = (SELECT partition_id FROM parts WHERE id = ?)"
                " AND id <= (SELECT sealed_through FROM parts WHERE id = ?)",
                part.id,
                part.id,
            )

    def remove_part(self, part: Part) -> None:
        """Delete a part."""
        self._execute("DELETE FROM parts WHERE id = ?", part.id)

    def parts(self) -> Iterator[tuple[Part, PartInfo]]:
        """Return the published parts, in order."""
        return ((part, info) for part, info in self.known_parts() if info is not None)

    def known_parts(self) -> list[tuple[Part, PartInfo | None]]:
        """Return every part that may exist, in order; without info if it is being published or removed."""
        rows = self._fetchall(
            "SELECT parts.id, dataset, app, day, number, row_count, bytes, sha256, mark FROM parts"
            " JOIN partitions USING (partition_id) WHERE published OR sealed_through IS NOT NULL"
            " ORDER BY dataset, app, day, number"
        )
        return [
            (Part(*row[:5]), None if row[5] is None else PartInfo(**dict(zip(_INFO_COLUMNS, row[5:], strict=True))))
            for row in rows
        ]

    def set_mark(self, part: Part, mark: str) -> None:
        """Record the current mark of a part's file."""
        self._execute("UPDATE parts SET mark = ? WHERE id = ?", mark, part.id)

    # The database of a database format

    def set_database(self, info: PartInfo | None) -> None:
        """Record size, checksum and mark of the closed database; None while it is open."""
        self._execute("DELETE FROM database")
        if info is not None:
            self._execute("INSERT INTO database VALUES (?, ?, ?)", info.bytes, info.sha256, info.mark)

    def database(self) -> PartInfo | None:
        """Return size, checksum and mark of the closed database; None if it was not closed."""
        row = self._fetchone("SELECT bytes, sha256, mark FROM database")
        return None if row is None else PartInfo(rows=0, bytes=row[0], sha256=row[1], mark=row[2])
