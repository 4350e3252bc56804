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

from agora_analytics.errors import ExportError
from agora_analytics.export._batches import Batch, joined, unpack
from agora_analytics.export._disk import Disk
from agora_analytics.export._staged import Facts, Part
from agora_analytics.export._state import State
from agora_analytics.export._target import Target
from agora_analytics.export.sinks import Sink, said

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
        if least > 1 and max(self._disk.state.grown.values(), default=0) < least:
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
        """Let go of the target; on the disk's thread, and as often as need be."""
        if not self._closed:
            self._closed = True
            self._target.close()

    async def abandon(self) -> None:
        """Let go of the target after an error, which is what is told."""
        with suppress(ExportError):
            await self._guarded(self.close)

    async def _write(self, part: Part) -> None:
        add = await self._guarded(lambda: self._target.begin(part))
        rows, after = 0, 0
        while pieces := await self._disk.run(partial(self._disk.state.pieces, part, after, _CHUNK)):
            rows += await self._guarded(partial(_add, part.dataset, pieces, add))
            after = pieces[-1][0]
        facts: Facts = await self._guarded(lambda: self._target.finish(part, rows))
        await self._guarded(partial(self._target.deliver, part))
        await self._disk.change(lambda state: state.end_part(part, facts))
        self.written += rows

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


def _add(dataset: str, pieces: list[tuple[int, bytes]], add: Callable[[Batch], None]) -> int:
    """Add rows to a part, and return how many."""
    batch = joined([unpack(dataset, stored) for _, stored in pieces])
    add(batch)
    return batch.rows
