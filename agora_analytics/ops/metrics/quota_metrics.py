"""The quota and the service's clock as metrics, from the newest snapshot of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from agora_analytics.ops.metrics.families import Family, Value
from agora_analytics.plans import WINDOWS
from agora_analytics.quota.limiters import Limiters
from agora_analytics.quota.snapshot import QuotaSnapshot, QuotaState

PATIENCE: Final = 0.25
"""Seconds that a scrape waits for a ledger whose lock another process has."""

LIMIT = Family("agora_quota_limit", "Requests that the unit allows.")
USED = Family("agora_quota_used", "Requests charged to the unit, of everyone who shares the ledger.")
LEFT = Family("agora_quota_left", "Requests that could be sent now.")
RESETS = Family(
    "agora_quota_resets_timestamp_seconds", "When the unit ends, or its block by a refusal, by the service's clock."
)
WAITING = Family("agora_quota_waiting", "Requests of this process that wait for the counter.")
REFUSALS = Family("agora_quota_refusals", "Rate-limit errors of the service.", "counter", "_total")
TAKEN = Family("agora_quota_snapshot_timestamp_seconds", "When the quota was read from the ledger.")
UP = Family("agora_ledger_up", "Whether the ledger could be read the last time it was tried.")
OFFSET = Family("agora_clock_offset_seconds", "By how much the service's clock is ahead of this host's, at least.")
ERROR = Family("agora_clock_error_seconds", "By how much more the service's clock may be ahead.")
CONFIRMED = Family("agora_clock_confirmed", "Whether two sources agree on the service's clock.")

FAMILIES: Final = (LIMIT, USED, LEFT, RESETS, WAITING, REFUSALS, TAKEN, UP, OFFSET, ERROR, CONFIRMED)


class QuotaReader:
    """Keeps the newest snapshot of the quota. It belongs to the client's event loop."""

    def __init__(self, limiters: Limiters, account: str) -> None:
        self._limiters = limiters
        self._account = account
        self._snapshot: QuotaSnapshot | None = None
        self._taken = 0.0
        self._ledger_up = True
        self._reading: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Take a snapshot, or leave it to a task if the ledger does not answer soon."""
        self.refresh_now()
        if self._reading is not None:
            # Not `wait_for`, which would cancel the read: the next scrape shows what it brings.
            await asyncio.wait((self._reading,), timeout=PATIENCE)

    def refresh_now(self) -> None:
        """Take a snapshot of a ledger in memory, and start to read any other."""
        if self._limiters.closed:  # a ledger that was closed with the client would open again
            return
        snapshot = self._limiters.snapshot_now()
        if snapshot is not None:
            self._keep(snapshot)
        elif self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    def values(self) -> Iterator[Value]:
        """Yield the samples."""
        account = {"account": self._account}
        yield Value(UP, account, self._ledger_up)
        if self._snapshot is None:
            return
        yield Value(TAKEN, account, self._taken)
        for state in self._snapshot:
            yield from self._unit_values(state, account | {"counter": state.counter, "unit": state.unit})
        # These are counts of a counter, and each of its units repeats them.
        for state in {state.counter: state for state in self._snapshot}.values():
            labels = account | {"counter": state.counter}
            yield Value(REFUSALS, labels, state.refusals)
            for priority, waiting in state.priorities.items():
                yield Value(WAITING, labels | {"priority": priority}, waiting)
        clock = self._snapshot.clock
        yield Value(CONFIRMED, {}, clock is not None and clock.confirmed)
        if clock is not None:
            yield Value(OFFSET, {}, clock.offset)
            yield Value(ERROR, {}, clock.uncertainty)

    def _unit_values(self, state: QuotaState, labels: dict[str, str]) -> Iterator[Value]:
        yield Value(LIMIT, labels, state.limit)
        yield Value(USED, labels, state.used)
        yield Value(LEFT, labels, state.left)
        length = WINDOWS[state.unit]
        yield Value(RESETS, labels, max((self._taken // length + 1) * length, self._taken + state.resets_in))

    async def _read(self) -> None:
        try:
            self._keep(await self._limiters.snapshot())
        except Exception:  # noqa: BLE001 - a ledger of the user's own may raise anything
            self._ledger_up = False
        finally:
            self._reading = None

    def _keep(self, snapshot: QuotaSnapshot) -> None:
        self._snapshot, self._taken, self._ledger_up = snapshot, self._limiters.time.utc(), True
