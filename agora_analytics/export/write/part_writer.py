"""From staged rows to published parts: a part is numbered, written, sealed, published, and then its rows are deleted.

A part that was sealed and not published is written again under the same name and from the same rows, so that a process
killed at any point leaves neither a gap nor a duplicate.
"""

from __future__ import annotations

import asyncio
import logging
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
from agora_analytics.export.write.target import MANIFEST, Target
from agora_analytics.export.write.writer import RESTORE_HINT, WriterRestartedError, error_kind

log = logging.getLogger("agora_analytics")

_MAX_BACKLOG: Final = 2**24
"""Bytes of a partition that may be staged while another part is written; they are on disk."""

_RESTARTED: Final = object()
"""The result of work whose writer process died."""

_FLUSH_SIZE: Final = 2**19
"""Bytes of staged rows that are read at a time, and that are enough to flush a partition."""


@attrs.define
class _OpenPart:
    """The part that is being written: it has the staged rows with ids up to `last`, `size` bytes in all."""

    part: Part
    last: int = 0
    size: int = 0


class PartWriter:
    """Writes parts, one at a time: a part is opened with the first rows, and sealed once it is full.

    Attributes:
        rows_written: rows of the parts that were published in this run.

    """

    def __init__(self, state_thread: StateThread, target: Target, sink: Sink, state_sync: StateSync) -> None:
        self.rows_written = 0
        self.target = target
        self._state_thread = state_thread
        self._sink = sink
        self._state_sync = state_sync
        self._lock = asyncio.Lock()
        self._open_part: _OpenPart | None = None
        self._closed = False

    async def prepare(self) -> None:
        """Mark a manifest as incomplete if it lists rows that are gone. Call it before anything is fetched."""
        if await self._state_thread.change(_has_missing_rows):
            await self._mark_incomplete()

    async def resume(self) -> None:
        """Write the parts that an earlier run sealed and did not publish."""
        for part in await self._state_thread.change(ExportState.sealed_parts):
            await self._write_sealed(part)

    async def flush_ready(self) -> None:
        """Flush the partitions with at least 512 KiB of staged rows.

        While another caller flushes, return at once; if a partition has more than 16 MiB, wait (back-pressure).
        """
        await self._sync(partial(self._state_sync.sync_if_due, self.paused))
        most = max(self._unsealed_bytes().values(), default=0)
        if most < _FLUSH_SIZE or (most < _MAX_BACKLOG and self._lock.locked()):
            return
        async with self._lock:
            # Without rows in spite of the count, end: that may be too high after a failed transaction.
            while (partition := self._next_partition(_FLUSH_SIZE, self.target.part_size)) and await self._append(
                partition
            ):
                pass

    async def flush_all(self) -> None:
        """Flush all staged rows, provisional ones first: no reader may see a row twice."""
        async with self._lock:
            full, empty = await self._state_thread.change(ExportState.provisional_parts)
            await self._sync(self._state_sync.sync)
            held_back = []
            if full or empty:
                await self._mark_incomplete()
                held_back = await self._seal_without_publishing()
            for part in empty:
                # The file first: one that the state has forgotten would never be removed.
                while await self._write(partial(self.target.remove, part)) is _RESTARTED:
                    pass
                await self._state_thread.change(partial(ExportState.remove_part, part=part))
            for part in (*full, *held_back):
                await self._write_sealed(part)
            while (partition := self._next_partition(1, 1)) and await self._append(partition):
                pass
            await self._seal()

    async def publish_database(self) -> None:
        """Close the target, and publish its database if it has one."""
        await self._run_io(self.close)
        info: PartInfo | None = await self._run_io(self.target.publish_database)
        await self._state_thread.change(lambda state: state.set_database(info))
        await self._sync(partial(self._state_sync.sync_final, self.paused))

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[Callable[[], Awaitable[Path]]]:
        """Pause writing, between two parts; yields a function that copies the database and returns the copy."""
        async with self._lock:
            if not self._closed:
                await self._seal()
            yield lambda: self._run_io(partial(self.target.copy, closed=self._closed))

    async def write_manifest(self, manifest: object) -> None:
        """Write the manifest."""
        await self._check_before_replacing(lambda: self._sink.expect(MANIFEST))
        await self._run_io(lambda: self.target.write_manifest(manifest))

    async def _mark_incomplete(self) -> None:
        await self._check_before_replacing(lambda: self._sink.expect(MANIFEST))
        await self._run_io(self.target.mark_incomplete)

    async def _check_before_replacing(self, expect: Callable[[], None]) -> None:
        """Check that no other run has started, so that from now on a file that it writes is not replaced.

        The file is looked at first: whatever another run does to it after that look, the store refuses this run's
        upload, even if this process is stopped for hours right after the check.
        """
        await self._run_io(expect)
        await self._sync(self._state_sync.check_not_superseded)

    def close(self) -> None:
        """Close the target, on the I/O thread; may be called twice."""
        if not self._closed:
            self._closed = True
            self.target.writer.close()

    async def abort(self) -> bool:
        """Close the target after an error, which is the one to report; return whether closing succeeded."""
        try:
            await self._run_io(self.close)
        except ExportError:
            return False
        return True

    def _unsealed_bytes(self) -> dict[Partition, int]:
        """Return the staged bytes of each partition that are not in the open part yet."""
        unsealed = dict(self._state_thread.state.staged_bytes)
        if self._open_part is not None:
            partition = self._open_part.part.partition
            unsealed[partition] = unsealed.get(partition, 0) - self._open_part.size
        return unsealed

    def _next_partition(self, least: int, others: int) -> Partition | None:
        """Return the partition to write next: that of the open part if it has `least` bytes, or the largest.

        While a part is open, another partition is next only if it has as many as `others`.
        """
        unsealed = self._unsealed_bytes()
        if self._open_part is not None:
            if unsealed[self._open_part.part.partition] >= least:
                return self._open_part.part.partition
            least = others
        # The largest first: few parts, and little that waits in the state.
        partition = max(unsealed, key=lambda one: unsealed[one], default=None)
        return partition if partition is not None and unsealed[partition] >= least else None

    async def _append(self, partition: Partition) -> bool:
        """Write staged rows of a partition; return whether there were any. An open part of another one is sealed."""
        if self._open_part is not None and self._open_part.part.partition != partition:
            await self._seal()
        if self._open_part is None:
            part = await self._state_thread.change(partial(ExportState.begin_part, partition=partition))
            self._open_part = _OpenPart(part)
        appended = await self._add_rows(self._open_part)
        if self._open_part.size >= self.target.part_size:
            await self._seal()
        return appended

    async def _seal(self) -> None:
        """Seal and publish the open part, if any."""
        if self._open_part is not None:
            await self._publish(await self._seal_in_state(self._open_part))

    async def _seal_without_publishing(self) -> list[Part]:
        """Seal the open part in the state alone, and return it: it is written again after the provisional ones."""
        return [(await self._seal_in_state(self._open_part)).part] if self._open_part is not None else []

    async def _seal_in_state(self, writing: _OpenPart) -> _OpenPart:
        """Store which rows the open part has."""
        self._open_part = None
        await self._run_io(partial(self.target.expect, writing.part))  # before `sync` checks for another run
        await self._state_thread.change(lambda state: state.seal_part(writing.part, writing.last, writing.size))
        await self._sync(self._state_sync.sync)
        return writing

    async def _sync(self, sync: Callable[[], Awaitable[None]]) -> None:
        """Make the state durable: rows that are published, and not sealed in it, would be fetched again."""
        await translate_errors(sync(), self._write_error)

    async def _write_sealed(self, part: Part) -> None:
        """Write a part that is sealed in the state."""
        writing = _OpenPart(part)
        await self._check_before_replacing(partial(self.target.expect, part))
        while await self._add_rows(writing):
            pass
        await self._publish(writing)

    async def _add_rows(self, writing: _OpenPart) -> bool:
        """Write the next staged rows of a part; return whether there were any."""
        # A part may exceed its size by what is read at a time.
        state, most = self._state_thread.state, min(_FLUSH_SIZE, self.target.part_size)
        rows = await self._state_thread.run(lambda: state.read_rows(writing.part, writing.last, most))
        if rows is not None and await self._write(partial(self._pass_on, writing, rows)) is _RESTARTED:
            # All rows of the part are staged until it is published: begin it again.
            writing.last = writing.size = 0
        return rows is not None

    def _pass_on(self, writing: _OpenPart, rows: StagedRows) -> None:
        if not writing.last:
            self.target.writer.begin(writing.part.dataset, writing.part.id)
        self.target.writer.add(rows.payloads)
        writing.last = rows.last
        writing.size += rows.size

    async def _publish(self, writing: _OpenPart) -> None:
        info = await self._write(partial(self.target.publish, writing.part))
        if info is _RESTARTED:
            await self._write_sealed(writing.part)
            return
        await self._state_thread.change(lambda state: state.finish_part(writing.part, info))
        self.rows_written += info.rows

    async def _write(self, work: Callable[[], Any]) -> Any:
        """Run work of the writer; return `_RESTARTED` if its process died, and a new one writes the next part."""

        def attempt() -> Any:
            try:
                return work()
            except WriterRestartedError as error:
                log.warning("export: %s; the part that it was writing is written again", error)
                return _RESTARTED

        return await self._run_io(attempt)

    async def _run_io(self, work: Callable[[], Any]) -> Any:
        return await translate_errors(self._state_thread.run_io(work, abort=self.target.abort), self._write_error)

    def _write_error(self, error: Exception) -> ExportError:
        kind = error_kind(error)
        return ExportError(
            f"the export into {str(self._sink)!r} cannot be written: {self._sink.scrub(error_text(error))}",
            hint=RESTORE_HINT
            if kind == "state"
            else "Fix that and run the same export again: it continues where it stopped.",
            fault="host",
            kind=kind,
        )


def _has_missing_rows(state: ExportState) -> bool:
    """Whether rows are lost, or provisional ones are to be written again."""
    return bool(state.lost()) or any(info is None and not part.number for part, info in state.known_parts())
