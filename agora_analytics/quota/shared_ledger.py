"""What the ledgers have in common that hosts share: each is a `SharedLedger` in a store of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from agora_analytics._core.futures import uncancellable
from agora_analytics._core.shared_store import Connections, SharedStore
from agora_analytics.quota.ledger_state import LedgerState
from agora_analytics.quota.ledger_store import Store
from agora_analytics.quota.shared_account import SharedAccount
from agora_analytics.quota.store_clock import StoreClock

__all__ = ["SharedLedger"]

_ROUNDS: Final = 5
"""How often a close looks for accounts that were opened again meanwhile."""

T = TypeVar("T")


class ConnectedStore(Store, Connections, Protocol):
    """A store, and the connections to it."""


class SharedLedger(SharedStore):
    """A ledger that processes on many hosts share; `RedisLedger` and `PostgresLedger` say in which store."""

    def __init__(self, store: ConnectedStore) -> None:
        super().__init__(store)
        self._store = store
        self._clock = StoreClock()
        self._accounts: dict[str, SharedAccount] = {}

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
        """End the leases and close the connections; may be called twice, and the ledger may be used again after it.

        Who goes on using it meanwhile opens it again.
        """
        self._bind()
        try:
            await uncancellable(self._close_accounts())
        finally:
            await self._store.close()

    async def _close_accounts(self) -> None:
        # A request that ends meanwhile may open its account again; one who goes on making changes would do so forever.
        for _ in range(_ROUNDS):
            if not self._accounts:
                return
            accounts, self._accounts = self._accounts, {}
            await asyncio.gather(*(account.close() for account in accounts.values()))

    def _reset(self) -> object:
        accounts, self._accounts = self._accounts, {}
        return accounts
