"""A stream's place in time: its checkpoint, and where that is saved."""

from __future__ import annotations

from agora_analytics.protocols import CheckpointStore
from agora_analytics.streams._checkpoints import Checkpoint, checked


class Place:
    """Where a stream is; saved under a name, or left to a sink that keeps it with what it writes."""

    def __init__(
        self, stream: str, *, given: Checkpoint | None = None, store: CheckpointStore | None = None, name: str = ""
    ) -> None:
        self.stream = stream
        self._store = store
        self._name = name
        self.checkpoint = Checkpoint(stream=stream) if given is None else given.check(stream, "the checkpoint")

    @property
    def named(self) -> bool:
        """Whether it is saved under a name."""
        return self._store is not None

    async def resume(self) -> Checkpoint:
        """Return where the stream was; raises `CheckpointError` for a checkpoint of another stream."""
        if self._store is not None:
            found = await self._store.load(self._name)
            if found is not None:
                self.checkpoint = found.check(self.stream, f"checkpoint {self._name!r}")
        return self.checkpoint

    async def keep(self, checkpoint: Checkpoint) -> None:
        """Note where the stream is."""
        self.checkpoint = checkpoint
        if self._store is not None:
            await self._store.save(self._name, self.checkpoint)

    async def leave(self) -> None:
        """Let others have the name."""


def place_of(stream: str, checkpoint: str | Checkpoint | None, store: CheckpointStore | None) -> Place:
    """Return the place of a stream by the argument `checkpoint`; raises `ValueError` for a name without a store."""
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return Place(stream, given=checkpoint)
    name = checked(checkpoint)
    if store is None:
        raise ValueError(f"checkpoint={name!r} needs AnalyticsClient(checkpoints=FileCheckpoints(folder))")
    return Place(stream, store=store, name=name)
