"""Calls of a span of any length, newest first, for at most so many requests.

A search yields the oldest part of a span first, since that expires first. For a person the newest part comes first, so
each part is a search of its own, and has the calls that began in it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Self

import attrs

from agora_analytics.plans import CALL_LISTS
from agora_analytics.spans import HostSecond, Span, by_host, ends_by_host, is_by_host

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.models import Call
    from agora_analytics.quota import QuotaState

_LEAST: Final = 2
"""Requests that a budget has at least: one less shows nothing that could be gone on with."""


@attrs.define
class Budget:
    """Requests for lists of calls: how many there may be (None: not limited), and what the day had left before."""

    client: AnalyticsClient
    most: int | None
    left: int | None
    _before: int

    @classmethod
    async def of(cls, client: AnalyticsClient, most: int | None) -> Self:
        """Return the budget: `most`, and never more than what the day has left."""
        day = await _day(client)
        left = day.left if day else None
        # What the day has left may be nothing: then the search itself says when there is more.
        bounds = [bound for bound in (most, left) if bound is not None and bound >= _LEAST]
        return cls(client, min(bounds, default=None), left, day.used if day else 0)

    async def spent(self) -> int:
        """Return how many requests were counted since, those of other programs included."""
        day = await _day(self.client)
        return max(0, day.used - self._before) if day else 0

    async def rest(self, made: int) -> int | None:
        """Return how many requests may follow the `made` ones, None for any number."""
        return None if self.most is None else max(0, self.most - max(made, await self.spent()))


@attrs.define
class Newest:
    """The calls of a span, newest first; `asked_from` is where what was asked for begins, once it is over."""

    budget: Budget
    span: Span
    cname: str | None
    page_size: int
    asked_from: int = attrs.field(init=False)
    parts_read: int = attrs.field(init=False, default=0)
    _made: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.asked_from = self.span.start

    @property
    def parts(self) -> tuple[Span, ...]:
        """What one request may span each, the newest first."""
        longest = self.budget.client.plan.of_endpoint(CALL_LISTS).longest_query
        ends = range(self.span.end, self.span.start, -longest)
        parts = tuple(Span(max(self.span.start, end - longest), end) for end in ends)
        if ends_by_host(*self.span):
            return tuple(Span(part.start, HostSecond(part.end)) for part in parts)
        return tuple(map(by_host, parts)) if is_by_host(*self.span) else parts

    async def calls(self) -> AsyncGenerator[Call]:
        """Yield each call once, until all are there or the budget is spent."""
        for part in self.parts:
            rest = await self.budget.rest(self._made)
            if rest is not None and rest <= 0:
                self.asked_from = part.end
                return
            async with aclosing(self._part(part, rest)) as found:
                async for call in found:
                    yield call
            if self.asked_from != self.span.start:
                return
            self.parts_read += 1

    async def _part(self, part: Span, most: int | None) -> AsyncGenerator[Call]:
        """Yield the calls that began in a part, for at most so many requests."""
        calls, before, oldest = self.budget.client.calls, self._made, part.end
        found = calls.search(*part, cname=self.cname, page_size=self.page_size, max_requests=most)
        async with aclosing(found):
            async for call in found:
                self._made, oldest = before + found.requests, call.created_ts or oldest
                yield call
        self._made = before + found.requests
        if found.exhausted:
            self.asked_from = oldest


async def _day(client: AnalyticsClient) -> QuotaState | None:
    """Return the day's state of the counter for lists of calls; None where the plan has no such limit."""
    counter = client.plan.counter(CALL_LISTS)
    states = (await client.quota.snapshot()).states
    return next((one for one in states if (one.counter, one.unit) == (counter, "day")), None)
