"""Parts that were found: taken from a manifest as given, or no longer what they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

import attrs

from agora_analytics._core.decoding import json
from agora_analytics.export.state.staging import Facts, Part, Staged

DATABASE: Final = "database"
"""What is lost where any row of a database may have been altered, in the place of a dataset."""


class Lost(NamedTuple):
    """Rows that were written, and of which it is not known that they are there still; 0 of a whole database."""

    app: str
    dataset: str
    day: int
    rows: int
    reason: str


class Original(NamedTuple):
    """What a part was when it was written, whose file is gone or altered since."""

    part: Part
    facts: Facts
    reason: str

    @property
    def row(self) -> tuple[Any, ...]:
        """It as a manifest has it; `original` makes it of that."""
        return (*attrs.astuple(self.part), self.facts.rows, self.facts.bytes, self.facts.sha256, self.reason)


def original(*row: Any) -> Original:
    """Return what a row tells."""
    *about, rows, size, digest, reason = row
    return Original(Part(*about), Facts(rows=rows, bytes=size, sha256=digest, mark=""), reason)


class Held(NamedTuple):
    """The database that goes with a copy of a state: its name beside the files, its size and its checksum."""

    name: str
    bytes: int
    sha256: str


class Taken(Staged):
    """What an export was begun with, and what became of its parts outside of it."""

    layout: ClassVar[str] = (
        Staged.layout
        + """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost (app TEXT, dataset TEXT, day INTEGER, size INTEGER, reason TEXT);
CREATE TABLE IF NOT EXISTS shared (run INTEGER, mark TEXT);
CREATE TABLE IF NOT EXISTS held (name TEXT, bytes INTEGER, sha256 TEXT);
"""
    )

    def settings(self) -> dict[str, Any]:
        """Return what the export was begun with; nothing for a new one."""
        found = self._all("SELECT name, value FROM settings")
        return {name: json.loads(value.encode()) for name, value in found}

    def keep_settings(self, settings: Mapping[str, Any]) -> None:
        """Remember what the export was begun with."""
        rows = [(name, json.encode(value).decode()) for name, value in settings.items()]
        self._many("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    # The copy beside the files of a URL

    def keep_shared(self, run: int, mark: str) -> None:
        """Note of which run the last copy is, and what it looks like."""
        self._run("DELETE FROM shared")
        self._run("INSERT INTO shared VALUES (?, ?)", run, mark)

    def shared(self) -> tuple[int, str] | None:
        """Return of which run the last copy is that this is where it came from, and what it looks like."""
        found: tuple[int, str] | None = self._one("SELECT run, mark FROM shared")
        return found

    def take_shared(self, run: int, mark: str) -> None:
        """Note which copy this is; the database that goes with it is this machine's own from now on."""
        self.keep_shared(run, mark)
        self._run("DELETE FROM held")

    def keep_held(self, held: Held) -> None:
        """Note, in a copy, which database goes with it."""
        self._run("DELETE FROM held")
        self._run("INSERT INTO held VALUES (?, ?, ?)", *held)

    def held(self) -> Held | None:
        """Return which database goes with this copy; None where none does but a closed one."""
        row = self._one("SELECT name, bytes, sha256 FROM held")
        return None if row is None else Held(*row)

    # What is there is taken as given

    def clear(self) -> None:
        """Forget everything."""
        for (name,) in self._all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
            self._run(f'DELETE FROM "{name}"')  # noqa: S608 - a table of our own
        self.undone()
        self.grown.clear()

    def adopt(self, part: Part, facts: Facts | None) -> None:
        """Take a part as written; without facts one that is to be written anew."""
        self._run(
            "INSERT INTO parts (id, kin, number, upto, written, size, bytes, sha256, mark)"
            " VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)",
            part.id,
            self._number(part.group),
            part.number,
            0 if part.number else None,
            *((facts.rows, facts.bytes, facts.sha256, facts.mark) if facts else (None, None, None, None)),
        )

    def lose(self, part: Part, rows: int, reason: str, now: Facts | None) -> None:
        """Note that rows of a part may not be there any more, and what it is now; None is nothing."""
        if self._is_now(part, now):
            self.keep_lost([Lost(part.app, part.dataset, part.day, rows, reason)])

    def _is_now(self, part: Part, now: Facts | None) -> bool:
        """Note what a part is now, and return whether any of it is lost.

        Provisional rows wait until they are replaced: their part is written anew, and nothing is lost.
        """
        if not part.number:
            self._run("UPDATE parts SET size = NULL WHERE id = ?", part.id)
        elif now is None:
            self.remove_part(part)
        else:
            self.end_part(part, now)
        return part.number > 0

    def keep_lost(self, lost: list[Lost]) -> None:
        """Note rows that may not be there any more."""
        self._many("INSERT INTO lost VALUES (?, ?, ?, ?, ?)", lost)

    def lost(self) -> list[Lost]:
        """Return the rows that may not be there any more."""
        rows = self._all(
            "SELECT app, dataset, day, sum(size), reason FROM (SELECT app, dataset, day, size, reason FROM lost"
            " UNION ALL SELECT app, dataset, day, size, reason FROM originals JOIN groups ON groups.id = kin)"
            " GROUP BY app, dataset, day, reason"
        )
        return [Lost(*row) for row in rows]

    def lost_for_good(self) -> list[Lost]:
        """Return those of which no file is known that may come back."""
        return [Lost(*row) for row in self._all("SELECT app, dataset, day, size, reason FROM lost")]

    # Files that are gone or altered, and may come back as they were

    def lose_file(self, part: Part, was: Facts, reason: str, now: Facts | None) -> None:
        """Note that a part's file is gone or altered, and what it is now: how many rows that has, nobody knows."""
        if self._is_now(part, None if now is None else attrs.evolve(now, rows=0)):
            self.keep_original(Original(part, was, reason))

    def keep_original(self, one: Original) -> None:
        """Remember what a file was when it was written; if it was altered before, that it was."""
        self._run(
            "INSERT INTO originals VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET reason = excluded.reason",
            *(one.part.id, self._number(one.part.group), one.part.number),
            *(one.facts.rows, one.facts.bytes, one.facts.sha256, one.reason),
        )
        # No part that is begun later has its id, also in a state that was made of a manifest.
        self._run(
            "INSERT INTO sqlite_sequence SELECT 'parts', 0"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'parts')"
        )
        self._run("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'parts'", one.part.id)

    def originals(self) -> list[Original]:
        """Return what files were that are gone or altered."""
        rows = self._all(
            "SELECT originals.id, dataset, app, day, number, size, bytes, sha256, reason FROM originals"
            " JOIN groups ON groups.id = kin ORDER BY originals.id"
        )
        return [original(*row) for row in rows]

    def restore(self, one: Original, mark: str) -> None:
        """Note that a file is there again as it was when it was written."""
        self._run("DELETE FROM originals WHERE id = ?", one.part.id)
        self.remove_part(one.part)
        self.adopt(one.part, attrs.evolve(one.facts, mark=mark))
