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
from agora_analytics.export.sinks import Sink, said
from agora_analytics.export.state.progress import State
from agora_analytics.export.state.remote_copy import Keeper
from agora_analytics.export.state.staging import Facts, Group, Part, Pieces
from agora_analytics.export.state.state_thread import Disk, translated
from agora_analytics.export.write.target import Target
from agora_analytics.export.write.writer import PUT_BACK, trouble_of

_BACKLOG: Final = 2**24
"""Bytes of a part's rows that may wait while others are written; they do so on disk."""

_READ: Final = 2**19
"""Bytes of waiting rows that are read at once, and that are worth it."""


class Parts:
    """Writes parts, one at a time: begun as soon as there is something to write, ended when it is full."""

    def __init__(self, disk: Disk, target: Target, sink: Sink, keeper: Keeper) -> None:
        self.written = 0
        self._closed = False
        self._disk = disk
        self.target = target
        self._sink = sink
        self._keeper = keeper
        self._busy = asyncio.Lock()
        self._open: _Writing | None = None

    async def begin(self) -> None:
        """Have no manifest say that all is there where it lists what is gone; done before anything is asked."""
        if await self._disk.change(_is_wanting):
            await self._reopen()

    async def resume(self) -> None:
        """Write the parts that were sealed and not ended."""
        for part in await self._disk.change(State.begun_parts):
            await self._write(part)

    async def publish(self) -> None:
        """Write rows that wait, as many as are worth it; who comes meanwhile waits where too many do."""
        await self._kept(partial(self._keeper.keep_some, self.still))
        most = max(self._waiting().values(), default=0)
        if most < _READ or (most < _BACKLOG and self._busy.locked()):
            return
        async with self._busy:
            while (group := self._next(_READ, self.target.full)) and await self._grow(group):
                pass

    async def publish_all(self) -> None:
        """Write all rows that wait, provisional ones first: no reader shall see a row twice."""
        async with self._busy:
            full, empty = await self._disk.change(State.provisional_parts)
            await self._kept(self._keeper.keep)
            held = []
            if full or empty:
                await self._reopen()
                held = await self._hold()
            for part in empty:
                await self._guarded(partial(self.target.remove, part))
                await self._disk.change(partial(State.remove_part, part=part))
            for part in (*full, *held):
                await self._write(part)
            while (group := self._next(1, 1)) and await self._grow(group):
                pass
            await self._seal()

    async def seal(self) -> None:
        """Close the target, and make visible what is one file for all parts."""
        await self._guarded(self.close)
        facts: Facts | None = await self._guarded(self.target.seal)
        await self._disk.change(lambda state: state.keep_database(facts))
        await self._kept(partial(self._keeper.keep_end, self.still))

    @asynccontextmanager
    async def still(self) -> AsyncIterator[Callable[[], Awaitable[Path]]]:
        """Let nothing be written inside; gives what copies a database, which has whole parts only."""
        async with self._busy:
            if not self._closed:
                await self._seal()
            yield lambda: self._guarded(partial(self.target.copy, closed=self._closed))

    async def complete(self, manifest: object) -> None:
        """Write the manifest."""
        await self._kept(self._keeper.check)
        await self._guarded(lambda: self.target.complete(manifest))

    async def _reopen(self) -> None:
        """Have the manifest say that not all is there."""
        await self._kept(self._keeper.check)
        await self._guarded(self.target.reopen)

    def close(self) -> None:
        """Let go of the target; on the thread of files, and as often as need be."""
        if not self._closed:
            self._closed = True
            self.target.writer.close()

    async def abandon(self) -> bool:
        """Let go of the target after an error, which is what is told; return whether that went well."""
        try:
            await self._guarded(self.close)
        except ExportError:
            return False
        return True

    def _waiting(self) -> dict[Group, int]:
        """Return the bytes that wait for each group, and are not in the open part yet."""
        waiting = dict(self._disk.state.grown)
        if self._open is not None:
            group = self._open.part.group
            waiting[group] = waiting.get(group, 0) - self._open.size
        return waiting

    def _next(self, least: int, others: int) -> Group | None:
        """Return the group to write next: that of the open part, where `least` bytes wait for it, or the largest.

        While a part is open, another begins only once it has as many as `others`.
        """
        waiting = self._waiting()
        if self._open is not None:
            if waiting[self._open.part.group] >= least:
                return self._open.part.group
            least = others
        group = max(waiting, key=lambda one: waiting[one], default=None)
        return group if group is not None and waiting[group] >= least else None

    async def _grow(self, group: Group) -> bool:
        """Write more of what waits for a group, if anything; the open part, if of another, ends with what it has."""
        if self._open is not None and self._open.part.group != group:
            await self._seal()
        if self._open is None:
            self._open = _Writing(self.target, await self._disk.change(partial(State.begin_part, group=group)))
        grown = await self._add(self._open)
        if self._open.size >= self.target.full:
            await self._seal()
        return grown

    async def _seal(self) -> None:
        """End the part that is open."""
        if self._open is not None:
            await self._end(await self._seal_in_state(self._open))

    async def _hold(self) -> list[Part]:
        """End the part that is open in the state alone, and return it: it is written anew once others were written."""
        return [(await self._seal_in_state(self._open)).part] if self._open is not None else []

    async def _seal_in_state(self, writing: _Writing) -> _Writing:
        """Have the state say which rows the open part has: it is the open one no more."""
        self._open = None
        await self._disk.change(lambda state: state.seal_part(writing.part, writing.last, writing.size))
        await self._kept(self._keeper.keep)
        return writing

    async def _kept(self, keep: Callable[[], Awaitable[None]]) -> None:
        """Keep the state: what is seen and it does not tell of would come twice."""
        await translated(keep(), self._told)

    async def _write(self, part: Part) -> None:
        """Write a part whose rows are known."""
        writing = _Writing(self.target, part)
        while await self._add(writing):
            pass
        await self._end(writing)

    async def _add(self, writing: _Writing) -> bool:
        pieces = await self._disk.run(
            lambda: self._disk.state.pieces(writing.part, writing.last, min(_READ, self.target.full))
        )
        if pieces is not None:
            await self._guarded(partial(writing.add, pieces))
        return pieces is not None

    async def _end(self, writing: _Writing) -> None:
        facts: Facts = await self._guarded(writing.finish)
        await self._disk.change(lambda state: state.end_part(writing.part, facts))
        self.written += facts.rows

    async def _guarded(self, work: Callable[[], Any]) -> Any:
        return await translated(self._disk.run(work, aside=True, abort=self.target.abort), self._told)

    def _told(self, error: Exception) -> ExportError:
        kind = trouble_of(error)
        return ExportError(
            f"the export into {str(self._sink)!r} cannot be written: {self._sink.scrub(said(error))}",
            hint=PUT_BACK
            if kind == "state"
            else "Fix that and run the same export again: it goes on where it stopped.",
            fault="host",
            kind=kind,
        )


def _is_wanting(state: State) -> bool:
    """Whether rows are gone for good, or provisional ones are to be written anew."""
    return bool(state.lost()) or any(facts is None and not part.number for part, facts in state.known_parts())


@attrs.define
class _Writing:
    """A part that is being written; used by one thread at a time. It has the rows up to the staged id `last`."""

    _target: Target
    part: Part
    last: int = 0
    size: int = 0

    def add(self, pieces: Pieces) -> None:
        """Add rows."""
        if not self.last:
            self._target.writer.begin(self.part.dataset, self.part.id)
        self._target.writer.add(pieces.stored)
        self.last = pieces.last
        self.size += pieces.size

    def finish(self) -> Facts:
        """Make the part visible."""
        return self._target.finish(self.part)
