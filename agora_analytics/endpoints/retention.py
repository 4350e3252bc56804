"""What is left of the time that was to be read: the service forgets its oldest end while a consumer works.

A search of all that a plan keeps takes as long as its consumer, so the start of its span may be too old by the time it
is asked for. It moves on then, and what was lost is told, rather than that the service refuses the rest as well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from agora_analytics._core.dispatcher import Dispatcher, NothingToFetchError
from agora_analytics.errors import PlanRefused
from agora_analytics.models import Answer, BadRow, Found
from agora_analytics.plans import Endpoint
from agora_analytics.spans import Span, merged

__all__ = ["Results"]

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Answer | None)

_MARGINS: Final = (2, 10, 60)
"""Seconds that a start keeps from what expires, by how often the service refused it even so: a request takes time."""

_MAX_SKIPPED: Final = 1_000
"""Spots of bad answers that are remembered."""

_MAX_PINNED: Final = 64
"""Lists whose spans are remembered: several are read at a time."""

_NEAR: Final = 5
"""Seconds by which an answer may be about another time than was meant, where the host's clock alone was known."""

log = logging.getLogger("agora_analytics")


def moved(span: Span, ahead: float | None) -> Span:
    """Return a span by the service's clock, where the host's is known to be ahead by so much."""
    by = -math.ceil(ahead or 0.0)
    return Span(max(span.start + by, 0), max(span.end + by, 1))


class MaxRequestsReachedError(NothingToFetchError):
    """As many requests were sent as there may be."""


class SpanTracker:
    """Spans as they can still be asked for when their requests are sent.

    The start of those that are `clip_start` is cut to what is still kept. Those that are `by_host` are moved by as much
    as the host's clock proves to be wrong, once that is known; where they only `end` by it, they are cut to the newest.

    Attributes:
        missing: what could not be asked for.
        requests: requests that were made; one that was sent again counts once.
        narrowed: those of them for lists that were asked for again, since the service cut them off.
        skipped: what of the answers does not fit the reference, the first thousand spots.
        exhausted: whether there was more to ask for than `most` attempts can get.

    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        endpoint: Endpoint,
        *,
        by_host: bool,
        clip_start: bool,
        most: int | None = None,
        ends: bool = False,
    ) -> None:
        self._dispatcher = dispatcher
        self._ends = ends and dispatcher.host_ahead() is None
        self._latest_end: int | None = None
        self._pinned: dict[Span, Span] = {}
        self._most = most
        self._attempts = 0
        self._by_host = by_host and dispatcher.host_ahead() is None
        self._ahead: float | None = None
        self._clips_start = clip_start
        self._limits = dispatcher.plan.of_endpoint(endpoint)
        self._refusals = 0
        self._warned = False
        self.missing: tuple[Span, ...] = ()
        self.requests = 0
        self.narrowed = 0
        self.exhausted = False
        self.skipped: tuple[BadRow, ...] = ()

    def clip(self, span: Span) -> Span:
        """Return what can still be asked for of a span, for an attempt; raises `NothingToAskError` for nothing."""
        self._check_budget()
        found = self._clip(self.moved(span))
        self._attempts += 1
        return found

    def _clip(self, span: Span) -> Span:
        if self._latest_end is not None and span.start >= self._latest_end:
            raise NothingToFetchError
        oldest = self._earliest()
        if oldest is None or span.start >= oldest:
            return span
        lost = Span(span.start, min(oldest, span.end))
        if not self._warned:
            self._warned = True
            log.warning("%s is not kept any more before it could be asked for: the rest is read", lost)
        self.add_missing(lost)
        if oldest >= span.end:
            raise NothingToFetchError
        return Span(oldest, span.end)

    def _check_budget(self) -> None:
        """Raise `SpentError` where no further attempt may be made."""
        if self._most is not None and self._attempts >= self._most:
            self.exhausted = True
            raise MaxRequestsReachedError

    async def fetch(self, fetch: Callable[[], Awaitable[AnswerT]], span: Span, default: AnswerT) -> AnswerT:
        """Return what `fetch` gets of `clip(span)`, or `gone` where that is nothing.

        It is asked again where it was refused as too old, or turns out to have been about another time than was meant.
        """
        while True:
            asked = self.moved(span)
            self._check_budget()  # before it waits for quota
            before, self.requests = self._attempts, self.requests + 1
            try:
                answer = await fetch()
            except NothingToFetchError as nothing:
                self.requests -= self._attempts == before  # a further attempt may be what was not made
                if isinstance(nothing, MaxRequestsReachedError):
                    raise
                return default
            except PlanRefused as error:
                if self.moved(span) != asked and error.kind in {"latency", "range"}:
                    continue
                if error.kind != "range" or not self._widen_margin(span):
                    raise
            else:
                if abs(self.moved(span).start - asked.start) <= _NEAR:
                    self._pin(span, asked)
                    return self.record(answer)
                log.info("the host's clock is %.0f s ahead: what was asked for is asked again", self._ahead or 0.0)

    def _pin(self, span: Span, asked: Span) -> None:
        """Leave a span where it was asked for: its other pages are of the same list, or rows slip between them."""
        if self._by_host or self._ends:
            self._pinned[span] = asked
            if len(self._pinned) > _MAX_PINNED:
                del self._pinned[next(iter(self._pinned))]

    def moved(self, span: Span) -> Span:
        """Return a span by the service's clock, as soon as that is known; it stays where it is then."""
        if span in self._pinned:
            return self._pinned[span]
        if self._by_host and self._ahead is None:
            self._ahead = self._dispatcher.host_ahead()
        if self._ends and self._latest_end is None and self._dispatcher.host_ahead() is not None:
            self._latest_end = self._limits.newest(self._dispatcher.now())
        if self._latest_end is not None and span.start < self._latest_end < span.end:
            return Span(span.start, self._latest_end)
        return span if self._ahead is None else moved(span, self._ahead)

    def _earliest(self) -> int | None:
        """Return the first second that is asked for, None for any: a clock that is in doubt gives nothing up."""
        if not self._clips_start or not (self._dispatcher.confirmed or self._refusals):
            return None
        return self._limits.oldest(self._dispatcher.now()) + _MARGINS[self._refusals]

    def _widen_margin(self, span: Span) -> bool:
        """Keep further away from what expires; return whether that asks for less than was refused, and not for nothing.

        Nothing of a span that was refused is an error: whoever asks for a time that is over has made a mistake.
        """
        before = self._earliest()
        if not self._clips_start or self._refusals + 1 == len(_MARGINS):
            return False
        self._refusals += 1
        now = self._earliest() or 0
        asked = self.moved(span)
        return asked.start < now < asked.end and (before is None or now > before)

    def record(self, answer: AnswerT) -> AnswerT:
        """Note what of an answer was skipped, and return it."""
        if answer is not None and answer.skipped:
            self.skipped = (*self.skipped, *answer.skipped)[:_MAX_SKIPPED]
        return answer

    def found(self, items: Iterable[T]) -> Found[T]:
        """Return items with what is to be told of them."""
        return Found(items, missing=self.missing, skipped=self.skipped)

    def add_missing(self, *spans: Span) -> None:
        """Note spans that cannot be asked for."""
        self.missing = merged((*self.missing, *spans))


class Results(AsyncGenerator[T, None], Generic[T]):
    """What is found, item by item, and what it took; all that is told is told as far as was read."""

    def __init__(self, items: AsyncGenerator[T], tracker: SpanTracker) -> None:
        self._items = items
        self._tracker = tracker

    @property
    def missing(self) -> tuple[Span, ...]:
        """Spans that were too old or too young when their turn came, in order of time; empty where all could be had."""
        return self._tracker.missing

    @property
    def requests(self) -> int:
        """Requests that were made so far, the one for the next page among them; one that was sent again counts once."""
        return self._tracker.requests

    @property
    def narrowed(self) -> int:
        """Those of the requests that were made since the service cut a list off, for the rest of it."""
        return self._tracker.narrowed

    @property
    def exhausted(self) -> bool:
        """Whether it ended since `max_requests` allowed no more, though there was more to ask for."""
        return self._tracker.exhausted

    @property
    def skipped(self) -> tuple[BadRow, ...]:
        """Spots of the answers that do not fit the reference, the first thousand; the rows there are left out."""
        return self._tracker.skipped

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
