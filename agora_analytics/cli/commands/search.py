"""`agora-analytics calls search`: the newest calls of a span, or the first by some other order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from agora_analytics import plans
from agora_analytics.cli import tables
from agora_analytics.cli.commands.newest_calls import Budget, Newest
from agora_analytics.cli.commands.ranking import NEWEST, ORDERS, WORST, Best, freeze_rate
from agora_analytics.cli.formatting import clock, number, percent
from agora_analytics.cli.options import Account, Limited, When, command

if TYPE_CHECKING:
    from agora_analytics.cli.output import Screen
    from agora_analytics.models import Call

_USUAL = 100
_PANEL = "What"


@attrs.frozen(kw_only=True)
class Picked:
    """Which calls, and in which order."""

    sort: Annotated[
        str | None,
        typer.Option(
            help=f"Highest first by {', '.join(ORDERS)} (default: started, the newest first).",
            autocompletion=lambda: list(ORDERS),
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    worst: Annotated[
        bool,
        typer.Option("--worst", help="Sort by freeze rate x most users at once.", rich_help_panel=_PANEL),
    ] = False
    min_freeze_rate: Annotated[
        float | None,
        typer.Option(
            help="Only calls whose audio or video froze more: 0.05 is 5 %.", min=0, max=1, rich_help_panel=_PANEL
        ),
    ] = None

    @property
    def order(self) -> str:
        """The order's name; raises `ValueError` for an unknown one."""
        if self.worst and self.sort not in {None, WORST}:
            raise ValueError("--sort and --worst exclude each other")
        order = WORST if self.worst else self.sort or NEWEST
        if order not in ORDERS:
            raise ValueError(f"--sort={order!r}: allowed are {', '.join(ORDERS)}")
        return order

    def has(self, call: Call) -> bool:
        """Whether a call is one of these."""
        return self.min_freeze_rate is None or (freeze_rate(call) or 0) > self.min_freeze_rate

    @property
    def name(self) -> str:
        """What these calls are called."""
        return (
            "calls" if self.min_freeze_rate is None else f"calls that froze more than {percent(self.min_freeze_rate)}"
        )


@command
async def search(
    account: Account,
    when: When,
    shown: Limited,
    picked: Picked,
    *,
    cname: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    page_size: Annotated[int, typer.Option(help="Calls per request, 1 to 100.")] = 100,
    max_requests: Annotated[int | None, typer.Option(help="End after so many requests.", min=2)] = None,
) -> None:
    """List the calls of a span, newest first (default: the last hour).

    Example: agora-analytics calls search --last 1d --worst --limit 20
    """
    order = picked.order
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.CALL_LISTS, 3_600)
        newest = Newest(await Budget.of(client, max_requests), span, cname, page_size)
        listing = _Listing(shown.screen, newest, picked)
        if order == NEWEST:
            await listing.newest(shown.most(_USUAL))
        else:
            await listing.sorted(order, shown.limit or _USUAL)
        listing.tell_unread()


@attrs.define
class _Listing:
    """A list on its way to the screen."""

    screen: Screen
    calls: Newest
    picked: Picked
    read: int = 0

    async def newest(self, limit: int | None) -> None:
        """Show calls as they come, newest first."""
        if limit is None or self.picked.min_freeze_rate is not None:
            self._tell_price()
        seen = await self.screen.stream(self._picked(), f"calls in {self.calls.span}", self._table, limit)
        if seen.more and seen.last:
            until = clock(seen.last.created_ts)
            self.screen.warn(
                f"the newest {number(seen.count)} {self.picked.name}, back to {until} UTC;"
                f" older ones are left out, to {clock(self.calls.span.start)}: see --limit and --json"
            )
        else:
            of = "" if self.picked.min_freeze_rate is None else f"of {number(self.read)} "
            self.screen.note(f"{number(seen.count)} {of}{self.picked.name}")

    async def sorted(self, order: str, limit: int) -> None:
        """Read all calls, then show the first by an order."""
        self._tell_price()
        best, count = Best(ORDERS[order], limit), 0
        with self.screen.progress(f"calls in {self.calls.span}") as advance:
            async with aclosing(self._picked()) as found:
                async for call in found:
                    best.offer(call)
                    count += 1
                    advance(count, f"{self.read:,}")
        self.screen.show(best.calls(), tables.calls(best.calls(), worst=order == WORST))
        if count > limit:
            which = "worst" if order == WORST else "first"
            by = "" if order == WORST else f" by {order}"
            self.screen.warn(
                f"the {which} {number(limit)} of {number(count)} {self.picked.name}{by};"
                f" {number(count - limit)} are left out: see --limit"
            )
        else:
            self.screen.note(f"{number(count)} {self.picked.name}, by {order}")

    def tell_unread(self) -> None:
        """Say what was not asked for, and why."""
        if self.calls.asked_from == self.calls.span.start:
            return
        most, left = self.calls.budget.most, self.calls.budget.left
        why = "the day has no more" if most == left else "--max-requests allows no more"
        self.screen.warn(
            f"after {number(most)} requests, calls that began before {clock(self.calls.asked_from)} UTC"
            f" were not asked for: {why}"
        )

    async def _picked(self) -> AsyncGenerator[Call]:
        parts = 0
        async with aclosing(self.calls.calls()) as found:
            async for call in found:
                if self.calls.parts_read == 1 and not parts:
                    parts = 1
                    await self._tell_rest()
                self.read += 1
                if self.picked.has(call):
                    yield call

    def _tell_price(self) -> None:
        """Say what reading all of it takes; without a limit of the day there is no price."""
        budget, parts = self.calls.budget, len(self.calls.parts)
        if budget.left is None:
            return
        bound = "" if budget.most in {None, budget.left} else f", at most {number(budget.most)}"
        self.screen.note(
            f"at least {number(parts)} of the {number(budget.left)} requests that the day has left"
            f"{bound}, and one more for each {self.calls.page_size} calls in a part"
        )

    async def _tell_rest(self) -> None:
        """Say after the first part what the others will take if they are like it."""
        first, *rest = self.calls.parts
        if self.calls.budget.left is None or not rest:
            return
        spent = await self.calls.budget.spent()
        more = max(len(rest), spent * sum(one.duration for one in rest) // first.duration)
        self.screen.note(
            f"1 of {len(rest) + 1} parts: {number(self.read)} calls for {number(spent)} requests;"
            f" about {number(more)} more for the others"
        )

    def _table(self, rows: Sequence[Call]) -> tuple[tables.Table, ...]:
        return (tables.calls(rows),)
