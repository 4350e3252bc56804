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

from agora_analytics._core.dispatcher import Dispatcher
from agora_analytics.errors import PlanRefused
from agora_analytics.export.fetch.fetcher import EDGE, Asking, TooOldError
from agora_analytics.plans import Endpoint

_MARGINS: Final = (1, 8, 64, 512, 4_096, 32_768, 262_144)
"""Seconds beyond what the plan keeps at which the service is asked, one after the other until it refuses."""

_STEP: Final = 60
"""Seconds by which the next question is later, where the service keeps less than the plan says."""


class Question(NamedTuple):
    """A small request about the time from `start` on."""

    start: int
    ask: Callable[[], Awaitable[object]]


class Expiry:
    """Remembers, for one run, what the service has refused as too old."""

    def __init__(self, session: Dispatcher, asking: Asking) -> None:
        self._session = session
        self._ask = asking
        # By table: the latest start that was refused, less the loop's time at which it was.
        self._edges: dict[str, float] = {}
        self._tried: dict[str, int] = {}
        self._lock = asyncio.Lock()

    async def check(self, endpoint: Endpoint, start: int, about: Callable[[int], Question]) -> None:
        """Raise `TooOldError` where what begins at `start` is gone; `about` makes a question about a second."""
        if not self._suspect(endpoint, start):
            return
        async with self._lock:
            while self._suspect(endpoint, start) and not self._gone(endpoint, start):
                margin = self._margin(endpoint)
                if margin is None or start > self._oldest(endpoint) - margin:
                    return
                await self._try(endpoint, about(self._oldest(endpoint) - margin))
        if self._gone(endpoint, start):
            raise TooOldError

    def refused(self, endpoint: Endpoint, start: int) -> int:
        """Note that the service refused a start as too old, and return the first one worth asking about next."""
        known, now = self._gone(endpoint, start), self._session.quota.now()
        edge = self._edges[endpoint.table] = max(self._edges.get(endpoint.table, -math.inf), start - now)
        gone_by = self._oldest(endpoint) - start
        if known or (gone_by > 0 and self._session.confirmed and not self._tried.get(endpoint.table)):
            return int(edge + now) + 1 + EDGE  # where that is gone too, the next check finds out by how much
        return start + max(_STEP, gone_by // 4)

    def _suspect(self, endpoint: Endpoint, start: int) -> bool:
        """Whether it is gone by the clock; one that is not confirmed says nothing."""
        return self._gone(endpoint, start) or (start < self._oldest(endpoint) and self._session.confirmed)

    def _gone(self, endpoint: Endpoint, start: int) -> bool:
        """Whether it is gone by what the service said."""
        edge = self._edges.get(endpoint.table)
        return edge is not None and start <= edge + self._session.quota.now()

    def _oldest(self, endpoint: Endpoint) -> int:
        return self._session.plan.of_endpoint(endpoint).oldest(self._session.now())

    def _margin(self, endpoint: Endpoint) -> int | None:
        tried = self._tried.get(endpoint.table, 0)
        return _MARGINS[tried] if tried < len(_MARGINS) else None

    async def _try(self, endpoint: Endpoint, question: Question) -> None:
        try:
            await self._ask(question.ask)
        except TooOldError:
            self.refused(endpoint, question.start)
            return
        except PlanRefused as error:
            if error.kind != "latency":
                raise
        self._tried[endpoint.table] = self._tried.get(endpoint.table, 0) + 1
