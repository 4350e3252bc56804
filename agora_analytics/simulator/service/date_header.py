"""The `Date` header, exact or as stale as real servers send it."""

from __future__ import annotations

from email.utils import formatdate

from agora_analytics.simulator.service.variants import DateStyle

_TIMER_PERIOD = 0.5
# Within a half second: a timer that fires on whole seconds would make an exact header.
_TIMER_PHASE = 0.37


class DateHeader:
    """Formats the `Date` header of one host; by itself never ahead of the host's clock."""

    def __init__(self, style: DateStyle) -> None:
        self._style = style
        self._last_update = float("-inf")

    def at(self, now: float, off: float = 0.0) -> str | None:
        """Return the header at `now` (UTC seconds), wrong by `off` seconds, or None if the style has no header."""
        if self._style == "absent":
            return None
        return formatdate(self._updated_at(now) + off, usegmt=True)

    def _updated_at(self, now: float) -> float:
        """Return the time at which the header sent at `now` was last updated."""
        if self._style == "timer":
            return (now - _TIMER_PHASE) // _TIMER_PERIOD * _TIMER_PERIOD + _TIMER_PHASE
        # Also when `now` is earlier, as after a test has set the clock back.
        if self._style == "exact" or not self._last_update <= now <= self._last_update + 1:
            self._last_update = now
        return self._last_update
