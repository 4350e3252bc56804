"""From rows that wait on disk to parts that can be seen: each is numbered, written, delivered, and only then forgotten.

A part that was begun and not ended is written anew, under the same name and of the same rows, so that a process killed
in between leaves neither a gap nor a double.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import attrs

from agora_analytics.errors import ExportError
from agora_analytics.export._batches import Batch, joined, unpack
from agora_analytics.export._disk import Disk
from agora_analytics.export._staged import Facts, Part, Pieces
from agora_analytics.export._state import State
from agora_analytics.export._target import Target
from agora_analytics.export.sinks import Sink, said

_BACKLOG: Final = 2**24
"""Bytes of a part's rows that may wait while another is written; they do so on disk."""

_READ: Final = 2**20
"""Bytes of waiting rows that are read at once."""

_CHUNK: Final = 2**17
"""Bytes of waiting rows that are turned into rows of a file in one go."""


class Parts:
    """Writes parts, one at a time."""

    def __init__(self, disk: Disk, target: Target, sink: Sink) -> None:
        self.written = 0
        self._closed = False
        self._disk = disk
        self._target = target
        self._sink = sink
        self._busy = asyncio.Lock()

    async def resume(self) -> None:
        """Write the parts that were begun and not ended."""
        for part in await self._disk.change(State.begun_parts):
            await self._write(part)

    async def publish(self, least: int | None = None) -> None:
        """Write the rows that wait, of each part with so many bytes (None: as many as make one)."""
        least = self._target.full if least is None else least
        waiting = max(self._disk.state.grown.values(), default=0)
        if least > 1 and (waiting < least or (waiting < _BACKLOG and self._busy.locked())):
            return
        async with self._busy:
            for group in [group for group, size in self._disk.state.grown.items() if size >= least]:
                await self._write(await self._disk.change(partial(State.begin_part, group=group)))

    async def publish_all(self) -> None:
        """Write all rows that wait; provisional ones first, so that no reader sees a row twice."""
        async with self._busy:
            full, empty = await self._disk.change(State.provisional_parts)
        for part in empty:
            await self._guarded(partial(self._target.remove, part))
            await self._disk.change(partial(State.remove_part, part=part))
        for part in full:
            await self._write(part)
        await self.publish(least=1)

    async def complete(self, manifest: object) -> None:
        """Make all of it visible, the manifest last."""
        await self._guarded(self.close)
        await self._guarded(lambda: self._target.complete(manifest))

    def close(self) -> None:
        """Let go of the target; on the thread of files, and as often as need be."""
        if not self._closed:
            self._closed = True
            self._target.close()

    async def abandon(self) -> None:
        """Let go of the target after an error, which is what is told."""
        with suppress(ExportError):
            await self._guarded(self.close)

    async def _write(self, part: Part) -> None:
        writing = _Writing(self._target, part)
        read = await self._read(part, 0)
        while read.more:
            await self._guarded(partial(writing.add, read))
            read = await self._read(part, read.last)
        facts: Facts = await self._guarded(partial(writing.finish, read))
        await self._disk.change(lambda state: state.end_part(part, facts))
        self.written += facts.rows

    async def _read(self, part: Part, after: int) -> Pieces:
        return await self._disk.run(lambda: self._disk.state.pieces(part, after, _READ))

    async def _guarded(self, work: Callable[[], Any]) -> Any:
        try:
            return await self._disk.run(work, aside=True)
        except ExportError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a format's or a store's library raises
            told = self._told(error)
        # Outside of `except`: what the other library says may quote a credential, and would stay as the context.
        raise told

    def _told(self, error: Exception) -> ExportError:
        return ExportError(
            f"the export into {str(self._sink)!r} cannot be written: {self._sink.scrub(said(error))}",
            advice="Mend that and run the same export again: it goes on where it stopped.",
        )


@attrs.define
class _Writing:
    """A part that is being written; used by one thread."""

    _target: Target
    _part: Part
    _add: Callable[[Batch], None] | None = None
    _rows: int = 0

    def add(self, pieces: Pieces) -> None:
        """Add rows."""
        if self._add is None:
            self._add = self._target.begin(self._part)
        for some in pieces.groups(_CHUNK):
            batch = joined([unpack(self._part.dataset, stored) for stored in some])
            self._add(batch)
            self._rows += batch.rows

    def finish(self, pieces: Pieces) -> Facts:
        """Add the last rows, and make the part visible."""
        self.add(pieces)
        facts = self._target.finish(self._part, self._rows)
        self._target.deliver(self._part)
        return facts
