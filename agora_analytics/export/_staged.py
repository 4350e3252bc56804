"""Rows that wait for their file, and the parts that they make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import attrs

from agora_analytics import _json
from agora_analytics.export._pieces import Packed, Piece, packed
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

    def stage(self, app: str, day: int, piece: Piece, *, source: str = "", provisional: bool = False) -> None:
        """Keep rows until their file is written; provisional ones until they are replaced."""
        self.stage_packed(app, day, packed(piece), source=source, provisional=provisional)

    def stage_packed(self, app: str, day: int, piece: Packed, *, source: str = "", provisional: bool = False) -> None:
        """Keep rows as they are stored; see `stage`."""
        if not piece.rows:
            return
        group = Group(piece.dataset, app, day)
        if not provisional:
            self.grown[group] = self.grown.get(group, 0) + len(piece.stored)
        (number,) = self._one(
            "INSERT INTO staged (dataset, app, day, source, provisional, size, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " RETURNING id",
            *attrs.astuple(group),
            source,
            provisional,
            piece.rows,
            len(piece.stored),
        )
        self._run("INSERT INTO pieces VALUES (?, ?)", number, piece.stored)

    def provisional(self, source: str) -> list[tuple[int, str, str, int, bytes]]:
        """Return id, dataset, App ID, day and piece of the provisional rows of a source."""
        return self._all(
            "SELECT id, dataset, app, day, piece FROM staged JOIN pieces USING (id) WHERE provisional AND source = ?",
            source,
        )

    def provisional_rows(self) -> int:
        """Return how many rows are provisional."""
        found = self._one("SELECT coalesce(sum(size), 0) FROM staged WHERE provisional")
        return int(found[0])

    def drop(self, source: str) -> None:
        """Forget the provisional rows of a source."""
        self._run("DELETE FROM staged WHERE provisional AND source = ?", source)

    def replace(self, number: int, piece: Piece) -> None:
        """Put other rows in the place of staged ones."""
        if len(piece):
            self._run("UPDATE staged SET size = ? WHERE id = ?", len(piece), number)
            self._run("UPDATE pieces SET piece = ? WHERE id = ?", _json.encode(piece), number)
        else:
            self._run("DELETE FROM staged WHERE id = ?", number)

    def settle(self, number: int, piece: Piece) -> None:
        """Make staged rows that were provisional ones for good."""
        self.replace(number, piece)
        self._run("UPDATE staged SET provisional = 0, part = NULL WHERE id = ?", number)

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
