"""Checks before an export continues: its settings, its files, and the parts in its database must match its state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs

from agora_analytics.errors import ExportError
from agora_analytics.export.formats import DATABASE_FORMATS
from agora_analytics.export.sinks import LocalSink, Sink, error_text
from agora_analytics.export.state import inventory
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.inventory import Differences, Expected
from agora_analytics.export.state.rebuild import read_manifest
from agora_analytics.export.state.recovery_tables import WHOLE_DATABASE, LostRows, OriginalPart
from agora_analytics.export.state.staging import Part, PartInfo
from agora_analytics.export.state.state_thread import StateThread, translate_errors
from agora_analytics.export.write.target import MANIFEST, part_file
from agora_analytics.export.write.writer import RESTORE_HINT, RowWriter, error_kind

T = TypeVar("T")

GONE: Final = "its file is gone"
ALTERED: Final = "its file was altered"

_PLACE: Final = "place"
"""The setting that may differ in the manifest of another machine."""


@attrs.frozen
class Preflight:
    """Checks an export before it continues; with `rebuild`, accepts what is there instead."""

    _state_thread: StateThread
    _sink: Sink
    _format: str
    _rebuild: bool

    async def check_files(self, wanted: Mapping[str, Any]) -> None:
        """Raise `ExportError` for other settings, or files that differ from the state."""
        begun = await self._state_thread.change(ExportState.settings)
        if begun:
            self._check_settings(begun, wanted)
        expected = await self._state_thread.change(self._expected) if begun else {}
        found = await self._compared(
            expected, await self._state_thread.change(ExportState.originals), begun=bool(begun)
        )
        if found.unknown and self._rebuild:
            await self._rebuild_state(wanted)
        elif not begun:
            if found:
                raise inventory.missing_state_error(str(self._sink), found.unknown)
            await self._state_thread.change(lambda state: state.save_settings(wanted))
        else:
            await self._accept(found)

    async def check_parts(self, writer: RowWriter) -> None:
        """Raise `ExportError` if the parts in a database that was not closed differ from the state."""
        if self._format not in DATABASE_FORMATS:
            return
        closed, parts = await self._state_thread.change(lambda state: (state.database(), state.known_parts()))
        if closed is None:
            counts = await self._state_thread.run_io(lambda: self._guard_call(writer.part_row_counts))
            held = {(dataset, part): rows for dataset, part, rows in counts}
            found = inventory.compare_parts(parts, held)
            if found.unknown and self._rebuild:
                raise inventory.unlisted_parts_error(str(self._sink), found.unknown)
            if found and not self._rebuild:
                raise inventory.mismatch_error(str(self._sink), found)
            await self._state_thread.change(lambda state: _accept_parts(state, parts, held))
        # Open from here on: after a crash, the next run counts its rows instead of comparing a checksum.
        await self._state_thread.change(lambda state: state.set_database(None))
        await self._state_thread.run(self._state_thread.state.sync)

    def _expected(self, state: ExportState) -> Expected:
        return self._expected_files(state.known_parts(), state.database())

    def _expected_files(self, parts: Iterable[tuple[Part, PartInfo | None]], database: PartInfo | None) -> Expected:
        if self._format in DATABASE_FORMATS:
            if database is None and isinstance(self._sink, LocalSink) and any(info and info.rows for _, info in parts):
                database = PartInfo(rows=0)  # its run was killed: it must exist, and check_parts reads its content
            return {DATABASE_FORMATS[self._format].file: database}
        return {part_file(self._format, part): info for part, info in parts}

    async def _compared(self, expected: Expected, was: Iterable[OriginalPart], *, begun: bool) -> Differences:
        originals = {part_file(self._format, one.part): one.info for one in was}

        def compared() -> Differences:
            if not begun:
                return Differences(unknown=inventory.existing_files(self._sink))
            files = inventory.export_files(self._sink)
            found = inventory.compare(expected, files, self._sink.digest)
            return inventory.without_restored(found, originals, files, self._sink.digest)

        return await self._state_thread.run_io(lambda: self._guard_call(compared))

    async def _rebuild_state(self, wanted: Mapping[str, Any]) -> None:
        """Rebuild the state from the manifest; files that it does not list would be duplicated."""
        document = await self._state_thread.run_io(lambda: self._guard_call(lambda: self._sink.read(MANIFEST)))
        recall = read_manifest(document, str(self._sink))
        self._check_settings({**recall.settings, _PLACE: wanted.get(_PLACE)}, wanted)
        found = await self._compared(self._expected_files(recall.parts, recall.database), recall.originals, begun=True)
        if found.unknown:
            raise inventory.unlisted_files_error(str(self._sink), found.unknown)
        await self._state_thread.change(lambda state: recall.restore_into(state, wanted))
        await self._accept(found)

    async def _accept(self, found: Differences) -> None:
        """Record current marks; with `rebuild` the differences too, without it raise `ExportError` for them."""
        if found and not self._rebuild:
            raise inventory.mismatch_error(str(self._sink), found)
        now = await self._state_thread.run_io(lambda: self._guard_call(lambda: self._current_files(found)))
        await self._state_thread.change(lambda state: self._record(state, found, now))

    def _current_files(self, found: Differences) -> dict[str, tuple[int, str, str]]:
        """Return size, checksum and mark of the altered files."""
        seen = {name: self._sink.stat(name) for name in found.altered}
        return {name: (one.size, self._sink.digest(name), one.mark) for name, one in seen.items() if one}

    def _record(self, state: ExportState, found: Differences, now: Mapping[str, tuple[int, str, str]]) -> None:
        if self._format in DATABASE_FORMATS:
            if found:  # check_parts counts the rows of each part in it
                state.set_database(None)
            if found.altered:
                state.add_lost_rows([LostRows("", WHOLE_DATABASE, 0, 0, ALTERED)])
            return
        for one in state.originals():
            if (name := part_file(self._format, one.part)) in found.restored:
                state.restore_part(one, found.restored[name])
        for part, info in state.known_parts():
            name = part_file(self._format, part)
            if name in found.marks:
                state.set_mark(part, found.marks[name])
            elif info is not None and name in found.lost:
                state.record_lost_file(part, info, GONE, None)
            elif info is not None and name in now:
                size, digest, mark = now[name]
                state.record_lost_file(part, info, ALTERED, attrs.evolve(info, bytes=size, sha256=digest, mark=mark))

    def _check_settings(self, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        """Raise `ExportError` for settings that differ from those that the export was started with."""
        different = [key for key in wanted if begun.get(key) != wanted[key]]
        if different:
            changes = ", ".join(f"{key} {begun.get(key)!r}, now {wanted[key]!r}" for key in different)
            raise ExportError(
                f"{str(self._sink)!r} has an export with other settings: {changes}",
                hint="Nothing was sent. Run it with the settings it was started with, or export into another place.",
                kind="settings",
            )

    async def guard(self, work: Awaitable[T]) -> T:
        """Await work that reads from the sink, or claims it; raises its errors as `ExportError`."""
        return await translate_errors(work, self._read_error)

    def _guard_call(self, look: Callable[[], T]) -> T:
        try:
            return look()
        except Exception as error:  # noqa: BLE001 - whatever a store's or a format's library raises
            translated = self._read_error(error)
        raise translated

    def _read_error(self, error: Exception) -> ExportError:
        damaged = error_kind(error) == "state"
        return ExportError(
            f"the files in {str(self._sink)!r} cannot be read: {self._sink.scrub(error_text(error))}",
            hint=f"Nothing was sent. {RESTORE_HINT if damaged else 'Check the place.'}",
            fault="host",
            kind="state" if damaged else "disk",
        )


def _accept_parts(
    state: ExportState, parts: Iterable[tuple[Part, PartInfo | None]], held: Mapping[tuple[str, int], int]
) -> None:
    """Record which rows of a database are gone."""
    for part, info in parts:
        rows = held.get((part.dataset, part.id), 0)
        if info is not None and rows != info.rows:
            state.record_lost_rows(
                part, max(0, info.rows - rows), GONE if not rows else ALTERED, attrs.evolve(info, rows=rows)
            )
