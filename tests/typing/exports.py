"""The types of exports; see `api.py`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from typing import Literal, assert_type

from agora_analytics import (
    AnalyticsClient,
    Breakdown,
    Call,
    ExportError,
    ExportEstimate,
    ExportProgress,
    ExportReport,
    Insight,
    Selection,
    Shard,
    ShardsReport,
    Skipped,
    export,
    to_arrow,  # pyright: ignore[reportUnknownVariableType]  # pyarrow has no types
    to_pandas,
    to_polars,
)


async def exporting(client: AnalyticsClient) -> None:
    freezes = Insight("audioFreezeRate", product="Native", dimension="country")
    selection = Selection(
        1_700_000_000,
        1_700_100_000,
        datasets=("calls", "statistics", "insights"),
        statistics=[Breakdown("audio_freeze_rate", "country")],
        insights=[freezes],
        min_freeze_rate=0.05,
    )
    assert_type(client.export, export.Exporter)
    plan = await client.export.estimate(selection, order="worst")
    assert_type(plan, ExportEstimate)
    assert_type(plan.expired, tuple[Skipped, ...])
    assert_type([(skipped.rows, skipped.calls) for skipped in plan.expired], list[tuple[int | None, int | None]])
    report = await client.export.run(
        selection, "folder", format="parquet", on_progress=on_progress, rebuild=True, drain=asyncio.Event()
    )
    assert_type(report, ExportReport)
    assert_type(report.complete, bool)
    assert_type([(skipped.call_ids, skipped.again) for skipped in report.skipped], list[tuple[tuple[str, ...], bool]])
    shards = selection.shards(apps=20, days=7)
    assert_type(shards, tuple[Shard, ...])
    assert_type((shards[0].name, shards[0].selection, shards[0].place("folder")), tuple[str, Selection, str])
    await client.export.run(shards[0].selection, shards[0].place("folder"), process=False)
    merged = await client.export.merge(shards, "folder", sink_options={"anon": True})
    assert_type(merged, ShardsReport)
    assert_type((merged.complete, merged.missing, merged.incomplete), tuple[bool, tuple[str, ...], tuple[str, ...]])
    try:
        await to_arrow(client.calls.search(*selection.span))
        await to_pandas(client.calls.search(*selection.span), model=Call)
        await to_polars(await client.insights.usage("userCount", *selection.span))
    except ExportError as error:
        assert_type(error.hint, str)
        assert_type(error.kind, Literal["running", "superseded", "disk", "settings", "state", "writer"])
    assert_type(export.DATASETS["calls"].columns, tuple[export.Column, ...])
    assert_type(export.DATASETS["calls"].columns[0].comment, str)


def on_progress(progress: ExportProgress) -> None:
    assert_type(progress.requests, int)
