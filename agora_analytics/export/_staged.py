"""Rows that wait for their file, and the parts that they make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import attrs

from agora_analytics.export._batches import Batch, pack, unpack
from agora_analytics.export._tables import Tables


@attrs.frozen
class Part:
    """A file of an export, or what takes its place in a database. `number` 0 holds what is provisional."""

    id: int
    dataset: str
    app: str
    day: int
    number: int


@attrs.frozen(kw_only=True)
class Facts:
    """What a part holds: rows, and for a file its bytes and their SHA-256."""

    rows: int
    bytes: int | None = None
    sha256: str | None = None


@attrs.frozen
class Group:
    """Rows that wait for one part."""

    dataset: str
    app: str
    day: int


@attrs.frozen
class Packed:
    """Rows as they wait on disk: a tenth of what they take while they are objects."""

    dataset: str
    count: int
    stored: bytes


def packed(rows: Batch) -> Packed:
    """Return rows as they wait on disk."""
    return Packed(rows.dataset.name, rows.rows, pack(rows))


class Staged(Tables):
    """Rows that wait for their file, and the parts that they make.

    Attributes:
        grown: bytes that wait, by dataset, App ID and day; at most a little too much.

    """

    layout: ClassVar[str] = """
CREATE TABLE IF NOT EXISTS staged (
    id INTEGER PRIMARY KEY, dataset TEXT, app TEXT, day INTEGER, source TEXT, provisional INTEGER, part INTEGER,
    size INTEGER, bytes INTEGER
);
CREATE INDEX IF NOT EXISTS staged_by_part ON staged (part);
CREATE INDEX IF NOT EXISTS staged_by_source ON staged (source) WHERE provisional;
CREATE TABLE IF NOT EXISTS pieces (id INTEGER PRIMARY KEY, piece BLOB);
CREATE TRIGGER IF NOT EXISTS unstaged AFTER DELETE ON staged BEGIN DELETE FROM pieces WHERE id = old.id; END;
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY, dataset TEXT, app TEXT, day INTEGER, number INTEGER, provisional INTEGER, written INTEGER,
    size INTEGER, bytes INTEGER, sha256 TEXT, UNIQUE (dataset, app, day, number)
);
"""

    def __init__(self, path: Path, place: str) -> None:
        super().__init__(path, place)
        self.grown = dict(self.waiting())

    def stage(self, app: str, day: int, rows: Packed, *, source: str = "", provisional: bool = False) -> None:
        """Keep rows until their file is written; provisional ones until they are replaced."""
        if not rows.count:
            return
        group = Group(rows.dataset, app, day)
        if not provisional:
            self.grown[group] = self.grown.get(group, 0) + len(rows.stored)
        (number,) = self._one(
            "INSERT INTO staged (dataset, app, day, source, provisional, size, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " RETURNING id",
            *attrs.astuple(group),
            source,
            provisional,
            rows.count,
            len(rows.stored),
        )
        self._run("INSERT INTO pieces VALUES (?, ?)", number, rows.stored)

    def take_provisional(self, source: str) -> list[tuple[str, int, Batch]]:
        """Return App ID, day and rows of all that is provisional of a source, and forget it."""
        rows = self._all(
            "SELECT dataset, app, day, piece FROM staged JOIN pieces USING (id) WHERE provisional AND source = ?",
            source,
        )
        self._run("DELETE FROM staged WHERE provisional AND source = ?", source)
        return [(app, day, unpack(dataset, stored)) for dataset, app, day, stored in rows]

    def provisional_rows(self) -> int:
        """Return how many rows are provisional."""
        found = self._one("SELECT coalesce(sum(size), 0) FROM staged WHERE provisional")
        return int(found[0])

    def waiting(self) -> list[tuple[Group, int]]:
        """Return the rows that wait for a part, by part, and their bytes."""
        rows = self._all(
            "SELECT dataset, app, day, sum(bytes) FROM staged"
            " WHERE part IS NULL AND NOT provisional GROUP BY dataset, app, day ORDER BY dataset, app, day"
        )
        return [(Group(*row[:3]), row[3]) for row in rows]

    def begin_part(self, group: Group) -> Part:
        """Number a new part, to which all rows belong that wait for it now."""
        key = (group.dataset, group.app, group.day)
        part = self._one(
            "INSERT INTO parts (dataset, app, day, number, provisional, written) SELECT ?1, ?2, ?3,"
            " (SELECT coalesce(max(number), 0) + 1 FROM parts WHERE dataset = ?1 AND app = ?2 AND day = ?3), 0, 0"
            " RETURNING id, dataset, app, day, number",
            *key,
        )
        made = Part(*part)
        self.grown.pop(group, None)
        self._run(
            "UPDATE staged SET part = ? WHERE part IS NULL AND NOT provisional AND dataset = ? AND app = ? AND day = ?",
            made.id,
            *key,
        )
        return made

    def begun_parts(self) -> list[Part]:
        """Return the parts that were begun and not ended."""
        return [Part(*row) for row in self._all("SELECT id, dataset, app, day, number FROM parts WHERE NOT written")]

    def provisional_parts(self) -> tuple[list[Part], list[Part]]:
        """Number the parts that provisional rows make now; return these, and the parts that have no rows any more."""
        self._run(
            "INSERT OR IGNORE INTO parts (dataset, app, day, number, provisional, written)"
            " SELECT DISTINCT dataset, app, day, 0, 1, 1 FROM staged WHERE provisional"
        )
        self._run("UPDATE staged SET part = NULL WHERE provisional")
        self._run(
            "UPDATE staged SET part = (SELECT id FROM parts WHERE parts.dataset = staged.dataset"
            " AND parts.app = staged.app AND parts.day = staged.day AND number = 0) WHERE provisional"
        )
        rows = self._all(
            "SELECT id, dataset, app, day, number, EXISTS (SELECT 1 FROM staged WHERE part = parts.id)"
            " FROM parts WHERE provisional"
        )
        parts = [(Part(*row[:5]), row[5]) for row in rows]
        return [part for part, full in parts if full], [part for part, full in parts if not full]

    def pieces(self, part: Part, after: int, most: int) -> list[tuple[int, bytes]]:
        """Return the next rows of a part, after a staged id: about so many bytes."""
        found: list[tuple[int, bytes]] = []
        size = 0
        cursor = self._database.execute(
            "SELECT id, piece FROM staged JOIN pieces USING (id) WHERE part = ? AND id > ? ORDER BY id",
            (part.id, after),
        )
        for number, piece in cursor:
            found.append((number, piece))
            size += len(piece)
            if size >= most:
                break
        cursor.close()
        return found

    def end_part(self, part: Part, facts: Facts) -> None:
        """Note that a part is written; rows that are not provisional wait no more."""
        self._run(
            "UPDATE parts SET written = 1, size = ?, bytes = ?, sha256 = ? WHERE id = ?",
            facts.rows,
            facts.bytes,
            facts.sha256,
            part.id,
        )
        self._run("DELETE FROM staged WHERE part = ? AND NOT provisional", part.id)

    def remove_part(self, part: Part) -> None:
        """Forget a part that has no rows."""
        self._run("DELETE FROM parts WHERE id = ?", part.id)

    def parts(self) -> Iterator[tuple[Part, Facts]]:
        """Yield the parts that are written, in order."""
        rows = self._all(
            "SELECT id, dataset, app, day, number, size, bytes, sha256 FROM parts"
            " WHERE written AND size IS NOT NULL ORDER BY dataset, app, day, number"
        )
        return ((Part(*row[:5]), Facts(rows=row[5], bytes=row[6], sha256=row[7])) for row in rows)
