"""Throttling of repeated messages: the first one is shown, later ones are counted and summarized."""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics.cli.formatting import format_duration, format_number

# An outage logs something every few seconds for days: the log stays readable, and shows that it lasts.
_MIN_INTERVAL: Final = 60.0
_MAX_INTERVAL: Final = 3_600.0


@attrs.define
class ReminderInterval:
    """Intervals between reminders of the same condition: they double from one minute up to one hour."""

    started: float
    length: float = _MIN_INTERVAL
    last: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.last = self.started

    @property
    def due(self) -> float:
        """When the next reminder is due."""
        return self.last + self.length

    def restart(self, now: float) -> None:
        """Record a reminder at `now` and double the interval."""
        self.last, self.length = now, min(2 * self.length, _MAX_INTERVAL)


@attrs.define
class _Repeated:
    """One kind of message: when it was seen, and how many were suppressed since it was shown."""

    interval: ReminderInterval
    seen: float
    suppressed: int = 0
    newest: str = ""


class MessageThrottle:
    """Decides which messages to show; times are seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Repeated] = {}

    def add(self, kind: str, message: str, now: float) -> list[str]:
        """Return the messages to show now; empty if this one is only counted.

        A kind that was silent for two intervals starts again: its next message is shown at once.
        """
        known = self._kinds.get(kind)
        if known is None or now - known.seen > 2 * known.interval.length:
            # What was counted and never shown belongs to the trouble before.
            left = self._summary(known) if known else []
            self._kinds[kind] = _Repeated(ReminderInterval(now), now)
            return [*left, message]
        known.seen = now
        if now < known.interval.due:
            known.suppressed, known.newest = known.suppressed + 1, message
            return []
        shown = f"{message}{_count(known.suppressed, now - known.interval.last)}"
        known.suppressed = 0
        known.interval.restart(now)
        return [shown]

    def flush(self) -> list[str]:
        """Return a summary of everything that was counted but not shown."""
        return [line for known in self._kinds.values() for line in self._summary(known)]

    @staticmethod
    def _summary(known: _Repeated) -> list[str]:
        if not known.suppressed:
            return []
        return [f"{known.newest}{_count(known.suppressed - 1, known.seen - known.interval.last)}"]


def _count(suppressed: int, seconds: float) -> str:
    return f" (and {format_number(suppressed)} more like it in {format_duration(seconds)})" if suppressed else ""
