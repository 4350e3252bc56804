"""`agora-analytics insights …`: Data Insights."""

from __future__ import annotations

from typing import Annotated

import typer

from agora_analytics import plans
from agora_analytics.catalogue import Dimension, Granularity, Product, QualityMetric, UsageMetric
from agora_analytics.cli import tables
from agora_analytics.cli.options import Account, Shown, When, command
from agora_analytics.cli.parsing import filters_of, listed, suggest, unit_of

app = typer.Typer(
    no_args_is_help=True,
    help="Usage and quality of the whole project by hour, day or dimension (default: the last 7 days).\n\n"
    "Example: agora-analytics insights usage --metric totalDuration --last 14d",
)

_WEEK = 7 * 86_400

Usage = Annotated[
    str, typer.Option(help="userCount, totalDuration, …: see `metrics`.", autocompletion=suggest(UsageMetric))
]
Quality = Annotated[
    str, typer.Option(help="audioFreezeRate, networkDelay, …: see `metrics`.", autocompletion=suggest(QualityMetric))
]
Steps = Annotated[str, typer.Option(help="1d, 1h, …", autocompletion=suggest(Granularity))]
By = Annotated[
    str | None, typer.Option(help="Group by country, region, net, sdk, os, …", autocompletion=suggest(Dimension))
]
Values = Annotated[str, typer.Option(help="Only these values of the dimension, with commas between them.")]
Filters = Annotated[list[str] | None, typer.Option(help="NAME=VALUE, for the dimension region: country=China.")]


@app.command()
@command
async def usage(
    account: Account,
    when: When,
    shown: Shown,
    *,
    metric: Usage = UsageMetric.USER_COUNT,
    granularity: Steps = Granularity.DAY,
) -> None:
    """Show users, sessions, channels, peaks or minutes over time."""
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.INSIGHT_USAGE, _WEEK)
        found = await client.insights.usage(metric, *span, granularity=granularity)
        shown.screen.show(found, *tables.series(found, metric))


@app.command()
@command
async def quality(
    account: Account,
    when: When,
    shown: Shown,
    *,
    metric: Quality = QualityMetric.AUDIO_FREEZE_RATE,
    product: Annotated[str, typer.Option(help="Native or WebRTC.", autocompletion=suggest(Product))] = Product.NATIVE,
    granularity: Steps = Granularity.DAY,
) -> None:
    """Show a quality metric of a product over time."""
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.INSIGHT_QUALITY, _WEEK)
        found = await client.insights.quality(metric, *span, product=product, granularity=granularity)
        shown.screen.show(found, *tables.series(found, f"{metric} {product}"))


@app.command("usage-total")
@command
async def usage_total(
    account: Account,
    when: When,
    shown: Shown,
    *,
    metric: Usage = UsageMetric.USER_COUNT,
    dimension: By = None,
    dimension_values: Values = "",
    filters: Filters = None,
) -> None:
    """Show usage over a whole span, in one or by a dimension."""
    chosen = filters_of(filters or ())
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.INSIGHT_USAGE_TOTAL, _WEEK)
        found = await client.insights.usage_total(
            metric, *span, dimension=dimension, dimension_values=listed(dimension_values), filters=chosen
        )
        shown.screen.show(found, tables.totals(found, f"{metric} in {span}", unit_of(metric), dimension))


@app.command("quality-total")
@command
async def quality_total(
    account: Account,
    when: When,
    shown: Shown,
    *,
    metric: Quality = QualityMetric.AUDIO_FREEZE_RATE,
    dimension: By = None,
    dimension_values: Values = "",
    filters: Filters = None,
    product: Annotated[
        str | None, typer.Option(help="Native or WebRTC, sent if given.", autocompletion=suggest(Product))
    ] = None,
) -> None:
    """Show a quality metric over a whole span, in one or by a dimension."""
    chosen = filters_of(filters or ())
    async with account.client(shown.screen) as client:
        span = await when.span(client, plans.INSIGHT_QUALITY_TOTAL, _WEEK)
        values = listed(dimension_values)
        found = await client.insights.quality_total(
            metric, *span, dimension=dimension, dimension_values=values, filters=chosen, product=product
        )
        shown.screen.show(found, tables.totals(found, f"{metric} in {span}", unit_of(metric), dimension))
