"""A store of a shared ledger's account in memory."""

from __future__ import annotations

import asyncio

from agora_analytics._core.shared_store import StoreFailedError
from agora_analytics.quota.ledger_store import Exchange, StoreAnswer
from agora_analytics.quota.store_clock import elapsed


class MemoryStore:
    """A store in memory that can refuse, or not answer at all."""

    name = "memory"

    def __init__(self) -> None:
        self.refuses = False
        self.hangs = False
        self.loses_answers = False
        self.stored = ("", b"")
        self.exchanges = 0
        self.ahead = 1e9
        self.joined = 0
        self.left: list[str] = []
        self._cut: set[str] = set()
        self._members: set[str] = set()

    async def join(self, account: str, name: str) -> str:
        await self._reach()
        self.joined += 1
        return f"{self.joined - 1}:{name}"

    def crash(self, on_disk: tuple[str, bytes]) -> None:
        """Go back to an earlier state, and cut all connections: what is sent next over each fails."""
        self.stored = on_disk
        self._cut = set(self._members)

    async def exchange(self, account: str, member: str, exchange: Exchange) -> StoreAnswer:
        await self._reach()
        self._members.add(member)
        if member in self._cut:
            self._cut.remove(member)
            raise StoreFailedError("the connection was cut")
        self.exchanges += 1
        tag, body = self.stored
        replaced = tag == exchange.expected and exchange.body is not None
        if replaced:
            self.stored = (exchange.tag, exchange.body)
        if self.loses_answers:
            raise StoreFailedError("the answer was lost")
        body = None if tag == exchange.expected else body
        return StoreAnswer(True, replaced, self.stored[0], body, elapsed() + self.ahead, 1, ())

    async def leave(self, account: str, member: str) -> None:
        await self._reach()
        self.left.append(member)

    async def _reach(self) -> None:
        await asyncio.sleep(0.001)
        if self.hangs:
            await asyncio.sleep(3_600)
        if self.refuses:
            raise StoreFailedError("it refuses")
