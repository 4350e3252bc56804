"""`agora-analytics realtime …`: Real-time Monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agora_analytics import plans
from agora_analytics.catalogue import Dimension, Product, QualityMetric, RealtimeUsageMetric
from agora_analytics.cli import tables, times
from agora_analytics.cli.options import Account, Shown, When, command
from agora_analytics.cli.parsing import listed, suggest, uids_of, unit_of
from agora_analytics.plans import Endpoint
from agora_analytics.spans import HostSecond

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient

app = typer.Typer(
    no_args_is_help=True,
    help="The last minutes in windows of 20 seconds (default: 10 minutes), and who leads a window.\n\n"
    "Example: agora-analytics realtime quality --metric audioFreezeRate --product WebRTC --last 20m",
)

_USUAL = 600

Usage = Annotated[str, typer.Option(help="userCount or channelCount.", autocompletion=suggest(RealtimeUsageMetric))]
Quality = Annotated[
    str, typer.Option(help="audioFreezeRate, networkDelay, …: see `metrics`.", autocompletion=suggest(QualityMetric))
]
Of = Annotated[str, typer.Option(help="Native or WebRTC.", autocompletion=suggest(Product))]
Channel = Annotated[str | None, typer.Option(help="Only this channel.")]
By = Annotated[
    str | None,
    typer.Option(help="Group by country, region, net, sdk, os or device.", autocompletion=suggest(Dimension)),
]
Values = Annotated[str, typer.Option(help="Only these values of the dimension, with commas between them.")]
Top = Annotated[str, typer.Option(help="country, region, net, sdk, os or device.", autocompletion=suggest(Dimension))]
At = Annotated[str | None, typer.Option(help="Start of the window, as --start (default: the newest).")]


@app.command()
@command
async def usage(
    account: Account,
    when: When,
    shown: Shown,
    *,
    metric: Usage = RealtimeUsageMetric.USER_COUNT,
    product: Of = Product.NATIVE,
    cname: Channel = None,
    dimension: By = None,
    dimension_values: Values = "",
) -> None:
    """Show users or channels in use."""
    values = listed(dimension_values)
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.REALTIME_USAGE, _USUAL)
        found = await client.realtime.usage(
            metric, *span, product=product, cname=cname, dimension=dimension, dimension_values=values
        )
        shown.screen.show(found, *tables.series(found, f"{metric} {product}", dimension or ""))


@app.command()
@command
async def quality(
    account: Account,
    when: When,
    shown: Shown,
    *,
    metric: Quality = QualityMetric.AUDIO_FREEZE_RATE,
    product: Of = Product.NATIVE,
    cname: Channel = None,
    uids: Annotated[str, typer.Option(help="Up to 10 user IDs of the channel, with commas between them.")] = "",
    dimension: By = None,
    dimension_values: Values = "",
) -> None:
    """Show a quality metric."""
    values = listed(dimension_values)
    users = uids_of(uids)
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.REALTIME_QUALITY, _USUAL)
        found = await client.realtime.quality(
            metric, *span, product=product, cname=cname, uids=users, dimension=dimension, dimension_values=values
        )
        by = "uid" if users else dimension or ""
        shown.screen.show(found, *tables.series(found, f"{metric} {product}", by))


@app.command("usage-top")
@command
async def usage_top(
    account: Account, shown: Shown, *, dimension: Top = Dimension.COUNTRY, product: Of = Product.NATIVE, at: At = None
) -> None:
    """Show which values of a dimension have the most users."""
    async with account.client(shown.screen) as client:
        window = await _window(client, plans.REALTIME_USAGE_TOP, at)
        found = await client.realtime.usage_top(dimension, window, product=product)
        shown.screen.show(found, tables.ranked(found, f"users {product}", "", dimension))


@app.command("quality-top")
@command
async def quality_top(
    account: Account,
    shown: Shown,
    *,
    metric: Quality = QualityMetric.AUDIO_FREEZE_RATE,
    dimension: Top = Dimension.COUNTRY,
    product: Of = Product.NATIVE,
    at: At = None,
    extra_metrics: Annotated[
        str | None, typer.Option(help="userCount adds the users that each value rests on.")
    ] = RealtimeUsageMetric.USER_COUNT,
) -> None:
    """Show how the top values of a dimension do in a quality metric."""
    async with account.client(shown.screen) as client:
        window = await _window(client, plans.REALTIME_QUALITY_TOP, at)
        found = await client.realtime.quality_top(
            metric, dimension, window, product=product, extra_metrics=extra_metrics or None
        )
        shown.screen.show(found, tables.ranked(found, f"{metric} {product}", unit_of(metric), dimension))


async def _window(client: AnalyticsClient, endpoint: Endpoint, at: str | None) -> int:
    if at:
        return times.instant(at, "--at")
    from agora_analytics.client import service_time  # noqa: PLC0415 - with a client, when one is needed

    await client.quota.snapshot()  # a ledger may know what time it is
    time = service_time(client)
    window = times.newest_window(client.plan, endpoint, time.utc_second())
    return window if time.host_ahead() is not None else HostSecond(window)
