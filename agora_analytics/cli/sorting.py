"""Sort orders of calls and sessions, and the highest items by an order."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from agora_analytics.cli.parsing import check_choice
from agora_analytics.ops.alerts.ranking import freeze_impact

if TYPE_CHECKING:
    from agora_analytics.models import Call, Session

ItemT = TypeVar("ItemT")

NEWEST: Final = "started"
WORST: Final = "worst"


def call_duration(call: Call) -> float | None:
    """Return how many seconds a call lasted; None if it is still open."""
    # The span ends after the last second of the call.
    return call.span.duration - 1 if call.span else None


def session_duration(session: Session) -> float | None:
    """Return how many seconds a user stayed; None if the user is still in the call."""
    if session.left_at is None or session.joined_at is None:
        return None
    return (session.left_at - session.joined_at).total_seconds()


def _max(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


CALL_ORDERS: Final[dict[str, Callable[[Call], float | None]]] = {
    NEWEST: lambda call: call.created_ts,
    "lasted": call_duration,
    "peak": lambda call: call.call_pcu,
    "average": lambda call: call.call_acu,
    "audio": lambda call: call.call_audio_freeze_rate,
    "video": lambda call: call.call_video_freeze_rate,
    WORST: freeze_impact,
}
"""Sort keys of `calls search`, highest first; a key returns None if the service does not report the value."""

SESSION_ORDERS: Final[dict[str, Callable[[Session], float | None]]] = {
    "joined": lambda session: session.join_ts,
    "stayed": session_duration,
    "audio": lambda session: session.user_audio_freeze_rate,
    "video": lambda session: session.user_video_freeze_rate,
    WORST: lambda session: _max(session.user_audio_freeze_rate, session.user_video_freeze_rate),
}
"""Sort keys of `calls sessions`, highest first."""


def sort_key(orders: dict[str, Callable[[ItemT], float | None]], name: str) -> Callable[[ItemT], float | None]:
    """Return the sort key of `--sort`; raises `ValueError` for an unknown one."""
    check_choice("--sort", name, orders)
    return orders[name]


class TopN(Generic[ItemT]):
    """The `size` items with the highest keys (None: all items); no more than that are in memory."""

    def __init__(self, key: Callable[[ItemT], float | None], size: int | None) -> None:
        self._key = key
        self._size = size
        self._sequence = count()
        self._heap: list[tuple[float, int, ItemT]] = []

    def add(self, item: ItemT) -> None:
        """Add an item and drop the lowest if there are too many; of equal items the first stays."""
        value = self._key(item)
        # The number breaks ties, so that items are never compared.
        entry = (-math.inf if value is None else float(value), -next(self._sequence), item)
        if self._size is None or len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def items(self) -> list[ItemT]:
        """Return the items, highest first; those without a value come last."""
        return [item for _, _, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
