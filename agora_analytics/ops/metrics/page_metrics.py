"""A live page as metrics: who watches it, and what they missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from agora_analytics.ops.metrics.families import Family, Value

PageCounts = Callable[[], tuple[int, int]]
"""Returns the viewers that are connected, and the events that were gone when a viewer came back for them."""

VIEWERS: Final = Family("agora_page_viewers", "Viewers that are connected to the events of the live page.")
MISSED: Final = Family(
    "agora_page_missed_events",
    "Events that were gone when a viewer came back for them: it loaded everything again.",
    "counter",
    "_total",
)

FAMILIES: Final = (VIEWERS, MISSED)


def values(counts: PageCounts) -> Iterator[Value]:
    """Yield the samples."""
    viewers, missed = counts()
    yield Value(VIEWERS, {}, viewers)
    yield Value(MISSED, {}, missed)
