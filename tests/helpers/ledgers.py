"""Ledgers that fail or are slow."""

from __future__ import annotations

import asyncio
import math

import attrs

from agora_analytics import LedgerError, MemoryLedger


@attrs.define
class FailingLedger:
    """A ledger whose changes raise an error between two moments of virtual time."""

    start: float = math.inf
    end: float = math.inf
    error: type[Exception] = LedgerError
    _ledger: MemoryLedger = attrs.field(factory=MemoryLedger)

    def fail(self) -> None:
        """Fail from now on."""
        self.start, self.end = -math.inf, math.inf

    async def change(self, account, change):
        if self.start <= asyncio.get_running_loop().time() < self.end:
            raise self.error("the disk is full")
        return await self._ledger.change(account, change)

    async def close(self) -> None:
        await self._ledger.close()


@attrs.define
class SlowLedger:
    """A ledger whose changes take 10 ms, as those of a file may."""

    _ledger: MemoryLedger = attrs.field(factory=MemoryLedger)

    async def change(self, account, change):
        await asyncio.sleep(0.01)
        return await self._ledger.change(account, change)

    async def close(self) -> None:
        await self._ledger.close()
