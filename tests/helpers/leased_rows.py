"""Checkpoints of a store with leases, in memory and on the event loop's time; each process may be cut off from it."""

from __future__ import annotations

import asyncio

import attrs

from agora_analytics._core.shared_store import StoreFailedError
from agora_analytics.streams.shared_checkpoints import SharedCheckpoints, StoredCheckpoint


@attrs.define
class Row:
    """What is stored under a name; `until` is the end of a lease, None if there is none."""

    epoch: int = 0
    text: bytes = b""
    until: float | None = None


@attrs.define
class LeasedStore:
    """A store that may be down."""

    rows: dict[str, Row] = attrs.field(factory=dict)
    is_down: bool = False

    async def down(self, seconds: float) -> None:
        self.is_down = True
        await asyncio.sleep(seconds)
        self.is_down = False


class LeasedRows:
    """How one process sees it."""

    name = "memory"

    def __init__(self, store: LeasedStore) -> None:
        self._store = store
        self.is_cut_off = False

    async def load(self, name: str) -> StoredCheckpoint:
        row = self._row(name)
        return StoredCheckpoint(row.epoch, row.text, len(row.text))

    async def acquire(self, name: str, lease: float, *, watched: bool) -> StoredCheckpoint:
        row = self._row(name)
        if lease and row.until is not None:
            left = row.until - asyncio.get_running_loop().time()
            if left > 0 or not watched:
                return StoredCheckpoint(row.epoch, held=left)
        row.epoch += 1
        self._renew(row, lease)
        return StoredCheckpoint(row.epoch, row.text, len(row.text))

    async def save(self, name: str, text: str, epoch: int, number: int, lease: float) -> bool:
        row = self._row(name)
        if row.epoch > epoch:
            return False
        row.epoch, row.text = epoch, text.encode()
        self._renew(row, lease)
        return True

    async def renew(self, name: str, epoch: int, lease: float) -> bool:
        row = self._row(name)
        if row.epoch == epoch:
            self._renew(row, lease)
        return row.epoch <= epoch

    async def release(self, name: str, epoch: int) -> None:
        await self.renew(name, epoch, 0.0)

    async def close(self) -> None:
        """It has no connections."""

    def forget_connections(self) -> None:
        """It has no connections."""

    def _row(self, name: str) -> Row:
        if self._store.is_down or self.is_cut_off:
            raise StoreFailedError("it is down")
        return self._store.rows.setdefault(name, Row())

    def _renew(self, row: Row, lease: float) -> None:
        row.until = asyncio.get_running_loop().time() + lease if lease else None


def leased(store: LeasedStore, lease: float = 10.0) -> SharedCheckpoints:
    """Return the checkpoints of a store, as another process has them; `_rows.is_cut_off` cuts it off."""
    return SharedCheckpoints(LeasedRows(store), 0.0, lease)
