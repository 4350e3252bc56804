"""Exports: everything the plan keeps, as files that survive whatever happens; see `client.export`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agora_analytics.export._columns import DATASETS, Column, Dataset
    from agora_analytics.export._exports import Exports
    from agora_analytics.export._frames import to_arrow, to_pandas, to_polars
    from agora_analytics.export._plan import Estimate, ExportPlan
    from agora_analytics.export._report import ExportProgress, ExportReport, LeftOut
    from agora_analytics.export._selection import Breakdown, Insight, Selection

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

_HOMES = {
    "_columns": ("DATASETS", "Column", "Dataset"),
    "_exports": ("Exports",),
    "_frames": ("to_arrow", "to_pandas", "to_polars"),
    "_plan": ("Estimate", "ExportPlan"),
    "_report": ("ExportProgress", "ExportReport", "LeftOut"),
    "_selection": ("Breakdown", "Insight", "Selection"),
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
