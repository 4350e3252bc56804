"""What is left of the time that was to be read: the service forgets its oldest end while a consumer works.

A search of all that a plan keeps takes as long as its consumer, so the start of its span may be too old by the time it
is asked for. It moves on then, and what was lost is told, rather than that the service refuses the rest as well.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from agora_analytics._session import NothingToAskError, Session
from agora_analytics.errors import PlanRefused
from agora_analytics.plans import Endpoint
from agora_analytics.spans import Span, merged

T = TypeVar("T")

_MARGINS: Final = (2, 10, 60)
"""Seconds that a start keeps from what expires, by how often the service refused it even so: a request takes time."""

log = logging.getLogger("agora_analytics")


class Kept:
    """Spans as they can still be asked for when their requests are sent."""

    def __init__(self, session: Session, endpoint: Endpoint) -> None:
        self._session = session
        self._limits = session.plan.of_endpoint(endpoint)
        self._refusals = 0
        self._told = False
        self.missing: tuple[Span, ...] = ()

    def left(self, span: Span) -> Span:
        """Return what can still be asked for of a span; raises `NothingToAskError` where that is nothing."""
        oldest = self._oldest()
        if oldest is None or span.start >= oldest:
            return span
        lost = Span(span.start, min(oldest, span.end))
        if not self._told:
            self._told = True
            log.warning("%s is not kept any more before it could be asked for: the rest is read", lost)
        self.lose(lost)
        if oldest >= span.end:
            raise NothingToAskError
        return Span(oldest, span.end)

    async def ask(self, fetch: Callable[[], Awaitable[T]], span: Span, gone: T) -> T:
        """Return what `fetch` gets of `left(span)`, again where that was refused as too old, or `gone`."""
        while True:
            try:
                return await fetch()
            except NothingToAskError:
                return gone
            except PlanRefused as error:
                if error.kind != "range" or not self._give_way(span):
                    raise

    def _oldest(self) -> int | None:
        """Return the first second that is asked for, None for any: a clock that is in doubt gives nothing up."""
        if not (self._session.confirmed or self._refusals):
            return None
        return self._limits.oldest(self._session.now()) + _MARGINS[self._refusals]

    def _give_way(self, span: Span) -> bool:
        """Keep further away from what expires, and return whether that asks for less than what was refused."""
        before = self._oldest()
        if self._refusals + 1 == len(_MARGINS):
            return False
        self._refusals += 1
        now = self._oldest() or 0
        return now > span.start and (before is None or now > before)

    def lose(self, *spans: Span) -> None:
        """Note spans that cannot be asked for."""
        self.missing = merged((*self.missing, *spans))


class Results(AsyncGenerator[T, None], Generic[T]):
    """What is found, item by item; `missing` says of which time nothing could be asked for, as far as was read."""

    def __init__(self, items: AsyncGenerator[T], kept: Kept) -> None:
        self._items = items
        self._kept = kept

    @property
    def missing(self) -> tuple[Span, ...]:
        """Spans that were too old or too young when their turn came, in order of time; empty where all could be had."""
        return self._kept.missing

    async def __anext__(self) -> T:
        return await self._items.__anext__()

    async def asend(self, value: None) -> T:
        """Go on; what is sent goes nowhere."""
        return await self._items.asend(value)

    async def athrow(self, *error: Any) -> T:
        """Raise an error where the last item was yielded."""
        return await self._items.athrow(*error)

    async def aclose(self) -> None:
        """End now, with a page that is on its way."""
        await self._items.aclose()
