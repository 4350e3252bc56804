"""Tables of the state for recovery: settings, the copy in a store, and rows and files that are gone or altered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.export.state.staging import Part, PartInfo, StagingTables

WHOLE_DATABASE: Final = "database"
"""In place of a dataset in `LostRows`: any row of the database may have been altered."""


class LostRows(NamedTuple):
    """Published rows that may be gone; `rows` is 0 for a whole database."""

    app: str
    dataset: str
    day: int
    rows: int
    reason: str


class OriginalPart(NamedTuple):
    """A part as it was published, whose file is gone or altered since."""

    part: Part
    info: PartInfo
    reason: str

    @property
    def row(self) -> tuple[Any, ...]:
        """Its row in a manifest; `original_part` reads it."""
        return (*attrs.astuple(self.part), self.info.rows, self.info.bytes, self.info.sha256, self.reason)


def original_part(*row: Any) -> OriginalPart:
    """Return the part of a manifest's row."""
    *part, rows, size, digest, reason = row
    return OriginalPart(Part(*part), PartInfo(rows=rows, bytes=size, sha256=digest, mark=""), reason)


class DatabaseCopy(NamedTuple):
    """The database that belongs to a copy of a state: its name in the store, its size and its SHA-256."""

    name: str
    bytes: int
    sha256: str


class RecoveryTables(StagingTables):
    """Settings, rows and files that are gone or altered, and the copy of the state in a store."""

    schema: ClassVar[str] = (
        StagingTables.schema
        + """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost_rows (app TEXT, dataset TEXT, day INTEGER, row_count INTEGER, reason TEXT);
CREATE TABLE IF NOT EXISTS remote_copy (run INTEGER, mark TEXT);
CREATE TABLE IF NOT EXISTS database_copy (name TEXT, bytes INTEGER, sha256 TEXT);
"""
    )

    def settings(self) -> dict[str, Any]:
        """Return the settings that the export was started with; empty for a new one."""
        found = self._fetchall("SELECT name, value FROM settings")
        return {name: json.loads(value.encode()) for name, value in found}

    def save_settings(self, settings: Mapping[str, Any]) -> None:
        """Store the settings that the export was started with."""
        rows = [(name, json.encode(value).decode()) for name, value in settings.items()]
        self._executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    # The copy of the state in a store

    def set_remote_copy(self, run: int, mark: str) -> None:
        """Record run number and mark of the last copy that was uploaded."""
        self._execute("DELETE FROM remote_copy")
        self._execute("INSERT INTO remote_copy VALUES (?, ?)", run, mark)

    def remote_copy(self) -> tuple[int, str] | None:
        """Return run number and mark of the copy that this state equals or continues; None if there is none."""
        found: tuple[int, str] | None = self._fetchone("SELECT run, mark FROM remote_copy")
        return found

    def adopt_remote_copy(self, run: int, mark: str) -> None:
        """Record of which copy this state was downloaded; its database is this machine's own from now on."""
        self.set_remote_copy(run, mark)
        self._execute("DELETE FROM database_copy")

    def set_database_copy(self, copy: DatabaseCopy) -> None:
        """Record, in a copy, the database that belongs to it."""
        self._execute("DELETE FROM database_copy")
        self._execute("INSERT INTO database_copy VALUES (?, ?, ?)", *copy)

    def database_copy(self) -> DatabaseCopy | None:
        """Return the database that belongs to this copy; None if there is none, or a closed one."""
        row = self._fetchone("SELECT name, bytes, sha256 FROM database_copy")
        return None if row is None else DatabaseCopy(*row)

    # Rebuilding

    def clear(self) -> None:
        """Delete everything."""
        for (name,) in self._fetchall(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ):
            self._execute(f'DELETE FROM "{name}"')  # noqa: S608 - a table of our own
        self.on_rollback()
        self.staged_bytes.clear()

    def adopt_part(self, part: Part, info: PartInfo | None) -> None:
        """Add a published part; without info it is written again."""
        self._execute(
            "INSERT INTO parts (id, partition_id, number, sealed_through, published, row_count, bytes, sha256, mark)"
            " VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)",
            part.id,
            self._partition_id(part.partition),
            part.number,
            0 if part.number else None,
            *((info.rows, info.bytes, info.sha256, info.mark) if info else (None, None, None, None)),
        )

    def record_lost_rows(self, part: Part, rows: int, reason: str, now: PartInfo | None) -> None:
        """Record that rows of a part may be gone, and what it is now; None if it is gone."""
        if self._is_now(part, now):
            self.add_lost_rows([LostRows(part.app, part.dataset, part.day, rows, reason)])

    def _is_now(self, part: Part, now: PartInfo | None) -> bool:
        """Record what a part is now, and return whether rows of it are lost.

        Provisional rows are still staged: their part is written again, and nothing is lost.
        """
        if not part.number:
            self._execute("UPDATE parts SET row_count = NULL WHERE id = ?", part.id)
        elif now is None:
            self.remove_part(part)
        else:
            self.finish_part(part, now)
        return part.number > 0

    def add_lost_rows(self, lost: list[LostRows]) -> None:
        """Record rows that may be gone."""
        self._executemany("INSERT INTO lost_rows VALUES (?, ?, ?, ?, ?)", lost)

    def lost(self) -> list[LostRows]:
        """Return the rows that may be gone."""
        rows = self._fetchall(
            "SELECT app, dataset, day, sum(row_count), reason FROM"
            " (SELECT app, dataset, day, row_count, reason FROM lost_rows UNION ALL"
            " SELECT app, dataset, day, row_count, reason FROM original_parts JOIN partitions USING (partition_id))"
            " GROUP BY app, dataset, day, reason"
        )
        return [LostRows(*row) for row in rows]

    def permanently_lost(self) -> list[LostRows]:
        """Return the lost rows that no altered or missing file could bring back."""
        return [LostRows(*row) for row in self._fetchall("SELECT app, dataset, day, row_count, reason FROM lost_rows")]

    # Files that are gone or altered, and may be put back

    def record_lost_file(self, part: Part, was: PartInfo, reason: str, now: PartInfo | None) -> None:
        """Record that a part's file is gone or altered, and what it is now; how many rows it has is unknown."""
        if self._is_now(part, None if now is None else attrs.evolve(now, rows=0)):
            self.add_original(OriginalPart(part, was, reason))

    def add_original(self, one: OriginalPart) -> None:
        """Store a part as it was published; if it is stored already, only the reason is updated."""
        self._execute(
            "INSERT INTO original_parts VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET reason = excluded.reason",
            *(one.part.id, self._partition_id(one.part.partition), one.part.number),
            *(one.info.rows, one.info.bytes, one.info.sha256, one.reason),
        )
        # No later part may get its id, not even in a rebuilt state.
        self._execute(
            "INSERT INTO sqlite_sequence SELECT 'parts', 0"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'parts')"
        )
        self._execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'parts'", one.part.id)

    def originals(self) -> list[OriginalPart]:
        """Return the parts whose files are gone or altered, as they were published."""
        rows = self._fetchall(
            "SELECT original_parts.id, dataset, app, day, number, row_count, bytes, sha256, reason FROM original_parts"
            " JOIN partitions USING (partition_id) ORDER BY original_parts.id"
        )
        return [original_part(*row) for row in rows]

    def restore_part(self, one: OriginalPart, mark: str) -> None:
        """Record that a file is back as it was published."""
        self._execute("DELETE FROM original_parts WHERE id = ?", one.part.id)
        self.remove_part(one.part)
        self.adopt_part(one.part, attrs.evolve(one.info, mark=mark))
