"""The 14 endpoints, in the vendor's three groups."""

from __future__ import annotations

from agora_analytics.endpoints._group import Scope, Timely
from agora_analytics.endpoints._kept import Results
from agora_analytics.endpoints.calls import Calls
from agora_analytics.endpoints.insights import Filter, Insights
from agora_analytics.endpoints.realtime import Question, Realtime

__all__ = ["Calls", "Filter", "Insights", "Question", "Realtime", "Results", "Scope", "Timely"]
