"""Exports: everything the plan keeps, as files that survive whatever happens; see `client.export`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agora_analytics.export.dataframes import to_arrow, to_pandas, to_polars
    from agora_analytics.export.estimate import DatasetEstimate, ExportEstimate
    from agora_analytics.export.exporter import Exports
    from agora_analytics.export.report import ExportProgress, ExportReport, Skipped
    from agora_analytics.export.schema import DATASETS, Column, Dataset
    from agora_analytics.export.selection import Breakdown, Insight, Selection

__all__ = [
    "DATASETS",
    "Breakdown",
    "Column",
    "Dataset",
    "DatasetEstimate",
    "ExportEstimate",
    "ExportProgress",
    "ExportReport",
    "Exports",
    "Insight",
    "Selection",
    "Skipped",
    "to_arrow",
    "to_pandas",
    "to_polars",
]

_HOMES = {
    "schema": ("DATASETS", "Column", "Dataset"),
    "exporter": ("Exports",),
    "dataframes": ("to_arrow", "to_pandas", "to_polars"),
    "estimate": ("DatasetEstimate", "ExportEstimate"),
    "report": ("ExportProgress", "ExportReport", "Skipped"),
    "selection": ("Breakdown", "Insight", "Selection"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives: a process that only writes needs none of them."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return found


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
