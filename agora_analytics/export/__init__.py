"""Exports: everything the plan keeps, as files that survive whatever happens; see `client.export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.export.dataframes import *
    from agora_analytics.export.estimate import *
    from agora_analytics.export.exporter import *
    from agora_analytics.export.report import *
    from agora_analytics.export.schema import *
    from agora_analytics.export.selection import *

__all__ = [
    "DATASETS",
    "Breakdown",
    "Column",
    "Dataset",
    "DatasetEstimate",
    "ExportEstimate",
    "ExportProgress",
    "ExportReport",
    "Exporter",
    "Insight",
    "Selection",
    "Skipped",
    "to_arrow",
    "to_pandas",
    "to_polars",
]

__getattr__, __dir__ = door(globals(), "schema", "selection", "report", "estimate", "exporter", "dataframes")
