"""Which calls come first in a list, and which are in it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agora_analytics.models import Call

Measure = Callable[["Call"], float | None]
"""What a call is sorted by; None where the service does not say it."""

NEWEST: Final = "started"
WORST: Final = "worst"


def freeze_rate(call: Call) -> float | None:
    """Return the higher of a call's audio and video freeze rates."""
    rates = [rate for rate in (call.call_audio_freeze_rate, call.call_video_freeze_rate) if rate is not None]
    return max(rates, default=None)


def frozen_users(call: Call) -> float | None:
    """Return the freeze rate times the most users at once: how bad a call was, and for how many."""
    rate = freeze_rate(call)
    return None if rate is None else rate * (call.call_pcu or 0)


def lasted(call: Call) -> float | None:
    """Return how many seconds a call lasted; None while it goes on."""
    return call.span.duration - 1 if call.span else None


ORDERS: Final[dict[str, Measure]] = {
    NEWEST: lambda call: call.created_ts,
    "lasted": lasted,
    "peak": lambda call: call.call_pcu,
    "average": lambda call: call.call_acu,
    "audio": lambda call: call.call_audio_freeze_rate,
    "video": lambda call: call.call_video_freeze_rate,
    WORST: frozen_users,
}
"""What a list of calls can be sorted by, the highest first."""


class Best:
    """Keeps the calls with the highest values, at most so many: memory does not grow with what is offered."""

    def __init__(self, measure: Measure, most: int) -> None:
        self._measure = measure
        self._most = most
        self._turn = count()
        self._heap: list[tuple[float, int, Call]] = []

    def offer(self, call: Call) -> None:
        """Take a call, and let go of the lowest one where there are too many; of equal ones the first stay."""
        value = self._measure(call)
        entry = (-1.0 if value is None else float(value), -next(self._turn), call)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def calls(self) -> list[Call]:
        """Return them, the highest first; those without a value come last."""
        return [call for _, _, call in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
