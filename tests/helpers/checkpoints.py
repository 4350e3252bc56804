"""Checkpoint stores: one that a user may write, and saving as a stream does, from its start to its end."""

from __future__ import annotations

from agora_analytics import Checkpoint, CheckpointError
from agora_analytics.protocols import CheckpointStore, Lease


async def store_checkpoint(store: CheckpointStore, name: str, checkpoint: Checkpoint) -> None:
    """Acquire a name, save a checkpoint under it, and release it."""
    lease = await store.acquire(name)
    await store.save(name, checkpoint, lease.epoch)
    await store.release(name, lease.epoch)


class OwnCheckpoints:
    """The smallest store that keeps the contract: rows of epoch and text by name, shared by all its instances."""

    def __init__(self, rows: dict[str, tuple[int, str]]) -> None:
        self._rows = rows

    async def load(self, name: str) -> Checkpoint | None:
        _, text = self._rows.get(name, (0, ""))
        return Checkpoint.decode(text) if text else None

    async def acquire(self, name: str) -> Lease:
        epoch, text = self._rows.get(name, (0, ""))
        self._rows[name] = epoch + 1, text
        return Lease(epoch + 1, await self.load(name))

    async def save(self, name: str, checkpoint: Checkpoint, epoch: int) -> None:
        if epoch < self._rows.get(name, (0, ""))[0]:
            raise CheckpointError("another process took this stream over", kind="taken_over")
        self._rows[name] = epoch, checkpoint.encode()

    async def release(self, name: str, epoch: int) -> None:
        """Nobody waits for it."""
