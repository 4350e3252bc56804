"""A stream's place in time: its checkpoint, and where that is saved."""

from __future__ import annotations

from agora_analytics.protocols import CheckpointStore
from agora_analytics.spans import Span
from agora_analytics.streams._checkpoints import Checkpoint


class Place:
    """Where a stream is; saved under a name, or left to a sink that keeps it with what it writes."""

    def __init__(
        self, stream: str, *, given: Checkpoint | None = None, store: CheckpointStore | None = None, name: str = ""
    ) -> None:
        self._stream = stream
        self._store = store
        self._name = name
        self.checkpoint = Checkpoint(stream=stream) if given is None else given.check(stream, "the checkpoint")

    async def resume(self) -> tuple[Span, ...]:
        """Return the spans that are done; raises `CheckpointError` for a checkpoint of another stream."""
        if self._store is not None:
            found = await self._store.load(self._name)
            if found is not None:
                self.checkpoint = found.check(self._stream, f"checkpoint {self._name!r}")
        return self.checkpoint.done

    async def done(self, span: Span) -> None:
        """Note that a span is done."""
        self.checkpoint = self.checkpoint.with_done(span)
        if self._store is not None:
            await self._store.save(self._name, self.checkpoint)
