"""Looks at the quota and at the streams, and publishes what has changed; it sends no request.

It looks every few seconds while there are viewers. Otherwise nobody waits for a change: it reads the quota once a
minute, for the probes and for those who read the JSON, and again as soon as a viewer comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from agora_analytics.client import AnalyticsClient
from agora_analytics.errors import LedgerError
from agora_analytics.ops.web.budget import ClockView, QuotaView, quota_view, unread
from agora_analytics.ops.web.feed import EventFeed
from agora_analytics.ops.web.feeding import StreamView
from agora_analytics.ops.web.usage import RequestUsage
from agora_analytics.spans import DAY

_EVERY: Final = 1.0
"""Seconds between two looks at the health of the streams, which is in memory."""

_QUOTA_EVERY: Final = 5
"""Rounds between two looks at the quota: with a file it is a transaction."""

_UNSEEN_EVERY: Final = 60.0
"""Seconds between two looks at the quota without viewers."""


class StateMonitor:
    """Keeps the newest quota, and publishes it and the health of a stream when they change."""

    def __init__(
        self,
        client: AnalyticsClient,
        feed: EventFeed,
        usage: RequestUsage,
        streams: Callable[[], Sequence[StreamView]],
        now: Callable[[], float],
    ) -> None:
        self.quota: QuotaView | None = None
        self.clock: ClockView | None = None
        self._client = client
        self._feed = feed
        self._usage = usage
        self._streams = streams
        self._now = now
        self._shown: QuotaView | None = None
        self._known: dict[str, object] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.refresh()
            if self._feed.viewers:
                await self._watch_health()
            else:
                # The next viewer gets the health of each stream: the JSON that it has read may be older or newer.
                self._known.clear()
                await self._feed.wait_for_viewer(_UNSEEN_EVERY)

    async def refresh(self) -> None:
        """Read the quota; an unreadable ledger leaves the numbers as they were."""
        quota = self._client.quota
        try:
            snapshot = await quota.snapshot()
        except LedgerError as error:
            self.quota = unread(self.quota, error, enforced=quota.enforced)
        else:
            last_hour = self._usage.last_hour()
            self.quota = quota_view(snapshot, self._now(), enforced=quota.enforced, last_hour=last_hour)
            self.clock = ClockView.of(snapshot.clock)
        if self.quota.differs(self._shown):
            self._shown = self.quota
            self._feed.publish("quota", self.quota)

    async def current(self) -> QuotaView | None:
        """Return the newest quota, read once more if a new day has begun since."""
        if self._is_of_yesterday():
            await self.refresh()
        return self.quota

    def _is_of_yesterday(self) -> bool:
        """Whether a readable quota is of another day: its numbers are wrong at once, not a little old."""
        quota = self.quota
        return quota is not None and not quota.ledger and (quota.at or 0) // DAY != self._now() // DAY

    async def _watch_health(self) -> None:
        """Publish what changes until the next look at the quota."""
        for _ in range(_QUOTA_EVERY):
            self._publish_health()
            await asyncio.sleep(_EVERY)
            # A day that was spent is full again at midnight, and not some seconds later.
            if self._is_of_yesterday():
                return

    def _publish_health(self) -> None:
        for view in self._streams():
            health = view.health
            # Without the lag and the newest window, which every poll changes, and which the page has from the windows.
            shown = (health.state, health.until, health.failures > 0, health.last_error, view.error, view.restarts_at)
            if self._known.get(view.name) != shown:
                self._known[view.name] = shown
                self._feed.publish("stream", view)
