"""The 14 endpoints, in the vendor's three groups, each loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.endpoints.calls import *
    from agora_analytics.endpoints.insights import *
    from agora_analytics.endpoints.realtime import *
    from agora_analytics.endpoints.results import *

__all__ = [
    "Calls",
    "Filter",
    "Insights",
    "Realtime",
    "Results",
]

__getattr__, __dir__ = door(globals(), "results", "calls", "insights", "realtime")
