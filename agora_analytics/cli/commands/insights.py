"""`agora-analytics insights …`: Data Insights."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from agora_analytics import plans
from agora_analytics.catalogue import Granularity, Product, QualityMetric, UsageMetric
from agora_analytics.cli import tables
from agora_analytics.cli.options import CredentialOptions, NameOptions, OutputOptions, TimeOptions, command
from agora_analytics.cli.parsing import completion, parse_filters, split_list, unit_of
from agora_analytics.spans import DAY

app = typer.Typer(
    no_args_is_help=True,
    help="Usage and quality of the whole project, by hour, day or dimension (default: the last 7 days).\n\n"
    "Example: agora-analytics insights usage --metric totalDuration --last 2w",
)

_WEEK: Final = 7 * DAY

Usage = Annotated[
    str,
    typer.Option(help="Metric: userCount, totalDuration, … (see `metrics usage`).", autocompletion=completion("usage")),
]
Quality = Annotated[
    str,
    typer.Option(
        help="Metric: audioFreezeRate, networkDelay, … (see `metrics quality`).", autocompletion=completion("quality")
    ),
]
Steps = Annotated[str, typer.Option(help="Length of a step: 1d, 1h, …", autocompletion=completion("granularity"))]
By = Annotated[
    str | None,
    typer.Option(
        help="Group by country, region, net, sdk, os, … (see `metrics dimension`).",
        autocompletion=completion("dimension"),
    ),
]
Values = Annotated[str, typer.Option(help="Only these values of the dimension, separated by commas.")]
Filters = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE, with --dimension region only: country=China. Can be repeated.")
]


@app.command()
@command
async def usage(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    metric: Usage = UsageMetric.USER_COUNT,
    granularity: Steps = Granularity.DAY,
) -> None:
    """Show users, sessions, channels, peaks or minutes over time.

    Example: agora-analytics insights usage --metric totalDuration --last 2w
    """
    names.check("--metric", metric, "usage")
    names.check("--granularity", granularity, "granularity")
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.INSIGHT_USAGE, _WEEK)
        found = await client.insights.usage(metric, *span, granularity=granularity)
        output.screen.show(found, *tables.series(found, metric))


@app.command()
@command
async def quality(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    metric: Quality = QualityMetric.AUDIO_FREEZE_RATE,
    product: Annotated[
        str, typer.Option(help="Product: Native or WebRTC.", autocompletion=completion("product"))
    ] = Product.NATIVE,
    granularity: Steps = Granularity.DAY,
) -> None:
    """Show a quality metric of a product over time.

    Example: agora-analytics insights quality --metric networkDelay --last 2d --granularity 1h
    """
    names.check("--metric", metric, "quality")
    names.check("--product", product, "product")
    names.check("--granularity", granularity, "granularity")
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.INSIGHT_QUALITY, _WEEK)
        found = await client.insights.quality(metric, *span, product=product, granularity=granularity)
        output.screen.show(found, *tables.series(found, f"{metric} {product}"))


@app.command("usage-total")
@command
async def usage_total(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    metric: Usage = UsageMetric.USER_COUNT,
    dimension: By = None,
    dimension_values: Values = "",
    filters: Filters = None,
) -> None:
    """Show usage over a whole span, as one value or by a dimension.

    Example: agora-analytics insights usage-total --last 1w --dimension country
    """
    names.check("--metric", metric, "usage")
    names.check("--dimension", dimension, "dimension")
    chosen = parse_filters(filters or ())
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.INSIGHT_USAGE_TOTAL, _WEEK)
        values = split_list(dimension_values)
        found = await client.insights.usage_total(
            metric, *span, dimension=dimension, dimension_values=values, filters=chosen
        )
        output.screen.show(found, tables.totals(found, f"{metric} in {span}", unit_of(metric), dimension))


@app.command("quality-total")
@command
async def quality_total(
    credentials: CredentialOptions,
    time: TimeOptions,
    output: OutputOptions,
    names: NameOptions,
    *,
    metric: Quality = QualityMetric.AUDIO_FREEZE_RATE,
    dimension: By = None,
    dimension_values: Values = "",
    filters: Filters = None,
    product: Annotated[
        str | None,
        typer.Option(help="Product: Native or WebRTC (default: not sent).", autocompletion=completion("product")),
    ] = None,
) -> None:
    """Show a quality metric over a whole span, as one value or by a dimension.

    Example: agora-analytics insights quality-total --last 1w --dimension sdk
    """
    names.check("--metric", metric, "quality")
    names.check("--dimension", dimension, "dimension")
    names.check("--product", product, "product")
    chosen = parse_filters(filters or ())
    async with credentials.client(output.screen) as client:
        span = await time.span(client, plans.INSIGHT_QUALITY_TOTAL, _WEEK)
        values = split_list(dimension_values)
        found = await client.insights.quality_total(
            metric, *span, dimension=dimension, dimension_values=values, filters=chosen, product=product
        )
        output.screen.show(found, tables.totals(found, f"{metric} in {span}", unit_of(metric), dimension))
