"""The 14 endpoints, in the vendor's three groups, each loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agora_analytics.endpoints.retention import Results

if TYPE_CHECKING:
    from agora_analytics.endpoints.calls import Calls
    from agora_analytics.endpoints.insights import Filter, Insights
    from agora_analytics.endpoints.realtime import Realtime

__all__ = ["Calls", "Filter", "Insights", "Realtime", "Results"]

_LATER = {
    "Calls": "calls",
    "Filter": "insights",
    "Insights": "insights",
    "Realtime": "realtime",
}


def __getattr__(name: str) -> Any:
    """Load a group for those who use it."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found
