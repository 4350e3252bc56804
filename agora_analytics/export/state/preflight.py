"""Whether an export may go on: its state against its settings, its files, and the parts in its database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs

from agora_analytics.errors import ExportError
from agora_analytics.export.formats import DATABASES
from agora_analytics.export.sinks import LocalSink, Sink, said
from agora_analytics.export.state import inventory
from agora_analytics.export.state.found_parts import DATABASE, Lost, Original
from agora_analytics.export.state.inventory import Differences, Expected
from agora_analytics.export.state.progress import State
from agora_analytics.export.state.rebuild import recalled
from agora_analytics.export.state.staging import Facts, Part
from agora_analytics.export.state.state_thread import Disk, translated
from agora_analytics.export.write.target import MANIFEST, name_of
from agora_analytics.export.write.writer import PUT_BACK, Writer, trouble_of

T = TypeVar("T")

GONE: Final = "its file is gone"
ALTERED: Final = "its file was altered"

_PLACE: Final = "place"
"""The setting that another machine's manifest may have otherwise."""


@attrs.frozen
class Standing:
    """Looks at an export before it goes on; with `rebuild` takes what is there as given."""

    _disk: Disk
    _sink: Sink
    _form: str
    _rebuild: bool

    async def check_files(self, wanted: Mapping[str, Any]) -> None:
        """Raise `ExportError` for other settings, and for files that are not those that the state tells of."""
        begun = await self._disk.change(State.settings)
        if begun:
            self._same(begun, wanted)
        expected = await self._disk.change(self._expected) if begun else {}
        found = await self._compared(expected, await self._disk.change(State.originals), begun=bool(begun))
        if found.strange and self._rebuild:
            await self._recall(wanted)
        elif not begun:
            if found:
                raise inventory.without_state(str(self._sink), found.strange)
            await self._disk.change(lambda state: state.keep_settings(wanted))
        else:
            await self._take(found)

    async def check_parts(self, writer: Writer) -> None:
        """Raise `ExportError` where a database that was not closed holds other parts than the state tells of."""
        if self._form not in DATABASES:
            return
        closed, parts = await self._disk.change(lambda state: (state.database(), state.known_parts()))
        if closed is None:
            told = await self._disk.run(lambda: self._read(writer.held), aside=True)
            held = {(dataset, part): rows for dataset, part, rows in told}
            found = inventory.unequal_parts(parts, held)
            if found.strange and self._rebuild:
                raise inventory.unknown_parts(str(self._sink), found.strange)
            if found and not self._rebuild:
                raise inventory.refusal(str(self._sink), found)
            await self._disk.change(lambda state: _take_parts(state, parts, held))
        await self._disk.change(lambda state: state.keep_database(None))
        await self._disk.run(self._disk.state.sync)

    def _expected(self, state: State) -> Expected:
        return self._files(state.known_parts(), state.database())

    def _files(self, parts: Iterable[tuple[Part, Facts | None]], database: Facts | None) -> Expected:
        if self._form in DATABASES:
            if (
                database is None
                and isinstance(self._sink, LocalSink)
                and any(facts and facts.rows for _, facts in parts)
            ):
                database = Facts(rows=0)  # its run was killed: what it holds it is asked itself, but it is there
            return {DATABASES[self._form].file: database}
        return {name_of(self._form, part): facts for part, facts in parts}

    async def _compared(self, expected: Expected, was: Iterable[Original], *, begun: bool) -> Differences:
        originals = {name_of(self._form, one.part): one.facts for one in was}

        def compared() -> Differences:
            if not begun:
                return Differences(strange=inventory.anything_in(self._sink))
            files = inventory.files_of(self._sink)
            found = inventory.compared(expected, files, self._sink.digest)
            return inventory.returned(found, originals, files, self._sink.digest)

        return await self._disk.run(lambda: self._read(compared), aside=True)

    async def _recall(self, wanted: Mapping[str, Any]) -> None:
        """Make a state from the manifest; what it does not list would come twice."""
        document = await self._disk.run(lambda: self._read(lambda: self._sink.read(MANIFEST)), aside=True)
        recall = recalled(document, str(self._sink))
        self._same({**recall.settings, _PLACE: wanted.get(_PLACE)}, wanted)
        found = await self._compared(self._files(recall.parts, recall.database), recall.originals, begun=True)
        if found.strange:
            raise inventory.unlisted(str(self._sink), found.strange)
        await self._disk.change(lambda state: recall.into(state, wanted))
        await self._take(found)

    async def _take(self, found: Differences) -> None:
        """Note what files look like now; raises `ExportError` for others than expected, unless they are taken so."""
        if found and not self._rebuild:
            raise inventory.refusal(str(self._sink), found)
        now = await self._disk.run(lambda: self._read(lambda: self._now(found)), aside=True)
        await self._disk.change(lambda state: self._note(state, found, now))

    def _now(self, found: Differences) -> dict[str, tuple[int, str, str]]:
        """Return size, checksum and look of the files that were altered."""
        seen = {name: self._sink.look(name) for name in found.altered}
        return {name: (one.size, self._sink.digest(name), one.mark) for name, one in seen.items() if one}

    def _note(self, state: State, found: Differences, now: Mapping[str, tuple[int, str, str]]) -> None:
        if self._form in DATABASES:
            if found:  # what is in it, it is asked itself: which parts, and how many rows of each
                state.keep_database(None)
            if found.altered:
                state.keep_lost([Lost("", DATABASE, 0, 0, ALTERED)])
            return
        for one in state.originals():
            if (name := name_of(self._form, one.part)) in found.back:
                state.restore(one, found.back[name])
        for part, facts in state.known_parts():
            name = name_of(self._form, part)
            if name in found.marks:
                state.note_mark(part, found.marks[name])
            elif facts is not None and name in found.lost:
                state.lose_file(part, facts, GONE, None)
            elif facts is not None and name in now:
                size, digest, mark = now[name]
                state.lose_file(part, facts, ALTERED, attrs.evolve(facts, bytes=size, sha256=digest, mark=mark))

    def _same(self, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        """Insist on the settings that the export was begun with."""
        different = [key for key in wanted if begun.get(key) != wanted[key]]
        if different:
            told = ", ".join(f"{key} {begun.get(key)!r}, now {wanted[key]!r}" for key in different)
            raise ExportError(
                f"{str(self._sink)!r} holds an export of other settings: {told}",
                hint="Nothing was sent. Run it with the settings it was begun with, or export into another place.",
                kind="settings",
            )

    async def reading(self, work: Awaitable[T]) -> T:
        """Do what reads from the place, or claims it; raises `ExportError` where that fails."""
        return await translated(work, self._unreadable)

    def _read(self, look: Callable[[], T]) -> T:
        try:
            return look()
        except Exception as error:  # noqa: BLE001 - whatever a store's or a format's library raises
            told = self._unreadable(error)
        raise told

    def _unreadable(self, error: Exception) -> ExportError:
        damaged = trouble_of(error) == "state"
        return ExportError(
            f"what {str(self._sink)!r} holds cannot be read: {self._sink.scrub(said(error))}",
            hint=f"Nothing was sent. {PUT_BACK if damaged else 'Check the place.'}",
            fault="host",
            kind="state" if damaged else "disk",
        )


def _take_parts(state: State, parts: Iterable[tuple[Part, Facts | None]], held: Mapping[tuple[str, int], int]) -> None:
    """Note which rows of a database are gone."""
    for part, facts in parts:
        rows = held.get((part.dataset, part.id), 0)
        if facts is not None and rows != facts.rows:
            state.lose(part, max(0, facts.rows - rows), GONE if not rows else ALTERED, attrs.evolve(facts, rows=rows))
