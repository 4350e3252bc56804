"""The `Date` header, fresh or as stale as real servers send it."""

from __future__ import annotations

from email.utils import formatdate

from agora_analytics.simulator.service.variants import DateStyle

_TIMER = 0.5
_TIMER_PHASE = 0.37


class DateHeader:
    """Writes the header of one host; never ahead of its clock."""

    def __init__(self, style: DateStyle) -> None:
        self._style = style
        self._renewed = float("-inf")

    def at(self, now: float, off: float = 0.0) -> str | None:
        """Return the header's text at `now`, `off` seconds beside what is right, or None where there is no header."""
        if self._style == "absent":
            return None
        return formatdate(self._written(now) + off, usegmt=True)

    def _written(self, now: float) -> float:
        """Return when the text sent at `now` was written."""
        if self._style == "timer":
            return (now - _TIMER_PHASE) // _TIMER * _TIMER + _TIMER_PHASE
        if self._style == "exact" or not self._renewed <= now <= self._renewed + 1:
            self._renewed = now
        return self._renewed
