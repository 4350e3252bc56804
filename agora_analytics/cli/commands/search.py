"""`agora-analytics calls search`: the newest calls of a span, or the highest by another order.

`client.calls.search` yields the oldest part of a span first, since that expires first. People want the newest part
first, so each part is a search of its own, and has the calls that began in it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Final, Self

import attrs
import typer

from agora_analytics.cli import tables
from agora_analytics.cli.formatting import format_count, format_number, format_percent, format_time
from agora_analytics.cli.options import CredentialOptions, ListOptions, TimeOptions, command, freeze_rate_option, option
from agora_analytics.cli.parsing import completion_of
from agora_analytics.cli.sorting import CALL_ORDERS, NEWEST, WORST, TopN, sort_key
from agora_analytics.ops.alerts.ranking import freeze_rate
from agora_analytics.plans import CALL_LISTS
from agora_analytics.spans import HOUR, HostSecond, Span, by_host, ends_by_host, is_by_host

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient
    from agora_analytics.cli.output import Screen
    from agora_analytics.models import Call
    from agora_analytics.quota import QuotaState

_DEFAULT_LIMIT: Final = 100
_PANEL: Final = "Calls"


@attrs.frozen(kw_only=True)
class SearchOptions:
    """Which calls, and in which order."""

    sort: Annotated[
        str | None,
        option(
            f"Highest first by {', '.join(CALL_ORDERS)} (default: started, the newest first).",
            _PANEL,
            autocompletion=completion_of(CALL_ORDERS),
        ),
    ] = None
    worst: Annotated[bool, option("Short for --sort worst: freeze rate x peak of users.", _PANEL, "--worst")] = False
    min_freeze_rate: Annotated[float | None, freeze_rate_option(_PANEL)] = None

    @property
    def order(self) -> str:
        """The name of the order; raises `ValueError` for an unknown one."""
        if self.worst and self.sort not in {None, WORST}:
            raise ValueError("--sort and --worst exclude each other")
        order = WORST if self.worst else self.sort or NEWEST
        sort_key(CALL_ORDERS, order)
        return order

    def matches(self, call: Call) -> bool:
        """Whether a call passes the filter."""
        return self.min_freeze_rate is None or (freeze_rate(call) or 0) > self.min_freeze_rate

    def describe(self, count: int) -> str:
        """Return a number of calls and the filter, as in messages."""
        froze = "" if self.min_freeze_rate is None else f" that froze more than {format_percent(self.min_freeze_rate)}"
        return f"{format_count(count, 'call')}{froze}"


@command
async def search(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: ListOptions,
    options: SearchOptions,
    *,
    cname: Annotated[str | None, typer.Option(help="Only calls of this channel.")] = None,
    page_size: Annotated[int, typer.Option(help="Calls per request, 1 to 100.")] = 100,
    max_requests: Annotated[int | None, typer.Option(help="Stop after this many requests.", min=1)] = None,
) -> None:
    """List the calls of a span, newest first (default: the last hour).

    Example: agora-analytics calls search --last 1d --worst --limit 20
    """
    order = options.order
    async with credentials.client(output.screen) as client:
        span = await time.span(client, CALL_LISTS, HOUR)
        source = NewestFirst(await SearchBudget.of(client, max_requests), span, cname, page_size)
        listing = _Listing(output.screen, source, options)
        if order == NEWEST:
            await listing.show_newest(output.max_rows(_DEFAULT_LIMIT))
        else:
            await listing.show_sorted(order, output.max_rows(_DEFAULT_LIMIT))
        listing.warn_if_incomplete()


@attrs.define
class SearchBudget:
    """Requests for lists of calls: how many are allowed (None: any number), and how many the day had left before."""

    client: AnalyticsClient
    max_requests: int | None
    left_today: int | None
    _used_before: int

    @classmethod
    async def of(cls, client: AnalyticsClient, max_requests: int | None) -> Self:
        """Return the budget: `max_requests`, and never more than the day has left."""
        day = await _day(client)
        left = day.left if day else None
        # If the day has nothing left, the search itself reports when the quota resets.
        bounds = [bound for bound in (max_requests, left) if bound]
        return cls(client, min(bounds, default=None), left, day.used if day else 0)

    async def spent(self) -> int:
        """Return the number of requests counted since the start, those of other programs included."""
        day = await _day(self.client)
        return max(0, day.used - self._used_before) if day else 0

    async def remaining(self, made: int) -> int | None:
        """Return how many requests may follow the `made` ones; None for any number."""
        # The larger of both: other programs spend from the day too, and a day that ends meanwhile sets its count back.
        return None if self.max_requests is None else max(0, self.max_requests - max(made, await self.spent()))


@attrs.define
class NewestFirst:
    """The calls of a span, newest first; after the iteration `read_from` is where the part that was read begins."""

    budget: SearchBudget
    span: Span
    cname: str | None
    page_size: int
    read_from: int = attrs.field(init=False)
    parts_read: int = attrs.field(init=False, default=0)
    _made: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.read_from = self.span.start

    @property
    def parts(self) -> tuple[Span, ...]:
        """The spans of single requests, newest first."""
        longest = self.budget.client.plan.of_endpoint(CALL_LISTS).longest_query
        ends = range(self.span.end, self.span.start, -longest)
        # From the end, so that the newest part is a whole one: the price of the others is estimated by it.
        parts = tuple(Span(max(self.span.start, end - longest), end) for end in ends)
        if ends_by_host(*self.span):
            return tuple(Span(part.start, HostSecond(part.end)) for part in parts)
        return tuple(map(by_host, parts)) if is_by_host(*self.span) else parts

    async def calls(self) -> AsyncGenerator[Call]:
        """Yield each call once, until all are read or the budget is spent."""
        for part in self.parts:
            remaining = await self.budget.remaining(self._made)
            if remaining is not None and remaining <= 0:
                self.read_from = part.end
                return
            async with aclosing(self._part(part, remaining)) as found:
                async for call in found:
                    yield call
            # The budget was spent within the part.
            if self.read_from != self.span.start:
                return
            self.parts_read += 1

    async def _part(self, part: Span, max_requests: int | None) -> AsyncGenerator[Call]:
        """Yield the calls that began in a part."""
        calls, before, oldest = self.budget.client.calls, self._made, part.end
        found = calls.search(*part, cname=self.cname, page_size=self.page_size, max_requests=max_requests)
        async with aclosing(found):
            async for call in found:
                self._made, oldest = before + found.requests, call.created_ts or oldest
                yield call
        self._made = before + found.requests
        if found.exhausted:
            self.read_from = oldest


async def _day(client: AnalyticsClient) -> QuotaState | None:
    """Return today's state of the counter for lists of calls; None if the plan has no such limit."""
    counter = client.plan.counter(CALL_LISTS)
    states = (await client.quota.snapshot()).states
    return next((state for state in states if (state.counter, state.unit) == (counter, "day")), None)


@attrs.define
class _Listing:
    """Prints the calls of a search, and notes about its price and its completeness."""

    screen: Screen
    source: NewestFirst
    options: SearchOptions
    read: int = 0

    async def show_newest(self, limit: int | None) -> None:
        """Print calls as they arrive, newest first."""
        # A limit without a filter ends after a page or two: no price to warn of.
        if limit is None or self.options.min_freeze_rate is not None:
            self._note_price()
        describe, span = self.options.describe, self.source.span
        listed = await self.screen.stream(self._matching(), f"calls in {span}", self._table, limit)
        if listed.more and listed.last:
            until = format_time(listed.last.created_ts)
            self.screen.warn(
                f"the newest {describe(listed.count)}, back to {until} UTC;"
                f" older ones are left out, to {format_time(span.start)}: see --limit and --json"
            )
        else:
            every = self.options.min_freeze_rate is None
            of = f"{format_number(listed.count)} of {describe(self.read)}"
            self.screen.note(describe(listed.count) if every else of)

    async def show_sorted(self, order: str, limit: int | None) -> None:
        """Read all calls, then print the highest by an order."""
        self._note_price()
        top, count = TopN(CALL_ORDERS[order], limit), 0
        with self.screen.progress(f"calls in {self.source.span}") as advance:
            async with aclosing(self._matching()) as found:
                async for call in found:
                    top.add(call)
                    count += 1
                    advance(count, f"{self.read:,}")
        self.screen.show(top.items(), tables.calls(top.items(), impact=order == WORST))
        found_calls = self.options.describe(count)
        if limit is not None and count > limit:
            which = "worst" if order == WORST else "first"
            by = "" if order == WORST else f" by {order}"
            self.screen.warn(
                f"the {which} {format_number(limit)} of {found_calls}{by};"
                f" {format_number(count - limit)} are left out: see --limit"
            )
        else:
            self.screen.note(f"{found_calls}, by {order}")

    def warn_if_incomplete(self) -> None:
        """Warn if the budget was spent before all calls were read."""
        if self.source.read_from == self.source.span.start:
            return
        allowed, left = self.source.budget.max_requests, self.source.budget.left_today
        why = "the day has no requests left" if allowed == left else "--max-requests is used up"
        self.screen.warn(
            f"after {format_count(allowed or 0, 'request')}, calls that began before"
            f" {format_time(self.source.read_from)} UTC were not read: {why}"
        )

    async def _matching(self) -> AsyncGenerator[Call]:
        noted = False
        async with aclosing(self.source.calls()) as found:
            async for call in found:
                # After one part the price of the others is known from data instead of from their number.
                if self.source.parts_read == 1 and not noted:
                    noted = True
                    await self._note_remaining_price()
                self.read += 1
                if self.options.matches(call):
                    yield call

    def _note_price(self) -> None:
        """Note how many requests it takes to read all calls; without a daily limit there is no price."""
        budget, parts = self.source.budget, len(self.source.parts)
        if budget.left_today is None:
            return
        bounded = budget.max_requests not in {None, budget.left_today}
        self.screen.note(
            f"takes at least {format_number(parts)} of the {format_number(budget.left_today)} requests left today"
            f", and one more for each further {self.source.page_size} calls in a part"
            f"{f'; stops after {format_number(budget.max_requests)}' if bounded else ''}"
        )

    async def _note_remaining_price(self) -> None:
        """Note after the first part what the others take if they are like it."""
        first, *others = self.source.parts
        if self.source.budget.left_today is None or not others:
            return
        spent = await self.source.budget.spent()
        # Each part takes at least one request, however few calls it has.
        more = max(len(others), spent * sum(part.duration for part in others) // first.duration)
        self.screen.note(
            f"part 1 of {len(others) + 1}: {format_count(self.read, 'call')} for {format_count(spent, 'request')};"
            f" the others take about {format_number(more)} more"
        )

    def _table(self, rows: Sequence[Call]) -> tuple[tables.Table, ...]:
        return (tables.calls(rows),)
