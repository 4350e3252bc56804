"""What is left of the time that was to be read: the service forgets its oldest end while a consumer works.

A search of all that a plan keeps takes as long as its consumer, so the start of its span may be too old by the time it
is asked for. It moves on then, and what was lost is told, rather than that the service refuses the rest as well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from agora_analytics._core.dispatcher import NothingToAskError, Session
from agora_analytics.errors import PlanRefused
from agora_analytics.models import Answer, BadRow, Found
from agora_analytics.plans import Endpoint
from agora_analytics.spans import Span, merged

__all__ = ["Results"]

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Answer | None)

_MARGINS: Final = (2, 10, 60)
"""Seconds that a start keeps from what expires, by how often the service refused it even so: a request takes time."""

_SPOTS: Final = 1_000
"""Spots of bad answers that are remembered."""

_LISTS: Final = 64
"""Lists whose spans are remembered: several are read at a time."""

_NEAR: Final = 5
"""Seconds by which an answer may be about another time than was meant, where the host's clock alone was known."""

log = logging.getLogger("agora_analytics")


def moved(span: Span, ahead: float | None) -> Span:
    """Return a span by the service's clock, where the host's is known to be ahead by so much."""
    by = -math.ceil(ahead or 0.0)
    return Span(max(span.start + by, 0), max(span.end + by, 1))


class SpentError(NothingToAskError):
    """As many requests were sent as there may be."""


class Kept:
    """Spans as they can still be asked for when their requests are sent.

    The start of those that are `moves_on` is cut to what is still kept. Those that are `by_host` are moved by as much
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
        session: Session,
        endpoint: Endpoint,
        *,
        by_host: bool,
        moves_on: bool,
        most: int | None = None,
        ends: bool = False,
    ) -> None:
        self._session = session
        self._ends = ends and session.time.steady_host_ahead() is None
        self._newest: int | None = None
        self._settled: dict[Span, Span] = {}
        self._most = most
        self._attempts = 0
        self._by_host = by_host and session.time.steady_host_ahead() is None
        self._ahead: float | None = None
        self._moves_on = moves_on
        self._limits = session.plan.of_endpoint(endpoint)
        self._refusals = 0
        self._told = False
        self.missing: tuple[Span, ...] = ()
        self.requests = 0
        self.narrowed = 0
        self.exhausted = False
        self.skipped: tuple[BadRow, ...] = ()

    def left(self, span: Span) -> Span:
        """Return what can still be asked for of a span, for an attempt; raises `NothingToAskError` for nothing."""
        self._check_spent()
        found = self._kept_of(self.moved(span))
        self._attempts += 1
        return found

    def _kept_of(self, span: Span) -> Span:
        if self._newest is not None and span.start >= self._newest:
            raise NothingToAskError
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

    def _check_spent(self) -> None:
        """Raise `SpentError` where no further attempt may be made."""
        if self._most is not None and self._attempts >= self._most:
            self.exhausted = True
            raise SpentError

    async def ask(self, fetch: Callable[[], Awaitable[AnswerT]], span: Span, gone: AnswerT) -> AnswerT:
        """Return what `fetch` gets of `left(span)`, or `gone` where that is nothing.

        It is asked again where it was refused as too old, or turns out to have been about another time than was meant.
        """
        while True:
            asked = self.moved(span)
            self._check_spent()  # before it waits for quota
            before, self.requests = self._attempts, self.requests + 1
            try:
                answer = await fetch()
            except NothingToAskError as nothing:
                self.requests -= self._attempts == before  # a further attempt may be what was not made
                if isinstance(nothing, SpentError):
                    raise
                return gone
            except PlanRefused as error:
                if self.moved(span) != asked and error.kind in {"latency", "range"}:
                    continue
                if error.kind != "range" or not self._give_way(span):
                    raise
            else:
                if abs(self.moved(span).start - asked.start) <= _NEAR:
                    self._settle(span, asked)
                    return self.took(answer)
                log.info("the host's clock is %.0f s ahead: what was asked for is asked again", self._ahead or 0.0)

    def _settle(self, span: Span, asked: Span) -> None:
        """Leave a span where it was asked for: its other pages are of the same list, or rows slip between them."""
        if self._by_host or self._ends:
            self._settled[span] = asked
            if len(self._settled) > _LISTS:
                del self._settled[next(iter(self._settled))]

    def moved(self, span: Span) -> Span:
        """Return a span by the service's clock, as soon as that is known; it stays where it is then."""
        if span in self._settled:
            return self._settled[span]
        if self._by_host and self._ahead is None:
            self._ahead = self._session.time.steady_host_ahead()
        if self._ends and self._newest is None and self._session.time.steady_host_ahead() is not None:
            self._newest = self._limits.newest(self._session.time.utc_second())
        if self._newest is not None and span.start < self._newest < span.end:
            return Span(span.start, self._newest)
        return span if self._ahead is None else moved(span, self._ahead)

    def _oldest(self) -> int | None:
        """Return the first second that is asked for, None for any: a clock that is in doubt gives nothing up."""
        if not self._moves_on or not (self._session.time.confirmed or self._refusals):
            return None
        return self._limits.oldest(self._session.time.utc_second()) + _MARGINS[self._refusals]

    def _give_way(self, span: Span) -> bool:
        """Keep further away from what expires; return whether that asks for less than was refused, and not for nothing.

        Nothing of a span that was refused is an error: whoever asks for a time that is over has made a mistake.
        """
        before = self._oldest()
        if not self._moves_on or self._refusals + 1 == len(_MARGINS):
            return False
        self._refusals += 1
        now = self._oldest() or 0
        asked = self.moved(span)
        return asked.start < now < asked.end and (before is None or now > before)

    def took(self, answer: AnswerT) -> AnswerT:
        """Note what of an answer was skipped, and return it."""
        if answer is not None and answer.skipped:
            self.skipped = (*self.skipped, *answer.skipped)[:_SPOTS]
        return answer

    def found(self, items: Iterable[T]) -> Found[T]:
        """Return items with what is to be told of them."""
        return Found(items, missing=self.missing, skipped=self.skipped)

    def lose(self, *spans: Span) -> None:
        """Note spans that cannot be asked for."""
        self.missing = merged((*self.missing, *spans))


class Results(AsyncGenerator[T, None], Generic[T]):
    """What is found, item by item, and what it took; all that is told is told as far as was read."""

    def __init__(self, items: AsyncGenerator[T], kept: Kept) -> None:
        self._items = items
        self._kept = kept

    @property
    def missing(self) -> tuple[Span, ...]:
        """Spans that were too old or too young when their turn came, in order of time; empty where all could be had."""
        return self._kept.missing

    @property
    def requests(self) -> int:
        """Requests that were made so far, the one for the next page among them; one that was sent again counts once."""
        return self._kept.requests

    @property
    def narrowed(self) -> int:
        """Those of the requests that were made since the service cut a list off, for the rest of it."""
        return self._kept.narrowed

    @property
    def exhausted(self) -> bool:
        """Whether it ended since `max_requests` allowed no more, though there was more to ask for."""
        return self._kept.exhausted

    @property
    def skipped(self) -> tuple[BadRow, ...]:
        """Spots of the answers that do not fit the reference, the first thousand; the rows there are left out."""
        return self._kept.skipped

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
