"""Notices that the process stood still for so long that others may have its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agora_analytics.fleet.queue import REDELIVERY
from agora_analytics.quota.store_clock import elapsed

_CHECK_EVERY: Final = 0.2

_MIN_FREEZE: Final = REDELIVERY * 3 / 4
"""Seconds after which leases may be over: they are renewed four times in their length."""


class FreezeWatch:
    """Calls `thawed` within 0.2 seconds after the process goes on.

    A process may be stopped, and a host may sleep. Streams whose polls became due meanwhile would all send them as it
    goes on, beside their successors. Most of them wake later than `thawed` is called; a few may be first. A freeze in
    which `elapsed` stands still is not noticed: of a virtual machine that is paused, or of macOS that sleeps.
    """

    def __init__(self, thawed: Callable[[], object]) -> None:
        self._thawed = thawed
        self._seen = elapsed()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_CHECK_EVERY, self._look)

    def stop(self) -> None:
        """End it."""
        self._timer.cancel()

    def _look(self) -> None:
        seen, self._seen = self._seen, elapsed()
        self._timer = self._loop.call_later(_CHECK_EVERY, self._look)
        if self._seen - seen > _MIN_FREEZE:
            self._thawed()
