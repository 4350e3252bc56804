"""A day ledger in memory: right for one process, forgotten with it."""

from __future__ import annotations

from collections import Counter

from agora_analytics.protocols import DayKey


class MemoryLedger:
    """Counts requests per account, counter and UTC day; days long past are forgotten."""

    def __init__(self) -> None:
        self._spent: Counter[DayKey] = Counter()

    async def reserve(self, key: DayKey, limit: int) -> bool:
        """Count one request if fewer than `limit` are counted, and say whether it was."""
        if self._spent[key] >= limit:
            return False
        await self.charge(key)
        return True

    async def charge(self, key: DayKey) -> None:
        """Count one request."""
        if key not in self._spent:
            self._forget(key.day)
        self._spent[key] += 1

    async def release(self, key: DayKey) -> None:
        """Take one reservation back."""
        self._spent[key] = max(0, self._spent[key] - 1)

    async def spent(self, key: DayKey) -> int:
        """Requests counted so far."""
        return self._spent[key]

    async def close(self) -> None:
        """Nothing to close."""

    def _forget(self, today: int) -> None:
        for key in [key for key in self._spent if key.day < today - 1]:
            del self._spent[key]
