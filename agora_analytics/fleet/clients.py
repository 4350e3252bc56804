"""The clients of a worker: one for each account that it has jobs of, all on shared connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import attrs

from agora_analytics._core.futures import uncancellable
from agora_analytics._core.transport import AiohttpTransport, Credentials, SharedConnections
from agora_analytics.client import AnalyticsClient
from agora_analytics.fleet.description import Account
from agora_analytics.protocols import CheckpointStore, Ledger, RequestObserver

_IDLE: Final = 300.0
"""Seconds after its last job in which a client stays open: turns follow each other, and jobs move to and fro."""

log = logging.getLogger("agora_analytics.fleet")


@attrs.define
class _Open:
    client: AnalyticsClient
    users: int = 0
    idle_since: float = 0.0
    is_forgotten: bool = False


class ClientPool:
    """Opens the client of an account at its first job, and closes it a while after the last."""

    def __init__(
        self, ledger: Ledger, checkpoints: CheckpointStore, observers: tuple[RequestObserver, ...] = ()
    ) -> None:
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._observers = observers
        # Hundreds of accounts ask the same two hosts: with connections of its own, each would hold some open.
        self._connections = SharedConnections()
        self._open: dict[str, _Open] = {}

    @asynccontextmanager
    async def client(self, account: Account) -> AsyncIterator[AnalyticsClient]:
        """Lend the client of an account; raises `ValueError` if its secrets cannot be read."""
        opened = self._open.get(account.name)
        if opened is None:
            opened = self._open[account.name] = _Open(self._made(account))
        opened.users += 1
        try:
            yield opened.client
        finally:
            opened.users -= 1
            opened.idle_since = asyncio.get_running_loop().time()
            if opened.is_forgotten and not opened.users:
                await opened.client.close()

    def _made(self, account: Account) -> AnalyticsClient:
        customer_id = account.customer_id.read()
        credentials = Credentials(customer_id, account.customer_secret.read())
        return AnalyticsClient(
            customer_id,
            "unused",  # by a client whose transport has the credentials
            plan=account.plan,
            base_url=account.base_url,
            transport=AiohttpTransport(credentials, hosts=account.base_url, shared=self._connections),
            ledger=self._ledger,
            checkpoints=self._checkpoints,
            observers=self._observers,
        )

    async def forget(self, account: str) -> None:
        """Let the next job of an account open another client: the credentials were refused, and may be new.

        The client is closed once no job uses it.
        """
        opened = self._open.pop(account, None)
        if opened is None:
            return
        opened.is_forgotten = True
        if not opened.users:
            await opened.client.close()

    async def close_idle_forever(self) -> None:
        """Close clients when nobody has used them for a while."""
        while True:
            await asyncio.sleep(_IDLE / 10)
            await self._close_idle()

    async def _close_idle(self) -> None:
        before = asyncio.get_running_loop().time() - _IDLE
        for name, opened in list(self._open.items()):
            # Looked at only now: while the one before was closed, a job may have come for this one.
            if not opened.users and opened.idle_since < before and self._open.get(name) is opened:
                del self._open[name]
                await opened.client.close()

    async def close(self) -> None:
        """Close all clients, and their connections."""
        opened, self._open = self._open, {}
        await uncancellable(self._close_all([one.client for one in opened.values()]))

    async def _close_all(self, clients: Iterable[AnalyticsClient]) -> None:
        # At once: each may wait a second for a store that does not answer.
        try:
            found = await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)
        finally:
            await self._connections.close()
        errors = [error for error in found if error is not None]
        for error in errors[1:]:
            log.warning("a client was not closed: %s", error)
        if errors:
            raise errors[0]
