"""From rows that wait on disk to parts that can be seen: each is numbered, written, delivered, and only then forgotten.

A part that was begun and not ended is written anew, under the same name and of the same rows, so that a process killed
in between leaves neither a gap nor a double.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from agora_analytics.errors import ExportError
from agora_analytics.export.sinks import Sink, error_text
from agora_analytics.export.state.export_state import ExportState
from agora_analytics.export.state.remote_copy import StateSync
from agora_analytics.export.state.staging import Part, PartInfo, Partition, StagedRows
from agora_analytics.export.state.state_thread import StateThread, translate_errors
from agora_analytics.export.write.target import Target
from agora_analytics.export.write.writer import RESTORE_HINT, error_kind

_MAX_BACKLOG: Final = 2**24
"""Bytes of a part's rows that may wait while others are written; they do so on disk."""

_FLUSH_SIZE: Final = 2**19
"""Bytes of waiting rows that are read at once, and that are worth it."""


class PartWriter:
    """Writes parts, one at a time: begun as soon as there is something to write, ended when it is full."""

    def __init__(self, disk: StateThread, target: Target, sink: Sink, keeper: StateSync) -> None:
        self.rows_written = 0
        self._closed = False
        self._state_thread = disk
        self.target = target
        self._sink = sink
        self._state_sync = keeper
        self._lock = asyncio.Lock()
        self._open_part: _OpenPart | None = None

    async def begin(self) -> None:
        """Have no manifest say that all is there where it lists what is gone; done before anything is asked."""
        if await self._state_thread.change(_has_missing_rows):
            await self._mark_incomplete()

    async def resume(self) -> None:
        """Write the parts that were sealed and not ended."""
        for part in await self._state_thread.change(ExportState.sealed_parts):
            await self._write_sealed(part)

    async def flush_ready(self) -> None:
        """Write rows that wait, as many as are worth it; who comes meanwhile waits where too many do."""
        await self._sync(partial(self._state_sync.sync_if_due, self.paused))
        most = max(self._unsealed_bytes().values(), default=0)
        if most < _FLUSH_SIZE or (most < _MAX_BACKLOG and self._lock.locked()):
            return
        async with self._lock:
            while (group := self._next_partition(_FLUSH_SIZE, self.target.part_size)) and await self._append(group):
                pass

    async def flush_all(self) -> None:
        """Write all rows that wait, provisional ones first: no reader shall see a row twice."""
        async with self._lock:
            part_size, empty = await self._state_thread.change(ExportState.provisional_parts)
            await self._sync(self._state_sync.sync)
            held = []
            if part_size or empty:
                await self._mark_incomplete()
                held = await self._seal_without_publishing()
            for part in empty:
                await self._run_io(partial(self.target.remove, part))
                await self._state_thread.change(partial(ExportState.remove_part, part=part))
            for part in (*part_size, *held):
                await self._write_sealed(part)
            while (group := self._next_partition(1, 1)) and await self._append(group):
                pass
            await self._seal()

    async def publish_database(self) -> None:
        """Close the target, and make visible what is one file for all parts."""
        await self._run_io(self.close)
        facts: PartInfo | None = await self._run_io(self.target.publish_database)
        await self._state_thread.change(lambda state: state.set_database(facts))
        await self._sync(partial(self._state_sync.sync_final, self.paused))

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[Callable[[], Awaitable[Path]]]:
        """Let nothing be written inside; gives what copies a database, which has whole parts only."""
        async with self._lock:
            if not self._closed:
                await self._seal()
            yield lambda: self._run_io(partial(self.target.copy, closed=self._closed))

    async def write_manifest(self, manifest: object) -> None:
        """Write the manifest."""
        await self._sync(self._state_sync.check_not_superseded)
        await self._run_io(lambda: self.target.write_manifest(manifest))

    async def _mark_incomplete(self) -> None:
        """Have the manifest say that not all is there."""
        await self._sync(self._state_sync.check_not_superseded)
        await self._run_io(self.target.mark_incomplete)

    def close(self) -> None:
        """Let go of the target; on the thread of files, and as often as need be."""
        if not self._closed:
            self._closed = True
            self.target.writer.close()

    async def abort(self) -> bool:
        """Let go of the target after an error, which is what is told; return whether that went well."""
        try:
            await self._run_io(self.close)
        except ExportError:
            return False
        return True

    def _unsealed_bytes(self) -> dict[Partition, int]:
        """Return the bytes that wait for each group, and are not in the open part yet."""
        waiting = dict(self._state_thread.state.staged_bytes)
        if self._open_part is not None:
            group = self._open_part.part.partition
            waiting[group] = waiting.get(group, 0) - self._open_part.size
        return waiting

    def _next_partition(self, least: int, others: int) -> Partition | None:
        """Return the group to write next: that of the open part, where `least` bytes wait for it, or the largest.

        While a part is open, another begins only once it has as many as `others`.
        """
        waiting = self._unsealed_bytes()
        if self._open_part is not None:
            if waiting[self._open_part.part.partition] >= least:
                return self._open_part.part.partition
            least = others
        group = max(waiting, key=lambda one: waiting[one], default=None)
        return group if group is not None and waiting[group] >= least else None

    async def _append(self, group: Partition) -> bool:
        """Write more of what waits for a group, if anything; the open part, if of another, ends with what it has."""
        if self._open_part is not None and self._open_part.part.partition != group:
            await self._seal()
        if self._open_part is None:
            self._open_part = _OpenPart(
                self.target, await self._state_thread.change(partial(ExportState.begin_part, partition=group))
            )
        grown = await self._add_rows(self._open_part)
        if self._open_part.size >= self.target.part_size:
            await self._seal()
        return grown

    async def _seal(self) -> None:
        """End the part that is open."""
        if self._open_part is not None:
            await self._publish(await self._seal_in_state(self._open_part))

    async def _seal_without_publishing(self) -> list[Part]:
        """End the part that is open in the state alone, and return it: it is written anew once others were written."""
        return [(await self._seal_in_state(self._open_part)).part] if self._open_part is not None else []

    async def _seal_in_state(self, writing: _OpenPart) -> _OpenPart:
        """Have the state say which rows the open part has: it is the open one no more."""
        self._open_part = None
        await self._state_thread.change(lambda state: state.seal_part(writing.part, writing.last, writing.size))
        await self._sync(self._state_sync.sync)
        return writing

    async def _sync(self, keep: Callable[[], Awaitable[None]]) -> None:
        """Keep the state: what is seen and it does not tell of would come twice."""
        await translate_errors(keep(), self._write_error)

    async def _write_sealed(self, part: Part) -> None:
        """Write a part whose rows are known."""
        writing = _OpenPart(self.target, part)
        while await self._add_rows(writing):
            pass
        await self._publish(writing)

    async def _add_rows(self, writing: _OpenPart) -> bool:
        pieces = await self._state_thread.run(
            lambda: self._state_thread.state.read_rows(
                writing.part, writing.last, min(_FLUSH_SIZE, self.target.part_size)
            )
        )
        if pieces is not None:
            await self._run_io(partial(writing.add, pieces))
        return pieces is not None

    async def _publish(self, writing: _OpenPart) -> None:
        facts: PartInfo = await self._run_io(writing.publish)
        await self._state_thread.change(lambda state: state.finish_part(writing.part, facts))
        self.rows_written += facts.rows

    async def _run_io(self, work: Callable[[], Any]) -> Any:
        return await translate_errors(self._state_thread.run_io(work, abort=self.target.abort), self._write_error)

    def _write_error(self, error: Exception) -> ExportError:
        kind = error_kind(error)
        return ExportError(
            f"the export into {str(self._sink)!r} cannot be written: {self._sink.scrub(error_text(error))}",
            hint=RESTORE_HINT
            if kind == "state"
            else "Fix that and run the same export again: it goes on where it stopped.",
            fault="host",
            kind=kind,
        )


def _has_missing_rows(state: ExportState) -> bool:
    """Whether rows are gone for good, or provisional ones are to be written anew."""
    return bool(state.lost()) or any(facts is None and not part.number for part, facts in state.known_parts())


@attrs.define
class _OpenPart:
    """A part that is being written; used by one thread at a time. It has the rows up to the staged id `last`."""

    _target: Target
    part: Part
    last: int = 0
    size: int = 0

    def add(self, pieces: StagedRows) -> None:
        """Add rows."""
        if not self.last:
            self._target.writer.begin(self.part.dataset, self.part.id)
        self._target.writer.add(pieces.payloads)
        self.last = pieces.last
        self.size += pieces.size

    def publish(self) -> PartInfo:
        """Make the part visible."""
        return self._target.publish(self.part)
