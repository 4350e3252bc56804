"""Exports: everything the plan keeps, as files, resumable after any crash; see `client.export`.

| Question | Where to look |
| --- | --- |
| How does an export begin and end? | `exporter.py`, `lifecycle.py` |
| What is requested, in which order, and retried how? | `fetch/`: `run.py`, `slice_planner.py`, `fetcher.py` |
| What is skipped, and why? | `fetch/refusals.py`, `fetch/retention.py`, `fetch/skip_reasons.py` |
| Crash recovery: what does a rerun keep? | `state/export_state.py`; of rows, `state/staging.py` |
| What if files or the state are gone or altered? | `state/preflight.py`, `state/rebuild.py` |
| How does another machine take over? | `state/remote_copy.py` |
| How do several workers share an export? | `Selection.shards`, `shards.py` |
| Which SQL answers questions about the files? | `queries/` |
| How do rows become files? | `write/part_writer.py`, `formats/`, `sinks/` |

docs/concepts/exports.md shows the data flow, and what a crash leaves at each step.
"""

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
    "Shard",
    "ShardsReport",
    "Skipped",
    "to_arrow",
    "to_pandas",
    "to_polars",
]

__getattr__, __dir__ = door(globals(), "schema", "selection", "report", "estimate", "exporter", "dataframes")
