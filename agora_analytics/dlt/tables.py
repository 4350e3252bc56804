"""The tables that dlt loads: keys, descriptions, and rows of a dataset as Arrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import repeat
from typing import Any, Final

from agora_analytics.export import arrow
from agora_analytics.export.schema import DATASETS
from agora_analytics.export.write.column_batch import ColumnBatch, RunLength

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "calls": ("app_id", "call_id"),
    "sessions": ("app_id", "call_id", "sid"),
    "metrics": ("app_id", "call_id", "sid", "mid", "peer_uid", "ts"),
    "statistics": ("app_id", "call_id", "metric", "dimension", "dimension_value", "start_ts"),
    "insights": ("app_id", "metric", "product", "granularity", "dimension", "dimension_value", "ts"),
}
"""The primary key of each table, by which dlt merges."""


def hints(dataset: str) -> dict[str, Any]:
    """Return dlt's column hints of a dataset: what each column means, as a description."""
    return {one.name: {"name": one.name, "description": one.comment} for one in DATASETS[dataset].columns}


def table(batch: ColumnBatch) -> tuple[Any, Mapping[str | None, int]]:
    """Return rows as an Arrow table whose key columns have no nulls, and how many rows are left out, by call.

    In keys, null text becomes "": no null equals another one, so that a merge would double the rows. A row without a
    time that belongs to its key is left out.
    """
    dropped: Counter[str | None] = Counter()
    for column in batch.dataset.columns:
        if column.name not in KEYS[batch.dataset.name]:
            continue
        if column.kind == "text":
            batch = _with_text(batch, column.name)
        elif column.kind == "time" and any(ts is None for ts in batch.column(column.name)):
            calls = batch.column("call_id") if "call_id" in batch.dataset.names else repeat(None)
            dropped.update(call for call, ts in zip(calls, batch.column(column.name), strict=False) if ts is None)
            batch = batch.filter(column.name, lambda ts: ts is not None)
    return arrow.keyed_table(batch, KEYS[batch.dataset.name]), dropped


def empty(dataset: str) -> Any:
    """Return a table of a dataset without rows."""
    return table(ColumnBatch(DATASETS[dataset], 0, ((),) * len(DATASETS[dataset].columns)))[0]


def _with_text(batch: ColumnBatch, name: str) -> ColumnBatch:
    values = batch.column(name)
    filled = values.map(_text) if isinstance(values, RunLength) else [_text(value) for value in values]
    columns = list(batch.columns)
    columns[batch.dataset.names.index(name)] = filled
    return ColumnBatch(batch.dataset, batch.rows, tuple(columns), batch.invalid_times)


def _text(value: str | None) -> str:
    return "" if value is None else value
