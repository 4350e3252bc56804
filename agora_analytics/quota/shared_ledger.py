"""What the ledgers have in common that hosts share: each is a `SharedLedger` in a store of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from agora_analytics.quota.ledger_state import LedgerState
from agora_analytics.quota.shared_account import SharedAccount, Store
from agora_analytics.quota.store_clock import StoreClock

__all__ = ["SharedLedger"]

T = TypeVar("T")

INHERITED: Final[list[object]] = []
"""What forked children have of their parents; to collect it would close sockets, and stop timers, of both."""


class ConnectedStore(Store, Protocol):
    """A store, and the connections to it."""

    async def close(self) -> None:
        """Close the connections that it opened; it may be used again after it."""

    def forget_connections(self) -> None:
        """Leave the connections alone: they belong to another event loop, or to the parent of a forked process.

        Raises `RuntimeError` in a forked process if they are not the store's to open again.
        """


class SharedLedger:
    """A ledger that processes on many hosts share; `RedisLedger` and `PostgresLedger` say in which store."""

    def __init__(self, store: ConnectedStore) -> None:
        self._store = store
        self._clock = StoreClock()
        self._accounts: dict[str, SharedAccount] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()

    def time(self) -> float:
        """Return UTC seconds by the store's clock; by the host's until the store has answered."""
        return self._clock.now()

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        """Apply a change to the state of an account, whole or not at all, and return its result."""
        self._bind()
        if account not in self._accounts:
            self._accounts[account] = SharedAccount(self._store, account, self._clock)
        return await self._accounts[account].change(change)

    async def close(self) -> None:
        """End the leases and close the connections; may be called twice, and the ledger may be used again after it."""
        self._bind()
        try:
            # A request that ends meanwhile may open its account again.
            while self._accounts:
                accounts, self._accounts = self._accounts, {}
                await asyncio.gather(*(account.close() for account in accounts.values()))
        finally:
            await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        # A traceback may show one whose constructor has failed.
        name = self._store.name if hasattr(self, "_store") else ""
        return f"{type(self).__name__}({name!r})"

    def _bind(self) -> None:
        """Start again in another loop or process: leases and connections belong to those in which they were opened."""
        loop, process = asyncio.get_running_loop(), os.getpid()
        if self._loop is loop and self._process == process:
            return
        self._store.forget_connections()
        if self._process != process:
            INHERITED.append(self._accounts)
        self._loop, self._process, self._accounts = loop, process, {}
