"""Exports: everything the plan keeps, as files that survive whatever happens; see `client.export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agora_analytics.export._columns import DATASETS, Column, Dataset
from agora_analytics.export._frames import to_arrow, to_pandas, to_polars
from agora_analytics.export._plan import Estimate, ExportPlan
from agora_analytics.export._report import ExportProgress, ExportReport, LeftOut
from agora_analytics.export._selection import Breakdown, Insight, Selection

if TYPE_CHECKING:
    from agora_analytics.export._exports import Exports

__all__ = [
    "DATASETS",
    "Breakdown",
    "Column",
    "Dataset",
    "Estimate",
    "ExportPlan",
    "ExportProgress",
    "ExportReport",
    "Exports",
    "Insight",
    "LeftOut",
    "Selection",
    "to_arrow",
    "to_pandas",
    "to_polars",
]


def __getattr__(name: str) -> Any:
    """Load what brings SQLite with it when it is first asked for."""
    if name == "Exports":
        from agora_analytics.export._exports import Exports  # noqa: PLC0415

        return Exports
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
