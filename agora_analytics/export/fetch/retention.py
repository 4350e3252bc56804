"""What the service does not keep any more, learned from its own refusals: no clock alone makes an export skip data.

A refusal of a span that begins at S proves that everything that begins at S or earlier has expired, for good; and with
every second that passes, one more second has. When the clock says that a start has expired which no refusal covers yet,
the service is probed at the latest second that should have expired. One refusal covers all that is older, so a run
sends one probe for each table of the plan. If the service still answers, it keeps more than the plan says, or our clock
is wrong: earlier seconds are probed, and what lies between is fetched as if it had not expired.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import PlanRefused
from agora_analytics.export.fetch.fetcher import RETENTION_MARGIN, RetentionExpired, RetryingFetcher
from agora_analytics.plans import Endpoint

# Each eight times as far: seven probes reach three days, whatever the service really keeps.
_PROBE_OFFSETS: Final = (1, 8, 64, 512, 4_096, 32_768, 262_144)
"""Seconds beyond the plan's retention at which the service is probed, one after the other until it refuses."""

_SKIP_AHEAD: Final = 60
"""Seconds to skip before the next request, when the service keeps less than the plan says."""


class Probe(NamedTuple):
    """A minimal request about the time from `start` on."""

    start: int
    send: Callable[[], Awaitable[object]]


class RetentionTracker:
    """Remembers, for one run, what the service has refused as too old."""

    def __init__(self, dispatcher: Dispatcher, fetcher: RetryingFetcher) -> None:
        self._dispatcher = dispatcher
        self._fetcher = fetcher
        # By table: the latest start that was refused, less the loop's time of the refusal.
        self._expired_through: dict[str, float] = {}
        self._probes_answered: dict[str, int] = {}
        self._lock = asyncio.Lock()

    async def check(self, endpoint: Endpoint, start: int, probe_at: Callable[[int], Probe]) -> None:
        """Raise `RetentionExpired` if what begins at `start` has expired; `probe_at` makes a probe of a second."""
        if not self._may_be_expired(endpoint, start):
            return
        # One at a time: all workers that wait here learn from the same probe.
        async with self._lock:
            while self._may_be_expired(endpoint, start) and not self._is_expired(endpoint, start):
                offset = self._probe_offset(endpoint)
                if offset is None or start > self._oldest(endpoint) - offset:
                    return
                await self._send_probe(endpoint, probe_at(self._oldest(endpoint) - offset))
        if self._is_expired(endpoint, start):
            raise RetentionExpired

    def record_expired(self, endpoint: Endpoint, start: int) -> int:
        """Record that the service refused a start as too old, and return the first start to request next."""
        known, now = self._is_expired(endpoint, start), self._dispatcher.time.monotonic()
        latest = max(self._expired_through.get(endpoint.table, -math.inf), start - now)
        self._expired_through[endpoint.table] = latest
        age = self._oldest(endpoint) - start
        if known or (age > 0 and self._dispatcher.time.confirmed and not self._probes_answered.get(endpoint.table)):
            # If that has expired too, the next check finds out by how much.
            return int(latest + now) + 1 + RETENTION_MARGIN
        # The edge is somewhere up to the plan's limit: a quarter of the way at a time, and a minute at least.
        return start + max(_SKIP_AHEAD, age // 4)

    def _may_be_expired(self, endpoint: Endpoint, start: int) -> bool:
        """Whether a start has expired by the clock. One that the service has not confirmed proves nothing."""
        return self._is_expired(endpoint, start) or (start < self._oldest(endpoint) and self._dispatcher.time.confirmed)

    def _is_expired(self, endpoint: Endpoint, start: int) -> bool:
        """Whether a start has expired by a refusal of the service."""
        latest = self._expired_through.get(endpoint.table)
        return latest is not None and start <= latest + self._dispatcher.time.monotonic()

    def _oldest(self, endpoint: Endpoint) -> int:
        return self._dispatcher.plan.of_endpoint(endpoint).oldest(self._dispatcher.time.utc_second())

    def _probe_offset(self, endpoint: Endpoint) -> int | None:
        answered = self._probes_answered.get(endpoint.table, 0)
        return _PROBE_OFFSETS[answered] if answered < len(_PROBE_OFFSETS) else None

    async def _send_probe(self, endpoint: Endpoint, probe: Probe) -> None:
        try:
            await self._fetcher(probe.send)
        except RetentionExpired:
            self.record_expired(endpoint, probe.start)
            return
        # A span that is too recent has not expired.
        except PlanRefused as error:
            if error.kind != "latency":
                raise
        self._probes_answered[endpoint.table] = self._probes_answered.get(endpoint.table, 0) + 1
