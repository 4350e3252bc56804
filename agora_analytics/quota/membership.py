"""A process as a member of an account in a shared store: it asks again while the store cannot be reached."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from agora_analytics._core.shared_store import StoreFailedError
from agora_analytics.quota.ledger_store import LEASE, Exchange, Store, StoreAnswer
from agora_analytics.quota.store_clock import StoreClock, elapsed

T = TypeVar("T")

_LEAVE_PATIENCE: Final = 1.0
_OUTAGE: Final = 0.5
"""Seconds without an answer after which a call that is given up counts as an outage."""

_RETRY_PAUSE: Final = 0.05
"""Seconds between two attempts to reach the store."""

log = logging.getLogger("agora_analytics.quota")


class Membership:
    """A process as a member of one account; times are seconds of `elapsed`. Who calls it sets a time limit.

    Attributes:
        processes: how many members the account had by the last answer.
        lost: those of them whose lease has ended, to be buried.
        renewed_at: when the store answered last.
        recovered_at: when it did after an outage, minus infinity for never.
        failures: how many calls have failed; some may have been carried out.
        reason: why the last one failed, empty after an answer.

    """

    def __init__(self, store: Store, account: str, clock: StoreClock) -> None:
        self._store = store
        self._account = account
        self._clock = clock
        self._member = ""
        self._is_reachable = True
        self._reachable_since = self.renewed_at = elapsed()
        self.recovered_at = -math.inf
        self.processes = 1
        self.lost: tuple[str, ...] = ()
        self.failures = 0
        self.reason = ""

    @property
    def is_member(self) -> bool:
        """Whether the store knows this process, as far as it has said."""
        return bool(self._member)

    @property
    def slot(self) -> int:
        """The number of this process among the members."""
        return slot_of(self._member)

    async def join(self) -> None:
        """Become a member."""
        name, was_reachable = secrets.token_hex(4), self._is_reachable
        self._member, _ = await self._reach(lambda: self._store.join(self._account, name))
        # No outage, as far as it is known: a connection that was idle for long may be closed.
        self._is_reachable, self.reason = was_reachable, ""

    async def exchange(self, exchange: Exchange) -> StoreAnswer:
        """Exchange states with the store, which renews the lease; after it `is_member` may be False.

        After an outage it only looks: the store may have gone back to an older state.
        """

        def call() -> Awaitable[StoreAnswer]:
            asked = exchange if self._is_reachable else exchange._replace(body=None, buried=())
            return self._store.exchange(self._account, self._member, asked)

        answer, sent = await self._reach(call)
        received = self.renewed_at = elapsed()
        if self._clock.observe(sent, received, answer.now):
            log.warning("the clock of the quota ledger was set, or another host has taken over: it is learned again")
        self.processes = max(1, answer.members)
        if not self._is_reachable:
            self._is_reachable, self.reason = True, ""
            self._reachable_since = self.recovered_at = received
        # After an outage of the store all leases have ended: the others get the time to renew theirs.
        patient = received > self._reachable_since + LEASE
        self.lost = tuple(member for member in answer.lost if member != self._member) if patient else ()
        if not answer.member:
            self._member = ""
        return answer

    async def leave(self, *, is_used: bool) -> None:
        """End the membership, unless it `is_used`: then the lease ends by itself, and another reclaims what it has."""
        # Forgotten first: a change that comes meanwhile joins again.
        member, self._member = self._member, ""
        if not member or not self._is_reachable or is_used:
            return
        try:
            async with asyncio.timeout(_LEAVE_PATIENCE):
                await self._store.leave(self._account, member)
        except (StoreFailedError, TimeoutError) as error:
            log.info("the ledger could not be left in order, its lease ends by itself: %s", error)

    async def _reach(self, call: Callable[[], Awaitable[T]]) -> tuple[T, float]:
        """Call the store, and again while it cannot be reached; return its answer, and when it was asked for that."""
        while True:
            sent = elapsed()
            try:
                return await call(), sent
            except StoreFailedError as error:
                self.reason, self._is_reachable = str(error), False
                self.failures += 1
                await asyncio.sleep(_RETRY_PAUSE)
            except asyncio.CancelledError:
                # Many processes may be the reason, too, while the store answers each.
                self._is_reachable = self._is_reachable and elapsed() < sent + _OUTAGE
                raise


def slot_of(member: str) -> int:
    """Return the number of a member among those of its account."""
    return int(member.partition(":")[0])
