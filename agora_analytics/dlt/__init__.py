"""A source for dlt: calls, their details and insights as Arrow tables, loaded into any warehouse; see `agora_source`.

| Question | Where to look |
| --- | --- |
| Which resources are there, and who opens the client? | `source.py` |
| What is requested in a run, and what ends it early? | `call_loader.py`, `insight_loader.py`, `run_budget.py` |
| What does the next run ask for again? | `progress.py` |
| Keys and types of the tables? | `tables.py` |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.dlt.report import *
    from agora_analytics.dlt.source import *

__all__ = ["LoadReport", "agora_source", "agora_sources", "load_reports"]

__getattr__, __dir__ = door(globals(), "report", "source")
