"""`agora-analytics realtime …`: Real-time Monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from agora_analytics import plans
from agora_analytics.catalogue import Dimension, Product, QualityMetric, RealtimeUsageMetric
from agora_analytics.cli import tables
from agora_analytics.cli.options import CredentialOptions, NameOptions, OutputOptions, TimeOptions, command
from agora_analytics.cli.parsing import completion, parse_time, parse_uids, split_list, unit_of
from agora_analytics.plans import Endpoint, Plan
from agora_analytics.spans import WINDOW, HostSecond

if TYPE_CHECKING:
    from agora_analytics import AnalyticsClient

app = typer.Typer(
    no_args_is_help=True,
    help="The last minutes in windows of 20 seconds (default: 10 minutes), and the top values of one window.\n\n"
    "Example: agora-analytics realtime quality --metric audioFreezeRate --product WebRTC --last 20m",
)

_TEN_MINUTES: Final = 600

Usage = Annotated[
    str, typer.Option(help="Metric: userCount or channelCount.", autocompletion=completion("realtime_usage"))
]
Quality = Annotated[
    str,
    typer.Option(
        help="Metric: audioFreezeRate, networkDelay, … (see `metrics quality`).", autocompletion=completion("quality")
    ),
]
Of = Annotated[str, typer.Option(help="Product: Native or WebRTC.", autocompletion=completion("product"))]
Channel = Annotated[str | None, typer.Option(help="Only this channel.")]
By = Annotated[
    str | None,
    typer.Option(help="Group by country, region, net, sdk, os or device.", autocompletion=completion("dimension")),
]
Values = Annotated[str, typer.Option(help="Only these values of the dimension, separated by commas.")]
Top = Annotated[
    str,
    typer.Option(help="Dimension: country, region, net, sdk, os or device.", autocompletion=completion("dimension")),
]
At = Annotated[
    str | None,
    typer.Option(
        help="Start of the window: ISO 8601 with a zone or Z, or seconds since 1970 (default: the newest).",
        show_default=False,
    ),
]


@app.command()
@command
async def usage(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    metric: Usage = RealtimeUsageMetric.USER_COUNT,
    product: Of = Product.NATIVE,
    cname: Channel = None,
    dimension: By = None,
    dimension_values: Values = "",
) -> None:
    """Show the number of users or channels.

    Example: agora-analytics realtime usage --product WebRTC --dimension country
    """
    names.check("--metric", metric, "realtime_usage")
    names.check("--product", product, "product")
    names.check("--dimension", dimension, "dimension")
    values = split_list(dimension_values)
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.REALTIME_USAGE, _TEN_MINUTES)
        found = await client.realtime.usage(
            metric, *span, product=product, cname=cname, dimension=dimension, dimension_values=values
        )
        output.screen.show(found, *tables.series(found, f"{metric} {product}", dimension or ""))


@app.command()
@command
async def quality(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    metric: Quality = QualityMetric.AUDIO_FREEZE_RATE,
    product: Of = Product.NATIVE,
    cname: Channel = None,
    uids: Annotated[str, typer.Option(help="Up to 10 user IDs of the channel, separated by commas.")] = "",
    dimension: By = None,
    dimension_values: Values = "",
) -> None:
    """Show a quality metric.

    Example: agora-analytics realtime quality --metric networkDelay --last 20m
    """
    names.check("--metric", metric, "quality")
    names.check("--product", product, "product")
    names.check("--dimension", dimension, "dimension")
    values = split_list(dimension_values)
    users = parse_uids(uids)
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.REALTIME_QUALITY, _TEN_MINUTES)
        found = await client.realtime.quality(
            metric, *span, product=product, cname=cname, uids=users, dimension=dimension, dimension_values=values
        )
        by = "uid" if users else dimension or ""
        output.screen.show(found, *tables.series(found, f"{metric} {product}", by))


@app.command("usage-top")
@command
async def usage_top(
    credentials: CredentialOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    dimension: Top = Dimension.COUNTRY,
    product: Of = Product.NATIVE,
    at: At = None,
) -> None:
    """Show the values of a dimension with the most users in one window.

    Example: agora-analytics realtime usage-top --dimension os
    """
    names.check("--dimension", dimension, "dimension")
    names.check("--product", product, "product")
    async with credentials.client(output.screen) as client:
        window = await _window(client, plans.REALTIME_USAGE_TOP, at)
        found = await client.realtime.usage_top(dimension, window, product=product)
        output.screen.show(found, tables.ranked(found, f"users {product}", "", dimension))


@app.command("quality-top")
@command
async def quality_top(
    credentials: CredentialOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    metric: Quality = QualityMetric.AUDIO_FREEZE_RATE,
    dimension: Top = Dimension.COUNTRY,
    product: Of = Product.NATIVE,
    at: At = None,
    extra_metrics: Annotated[
        str | None,
        typer.Option(
            help="Second metric to request: userCount, the users behind each value.",
            autocompletion=completion("realtime_usage"),
        ),
    ] = RealtimeUsageMetric.USER_COUNT,
) -> None:
    """Show the top values of a dimension by a quality metric in one window.

    Example: agora-analytics realtime quality-top --metric networkDelay --dimension country
    """
    names.check("--metric", metric, "quality")
    names.check("--dimension", dimension, "dimension")
    names.check("--product", product, "product")
    names.check("--extra-metrics", extra_metrics or None, "realtime_usage")
    async with credentials.client(output.screen) as client:
        window = await _window(client, plans.REALTIME_QUALITY_TOP, at)
        # An empty text turns the second metric off.
        found = await client.realtime.quality_top(
            metric, dimension, window, product=product, extra_metrics=extra_metrics or None
        )
        output.screen.show(found, tables.ranked(found, f"{metric} {product}", unit_of(metric), dimension))


def newest_window(plan: Plan, endpoint: Endpoint, now: int) -> int:
    """Return the start of the newest 20-second window that is complete and queryable."""
    return plan.of_endpoint(endpoint).queryable(now).end // WINDOW * WINDOW - WINDOW


async def _window(client: AnalyticsClient, endpoint: Endpoint, at: str | None) -> int:
    if at:
        return parse_time(at, "--at")
    from agora_analytics.client import service_time  # noqa: PLC0415 - with a client, when one is needed

    await client.quota.snapshot()  # loads what the ledger knows of the service's clock
    time = service_time(client)
    window = newest_window(client.plan, endpoint, time.utc_second())
    return window if time.host_ahead() is not None else HostSecond(window)
