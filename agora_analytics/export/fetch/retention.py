"""What the service keeps no longer, known from its own refusals: no clock alone makes an export leave anything out.

A refusal of a span that begins at S says that all that begins at S or before is gone, then and for ever, and as seconds
pass, as many more are gone. When the clock says that something is gone which no refusal has covered yet, the service is
asked about the youngest second of which the clock says so. One refusal then covers all that is older, so a run asks
once for each table of the plan. If that second is still there, the service keeps more than the plan says, or the clock
is wrong: ever older seconds are tried, and what lies between them is asked for as if it were there.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from agora_analytics._core.dispatcher import Session
from agora_analytics.errors import PlanRefused
from agora_analytics.export.fetch.fetcher import RETENTION_MARGIN, RetentionExpired, RetryingFetcher
from agora_analytics.plans import Endpoint

_PROBE_OFFSETS: Final = (1, 8, 64, 512, 4_096, 32_768, 262_144)
"""Seconds beyond what the plan keeps at which the service is asked, one after the other until it refuses."""

_SKIP_AHEAD: Final = 60
"""Seconds by which the next question is later, where the service keeps less than the plan says."""


class Probe(NamedTuple):
    """A small request about the time from `start` on."""

    start: int
    ask: Callable[[], Awaitable[object]]


class RetentionTracker:
    """Remembers, for one run, what the service has refused as too old."""

    def __init__(self, session: Session, fetcher: RetryingFetcher) -> None:
        self._session = session
        self._fetcher = fetcher
        # By table: the latest start that was refused, less the loop's time at which it was.
        self._expired_through: dict[str, float] = {}
        self._probes_answered: dict[str, int] = {}
        self._lock = asyncio.Lock()

    async def check(self, endpoint: Endpoint, start: int, about: Callable[[int], Probe]) -> None:
        """Raise `RetentionExpired` where what begins at `start` is gone; `about` makes a question about a second."""
        if not self._may_be_expired(endpoint, start):
            return
        async with self._lock:
            while self._may_be_expired(endpoint, start) and not self._is_expired(endpoint, start):
                margin = self._probe_offset(endpoint)
                if margin is None or start > self._oldest(endpoint) - margin:
                    return
                await self._send_probe(endpoint, about(self._oldest(endpoint) - margin))
        if self._is_expired(endpoint, start):
            raise RetentionExpired

    def record_expired(self, endpoint: Endpoint, start: int) -> int:
        """Note that the service refused a start as too old, and return the first one worth asking about next."""
        known, now = self._is_expired(endpoint, start), self._session.quota.now()
        edge = self._expired_through[endpoint.table] = max(
            self._expired_through.get(endpoint.table, -math.inf), start - now
        )
        gone_by = self._oldest(endpoint) - start
        if known or (gone_by > 0 and self._session.confirmed and not self._probes_answered.get(endpoint.table)):
            return (
                int(edge + now) + 1 + RETENTION_MARGIN
            )  # where that is gone too, the next check finds out by how much
        return start + max(_SKIP_AHEAD, gone_by // 4)

    def _may_be_expired(self, endpoint: Endpoint, start: int) -> bool:
        """Whether it is gone by the clock; one that is not confirmed says nothing."""
        return self._is_expired(endpoint, start) or (start < self._oldest(endpoint) and self._session.confirmed)

    def _is_expired(self, endpoint: Endpoint, start: int) -> bool:
        """Whether it is gone by what the service said."""
        edge = self._expired_through.get(endpoint.table)
        return edge is not None and start <= edge + self._session.quota.now()

    def _oldest(self, endpoint: Endpoint) -> int:
        return self._session.plan.of_endpoint(endpoint).oldest(self._session.now())

    def _probe_offset(self, endpoint: Endpoint) -> int | None:
        tried = self._probes_answered.get(endpoint.table, 0)
        return _PROBE_OFFSETS[tried] if tried < len(_PROBE_OFFSETS) else None

    async def _send_probe(self, endpoint: Endpoint, question: Probe) -> None:
        try:
            await self._fetcher(question.ask)
        except RetentionExpired:
            self.record_expired(endpoint, question.start)
            return
        except PlanRefused as error:
            if error.kind != "latency":
                raise
        self._probes_answered[endpoint.table] = self._probes_answered.get(endpoint.table, 0) + 1
