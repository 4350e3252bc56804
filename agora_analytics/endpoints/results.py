"""Results that say what they took and what is missing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Generic, TypeVar

from agora_analytics.endpoints.base import SpanTracker
from agora_analytics.models import BadRow
from agora_analytics.spans import Span

__all__ = ["Results"]

T = TypeVar("T")


class Results(AsyncGenerator[T, None], Generic[T]):
    """An async iterator of items that also reports what it took and what is missing, as far as it was read."""

    def __init__(self, items: AsyncGenerator[T], tracker: SpanTracker) -> None:
        self._items = items
        self._tracker = tracker

    @property
    def missing(self) -> tuple[Span, ...]:
        """Spans that were too old or too young when their turn came, in order of time; empty if nothing is missing."""
        return self._tracker.missing

    @property
    def requests(self) -> int:
        """Requests so far, the one that prefetches the next page included; a retried request counts once."""
        return self._tracker.requests

    @property
    def narrowed(self) -> int:
        """The requests among them that fetched the rest of a list that the service had truncated."""
        return self._tracker.narrowed

    @property
    def exhausted(self) -> bool:
        """Whether it ended early because of `max_requests`."""
        return self._tracker.exhausted

    @property
    def skipped(self) -> tuple[BadRow, ...]:
        """Rows that do not fit the reference and were left out, the first thousand."""
        return self._tracker.skipped

    async def __anext__(self) -> T:
        return await self._items.__anext__()

    async def asend(self, value: None) -> T:
        """Resume the iteration; the value is ignored."""
        return await self._items.asend(value)

    async def athrow(self, *error: Any) -> T:
        """Raise an error where the last item was yielded."""
        return await self._items.athrow(*error)

    async def aclose(self) -> None:
        """Stop, and cancel a page that is being fetched."""
        await self._items.aclose()
