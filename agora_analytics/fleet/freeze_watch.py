"""Notices that the process stood still for so long that others may have its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agora_analytics.fleet.queue import REDELIVERY
from agora_analytics.quota.store_clock import elapsed

_EVERY: Final = 0.2

_LONGEST: Final = REDELIVERY * 3 / 4
"""Seconds after which leases may be over: docket renews them four times in their length."""


class FreezeWatch:
    """Calls `thawed` once the process goes on, before anything else that became due meanwhile.

    A process may be stopped, and a host may sleep. Streams whose polls became due meanwhile would all send them as it
    goes on, beside their successors. Where all clocks of the host stand still, as in a virtual machine that is paused,
    nothing is noticed.
    """

    def __init__(self, thawed: Callable[[], object]) -> None:
        self._thawed = thawed
        self._seen = elapsed()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_EVERY, self._look)

    def stop(self) -> None:
        """End it."""
        self._timer.cancel()

    def _look(self) -> None:
        seen, self._seen = self._seen, elapsed()
        self._timer = self._loop.call_later(_EVERY, self._look)
        if self._seen - seen > _LONGEST:
            self._thawed()
