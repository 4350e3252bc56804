"""Rows that wait for their file, and the parts that they make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

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


@attrs.frozen
class Pieces:
    """Rows that waited, up to the staged id `last`; `more` of them may wait."""

    stored: list[bytes]
    last: int
    more: bool

    def groups(self, most: int) -> Iterator[list[bytes]]:
        """Yield them a few at a time: about so many bytes."""
        some: list[bytes] = []
        size = 0
        for piece in self.stored:
            some.append(piece)
            size += len(piece)
            if size >= most:
                yield some
                some, size = [], 0
        if some:
            yield some


def packed(rows: Batch) -> Packed:
    """Return rows as they wait on disk."""
    return Packed(rows.dataset.name, rows.rows, pack(rows))


_BETWEEN: Final = b"\n"
"""What is in no packed rows."""

_PARTS: Final = "SELECT parts.id, dataset, app, day, number FROM parts JOIN groups ON groups.id = kin"


class Staged(Tables):
    """Rows that wait for their file, and the parts that they make.

    Numbers are never given twice: a part has the rows of its group up to a number, and those after it wait.

    Attributes:
        grown: bytes that wait, by dataset, App ID and day; at most a little too much.

    """

    layout: ClassVar[str] = """
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
    size INTEGER, bytes INTEGER, sha256 TEXT, UNIQUE (kin, number)
);
"""

    def __init__(self, path: Path, place: str) -> None:
        self._gathered: dict[tuple[int, bool, str], list[Packed]] = {}
        self._kin: dict[Group, int] = {}
        super().__init__(path, place)
        self.grown = dict(self.waiting())

    def undone(self) -> None:
        """Forget what a transaction that was not made had numbered."""
        self._kin.clear()
        self._gathered.clear()

    def stage(self, app: str, day: int, rows: Packed, *, source: str = "", provisional: bool = False) -> None:
        """Keep rows until their file is written; provisional ones until they are replaced."""
        if not rows.count:
            return
        group = Group(rows.dataset, app, day)
        if not provisional:
            self.grown[group] = self.grown.get(group, 0) + len(rows.stored)
        self._gathered.setdefault((self._number(group), provisional, source), []).append(rows)

    def settle(self) -> None:
        """Keep what was staged: what goes together as one, in fewer pages of the file than each by itself."""
        for key, some in self._gathered.items():
            piece = _BETWEEN.join([one.stored for one in some])
            self._run(
                "INSERT INTO staged (kin, provisional, source, size, bytes, piece) VALUES (?, ?, ?, ?, ?, ?)",
                *key,
                sum(one.count for one in some),
                len(piece),
                piece,
            )
        self._gathered.clear()

    def _number(self, group: Group) -> int:
        """Return a group's number, a new one for a new group."""
        number = self._kin.get(group)
        if number is None:
            key = attrs.astuple(group)
            self._run("INSERT OR IGNORE INTO groups (dataset, app, day) VALUES (?, ?, ?)", *key)
            (number,) = self._one("SELECT id FROM groups WHERE dataset = ? AND app = ? AND day = ?", *key)
            self._kin[group] = number
        return number

    def take_provisional(self, source: str) -> list[tuple[str, int, Batch]]:
        """Return App ID, day and rows of all that is provisional of a source, and forget it."""
        rows = self._all(
            "SELECT dataset, app, day, piece FROM staged JOIN groups ON groups.id = kin"
            " WHERE provisional AND source = ?",
            source,
        )
        if rows:
            self._run("DELETE FROM staged WHERE provisional AND source = ?", source)
        return [
            (app, day, unpack(dataset, stored)) for dataset, app, day, piece in rows for stored in piece.split(_BETWEEN)
        ]

    def provisional_rows(self) -> int:
        """Return how many rows are provisional."""
        found = self._one("SELECT coalesce(sum(size), 0) FROM staged WHERE provisional")
        return int(found[0])

    def waiting(self) -> list[tuple[Group, int]]:
        """Return the rows that wait for a part, by part, and their bytes."""
        rows = self._all(
            "SELECT dataset, app, day, sum(bytes) FROM staged JOIN groups ON groups.id = kin WHERE NOT provisional"
            " AND staged.id > (SELECT coalesce(max(upto), 0) FROM parts WHERE parts.kin = staged.kin)"
            " GROUP BY kin ORDER BY dataset, app, day"
        )
        return [(Group(*row[:3]), row[3]) for row in rows]

    def begin_part(self, group: Group) -> Part:
        """Number a new part, to which all rows belong that wait for it now."""
        kin = self._number(group)
        self.grown.pop(group, None)
        number, row = self._one(
            "INSERT INTO parts (kin, number, upto, written) SELECT ?1, coalesce(max(number), 0) + 1,"
            " (SELECT max(id) FROM staged WHERE kin = ?1 AND NOT provisional), 0 FROM parts WHERE kin = ?1"
            " RETURNING number, id",
            kin,
        )
        return Part(row, group.dataset, group.app, group.day, number)

    def begun_parts(self) -> list[Part]:
        """Return the parts that were begun and not ended."""
        return [Part(*row) for row in self._all(f"{_PARTS} WHERE NOT written")]

    def provisional_parts(self) -> tuple[list[Part], list[Part]]:
        """Number the parts that provisional rows make now; return these, and the parts that have no rows any more."""
        self.settle()
        self._run(
            "INSERT OR IGNORE INTO parts (kin, number, written) SELECT DISTINCT kin, 0, 1 FROM staged WHERE provisional"
        )
        has_rows = "EXISTS (SELECT 1 FROM staged WHERE staged.kin = parts.kin AND provisional)"
        full = self._all(f"{_PARTS} WHERE number = 0 AND {has_rows}")
        empty = self._all(f"{_PARTS} WHERE number = 0 AND NOT {has_rows}")
        return [Part(*row) for row in full], [Part(*row) for row in empty]

    def pieces(self, part: Part, after: int, most: int) -> Pieces:
        """Return the next rows of a part, after a staged id: about so many bytes."""
        found: list[bytes] = []
        size, last = 0, after
        cursor = self._database.execute(
            "SELECT staged.id, piece FROM parts JOIN staged ON staged.kin = parts.kin AND provisional = (number = 0)"
            " WHERE parts.id = ? AND staged.id > ? AND (upto IS NULL OR staged.id <= upto) ORDER BY staged.id",
            (part.id, after),
        )
        for number, piece in cursor:
            last = number
            found += piece.split(_BETWEEN)
            size += len(piece)
            if size >= most:
                break
        cursor.close()
        return Pieces(found, last, more=size >= most)

    def end_part(self, part: Part, facts: Facts) -> None:
        """Note that a part is written; rows that are not provisional wait no more."""
        self._run(
            "UPDATE parts SET written = 1, size = ?, bytes = ?, sha256 = ? WHERE id = ?",
            facts.rows,
            facts.bytes,
            facts.sha256,
            part.id,
        )
        if part.number:
            self._run(
                "DELETE FROM staged WHERE NOT provisional AND kin = (SELECT kin FROM parts WHERE id = ?1)"
                " AND id <= (SELECT upto FROM parts WHERE id = ?1)",
                part.id,
            )

    def remove_part(self, part: Part) -> None:
        """Forget a part that has no rows."""
        self._run("DELETE FROM parts WHERE id = ?", part.id)

    def parts(self) -> Iterator[tuple[Part, Facts]]:
        """Yield the parts that are written, in order."""
        rows = self._all(
            "SELECT parts.id, dataset, app, day, number, size, bytes, sha256 FROM parts JOIN groups ON groups.id = kin"
            " WHERE written AND size IS NOT NULL ORDER BY dataset, app, day, number"
        )
        return ((Part(*row[:5]), Facts(rows=row[5], bytes=row[6], sha256=row[7])) for row in rows)
