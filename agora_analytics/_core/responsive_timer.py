"""A timer that does not blame a peer for what this process was too busy to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_STEPS: Final = 10


class ResponsiveTimer:
    """Calls `callback` after `seconds` in which the event loop could have read an answer, unless it is cancelled.

    The time runs in ten steps. A step that comes late, as the loop was held or had too much to do, counts as one: an
    answer may have come meanwhile, and nobody was there to read it.
    """

    def __init__(self, seconds: float, callback: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._step = seconds / _STEPS
        self._left = _STEPS
        self._callback = callback
        self._next = self._loop.call_later(self._step, self._count)

    def cancel(self) -> None:
        """Stop the timer."""
        self._next.cancel()

    def _count(self) -> None:
        self._left -= 1
        if self._left:
            self._next = self._loop.call_later(self._step, self._count)
        else:
            self._callback()
