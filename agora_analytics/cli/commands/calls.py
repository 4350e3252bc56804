"""`agora-analytics calls …`: Call Inspector."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import attrs
import typer

from agora_analytics import plans
from agora_analytics.catalogue import Dimension, FreezeMetric, MetricId, TimelineMetric
from agora_analytics.cli import tables
from agora_analytics.cli.commands.missing_call import explained
from agora_analytics.cli.commands.search import search
from agora_analytics.cli.formatting import clock, number
from agora_analytics.cli.options import Account, Limited, Shown, When, command
from agora_analytics.cli.output import Screen, Seen
from agora_analytics.cli.parsing import listed, mids_of, suggest, uids_of

if TYPE_CHECKING:
    from agora_analytics.models import SessionMetrics

T = TypeVar("T")

_NO_FREEZE: Final = (
    "no user of call {} in {} has this freeze rate (of video in a call of audio only), or the service does not know it"
)

app = typer.Typer(
    no_args_is_help=True,
    help="Which calls there were, who was in them, and how they went.\n\n"
    "Example: agora-analytics calls search --last 3h --cname lobby",
)

CallId = Annotated[str, typer.Argument(metavar="CALL_ID", help="As `calls search` tells it.")]
Freeze = Annotated[
    str, typer.Option(help="audio_freeze_rate or video_freeze_rate.", autocompletion=suggest(FreezeMetric))
]


app.command()(search)


@app.command()
@command
async def sessions(
    account: Account,
    when: When,
    shown: Limited,
    *,
    call_id: CallId,
    uids: Annotated[str, typer.Option(help="Only these user IDs, with commas between them.")] = "",
    exclude_server_user: Annotated[bool, typer.Option(help="Leave out Linux users.")] = True,
) -> None:
    """List who was in a call (default span: the newest that one request carries)."""
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.CALL_SESSIONS)
        found = client.calls.sessions(call_id, *span, uids=uids_of(uids), exclude_server_user=exclude_server_user)
        async with explained(client, shown.screen, call_id, span) as told:
            seen = await shown.screen.stream(found, "sessions", lambda rows: (tables.sessions(rows),), shown.most())
            told(seen.count)
        _tell(shown.screen, seen, f"the latest to join, back to {clock(seen.last.join_ts)} UTC" if seen.last else "")


@app.command()
@command
async def metrics(
    account: Account,
    when: When,
    shown: Limited,
    *,
    call_id: CallId,
    sids: Annotated[str, typer.Option(help="Only these sessions, with commas between them.")] = "",
    mids: Annotated[
        str, typer.Option(help="Show only these metric ids or names: see `metrics`.", autocompletion=suggest(MetricId))
    ] = "",
    exclude_server_user: Annotated[bool, typer.Option(help="Without --sids, leave out Linux users.")] = True,
) -> None:
    """Show what was measured in the sessions of a call: bitrates, losses, freezes … (tables: 5 sessions)."""
    wanted = mids_of(mids)
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.CALL_METRICS)
        found = client.calls.metrics(call_id, listed(sids) or None, *span, exclude_server_user=exclude_server_user)
        async with explained(client, shown.screen, call_id, span) as told:
            seen = await shown.screen.stream(_only(found, wanted), "sessions", tables.all_metrics, shown.most(5))
            told(seen.count)
        _tell(shown.screen, seen, f"up to {seen.last.sid}" if seen.last else "")


@app.command()
@command
async def statistics(
    account: Account,
    when: When,
    shown: Shown,
    *,
    call_id: CallId,
    metric: Freeze = FreezeMetric.VIDEO,
    dimension: Annotated[
        str, typer.Option(help="country, region, net, sdk, os or device.", autocompletion=suggest(Dimension))
    ] = Dimension.NET,
) -> None:
    """Show a call's freeze rate by a dimension."""
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.CALL_STATISTICS)
        async with explained(client, shown.screen, call_id, span) as told:
            found = await client.calls.statistics(call_id, metric, dimension, *span)
            told(len(found))
        shown.screen.show(found, tables.statistics(found, metric, dimension))


@app.command()
@command
async def freeze(
    account: Account, when: When, shown: Shown, *, call_id: CallId, metric: Freeze = FreezeMetric.VIDEO
) -> None:
    """Show how many users of a call froze how much."""
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.CALL_FREEZE)
        async with explained(client, shown.screen, call_id, span, nothing=_NO_FREEZE) as told:
            found = await client.calls.freeze_buckets(call_id, metric, *span)
            told(len(found))
        shown.screen.show(found, tables.freeze_buckets(found, metric))


@app.command()
@command
async def timeline(
    account: Account,
    when: When,
    shown: Shown,
    *,
    call_id: CallId,
    metric: Annotated[
        str,
        typer.Option(help="user_count, audio_freeze_rate, …: see `metrics`.", autocompletion=suggest(TimelineMetric)),
    ] = TimelineMetric.USER_COUNT,
) -> None:
    """Show a call minute by minute."""
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.CALL_TIMELINE)
        async with explained(client, shown.screen, call_id, span) as told:
            found = await client.calls.timeline(call_id, metric, *span)
            told(len(found))
        shown.screen.show(found, *tables.series(found, metric))


def _tell(screen: Screen, seen: Seen[T], which: str) -> None:
    """Say how many sessions were shown, and which were left out."""
    if seen.more:
        screen.warn(f"{number(seen.count)} sessions, {which}; the others are left out: see --limit and --json")
    elif seen.count:
        screen.note(f"{number(seen.count)} sessions")


async def _only(found: AsyncGenerator[SessionMetrics], mids: frozenset[int]) -> AsyncGenerator[SessionMetrics]:
    """Keep the tracks of these metric ids; none means all."""
    async with aclosing(found) as sessions:
        async for one in sessions:
            yield attrs.evolve(one, data=tuple(track for track in one.data if not mids or track.mid in mids))
