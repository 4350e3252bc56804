"""A ledger at a distance, on virtual time: stored bytes, compare-and-set, latency, and a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import attrs

from agora_analytics import LedgerError
from agora_analytics.quota import LedgerState, decode

T = TypeVar("T")


@attrs.define
class Store:
    """What ledgers of several processes share. `ahead` is the lead of its clock over the loop's."""

    ahead: float = 1_795_521_600.0
    latency: float = 0.0
    failing: bool = False
    tried: int = 0
    stored: bytes = b""
    writes: int = 0
    trips: int = 0
    conflicts: int = 0
    slots: int = 0

    async def exchange(self, expected: bytes, new: bytes) -> bytes | None:
        """Replace the expected state by a new one; return None, or the state that is there instead."""
        self.tried += 1
        await asyncio.sleep(self.latency / 2)
        if self.failing:
            raise LedgerError("the store is gone")
        self.trips += 1
        found = self.stored
        if found == expected:
            self.writes += new != expected
            self.stored = new
        await asyncio.sleep(self.latency / 2)
        return None if found == expected else found


@attrs.define
class DistantLedger:
    """One process's access to a store. A change runs again whenever another process was faster."""

    store: Store
    runs: int = 0
    _known: bytes = b""
    _slot: int = attrs.field(init=False)
    _turn: asyncio.Lock = attrs.field(factory=asyncio.Lock)

    def __attrs_post_init__(self) -> None:
        self._slot = self.store.slots
        self.store.slots += 1

    def time(self) -> float:
        return asyncio.get_running_loop().time() + self.store.ahead

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        work = asyncio.ensure_future(self._apply(change))
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            work.exception()
            raise cancelled
        return work.result()

    async def _apply(self, change: Callable[[LedgerState], T]) -> T:
        async with self._turn:
            fresh = False
            while True:
                state = decode(self._known) if self._known else LedgerState()
                state.process_slot, state.processes = self._slot, self.store.slots
                self.runs += 1
                result = change(state)
                encoded = state.encode()
                if fresh and encoded == self._known:
                    return result  # nothing to store, by a state that is as new as the last answer
                newer = await self.store.exchange(self._known, encoded)
                if newer is None:
                    self._known = encoded
                    return result
                self._known, self.store.conflicts, fresh = newer, self.store.conflicts + 1, True

    async def close(self) -> None:
        """Nothing is open."""
