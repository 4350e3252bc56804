"""HTML reports of a week and of one call, each one file without scripts or network: from an export, or live.

| Question | Where to look |
| --- | --- |
| What is on a report? | `week_page.py`, `call_page.py` |
| Where do figures come from, and what do they cost? | `from_export.py`, `live.py` |
| How is text escaped, and a chart drawn? | `markup.py`, `charts.py` |
| How does a page say that data is missing? | `completeness.py` |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.ops.report.from_export import *
    from agora_analytics.ops.report.live import *

__all__ = ["call", "live_call", "live_week", "week"]

__getattr__, __dir__ = door(globals(), "from_export", "live")
