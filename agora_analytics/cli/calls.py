"""`agora-analytics calls …`: Call Inspector."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from agora_analytics import plans
from agora_analytics.catalogue import Dimension, FreezeMetric, MetricId, TimelineMetric
from agora_analytics.cli import views
from agora_analytics.cli.options import Account, Limited, Shown, When, command
from agora_analytics.cli.words import listed, mids_of, suggest, uids_of

if TYPE_CHECKING:
    from agora_analytics.models import SessionMetrics

app = typer.Typer(
    no_args_is_help=True,
    help="Which calls there were, who was in them, and how they went.\n\n"
    "Example: agora-analytics calls search --last 3h --cname lobby",
)

CallId = Annotated[str, typer.Argument(metavar="CALL_ID", help="As `calls search` tells it.")]
Freeze = Annotated[
    str, typer.Option(help="audio_freeze_rate or video_freeze_rate.", autocompletion=suggest(FreezeMetric))
]


@app.command()
@command
async def search(
    account: Account,
    when: When,
    shown: Limited,
    *,
    cname: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    page_size: Annotated[int, typer.Option(help="Calls per request, 1 to 100.")] = 100,
) -> None:
    """List the calls of a span (default: the last hour)."""
    async with account.client(shown.screen) as client:
        span = when.span(client.plan, plans.CALL_LISTS, 3_600)
        found = client.calls.search(*span, cname=cname, page_size=page_size)
        await shown.screen.stream(found, f"calls in {span}", lambda rows: (views.calls(rows),), shown.most())


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
        span = when.span(client.plan, plans.CALL_SESSIONS)
        found = client.calls.sessions(call_id, *span, uids=uids_of(uids), exclude_server_user=exclude_server_user)
        await shown.screen.stream(found, "sessions", lambda rows: (views.sessions(rows),), shown.most())


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
) -> None:
    """Show what was measured in the sessions of a call: bitrates, losses, freezes … (tables: 5 sessions)."""
    wanted = mids_of(mids)
    async with account.client(shown.screen) as client:
        span = when.span(client.plan, plans.CALL_METRICS)
        found = client.calls.metrics(call_id, listed(sids) or None, *span)
        await shown.screen.stream(_only(found, wanted), "sessions", views.all_metrics, shown.most(5))


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
        span = when.span(client.plan, plans.CALL_STATISTICS)
        found = await client.calls.statistics(call_id, metric, dimension, *span)
        shown.screen.show(found, views.statistics(found, metric, dimension))


@app.command()
@command
async def freeze(
    account: Account, when: When, shown: Shown, *, call_id: CallId, metric: Freeze = FreezeMetric.VIDEO
) -> None:
    """Show how many users of a call froze how much."""
    async with account.client(shown.screen) as client:
        span = when.span(client.plan, plans.CALL_FREEZE)
        found = await client.calls.freeze_buckets(call_id, metric, *span)
        shown.screen.show(found, views.freeze_buckets(found, metric))


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
        span = when.span(client.plan, plans.CALL_TIMELINE)
        found = await client.calls.timeline(call_id, metric, *span)
        shown.screen.show(found, *views.series(found, metric))


async def _only(found: AsyncGenerator[SessionMetrics], mids: frozenset[int]) -> AsyncGenerator[SessionMetrics]:
    """Keep the tracks of these metric ids; none means all."""
    async with aclosing(found) as sessions:
        async for one in sessions:
            yield attrs.evolve(one, data=tuple(track for track in one.data if not mids or track.mid in mids))
