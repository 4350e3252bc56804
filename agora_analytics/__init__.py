"""Asyncio client for the Agora Analytics REST API that keeps every quota of the plan.

```python
async with AnalyticsClient.from_env() as client:
    async for call in client.calls.search(*client.calls.recent(timedelta(hours=8))):
        print(call.cname, call.started_at, call.call_audio_freeze_rate)
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics import catalogue, errors, export, models, plans, protocols
    from agora_analytics._core.retry import *
    from agora_analytics._core.transport import *
    from agora_analytics.client import *
    from agora_analytics.endpoints import *
    from agora_analytics.errors import *
    from agora_analytics.export import *
    from agora_analytics.models import *
    from agora_analytics.plans import *
    from agora_analytics.quota import *
    from agora_analytics.spans import *
    from agora_analytics.streams import *

    __version__: str
    """Version of the installed package."""

__all__ = [
    "ENTERPRISE",
    "HOSTS",
    "PREMIUM",
    "STANDARD",
    "STARTER",
    "AgoraError",
    "AnalyticsClient",
    "BadRequest",
    "BadRow",
    "Breakdown",
    "Call",
    "CallChanged",
    "CallFinished",
    "CallLost",
    "CallPage",
    "CallSessions",
    "CallStarted",
    "CertificateError",
    "Checkpoint",
    "CheckpointError",
    "ClockState",
    "Coverage",
    "DecodeError",
    "ExportError",
    "ExportEstimate",
    "ExportProgress",
    "ExportReport",
    "FileCheckpoints",
    "FileLedger",
    "Filter",
    "FleetError",
    "Follow",
    "Forecast",
    "Found",
    "FreezeBucket",
    "Gap",
    "Health",
    "IncompleteList",
    "Insight",
    "LedgerError",
    "Limits",
    "MemoryCheckpoints",
    "MemoryLedger",
    "NotFound",
    "Plan",
    "PlanRefused",
    "Point",
    "Priority",
    "Quota",
    "QuotaExhausted",
    "QuotaSnapshot",
    "QuotaState",
    "Ranked",
    "RateLimited",
    "ResponseError",
    "Results",
    "Retry",
    "Revision",
    "Selection",
    "Series",
    "ServerError",
    "Session",
    "SessionMetrics",
    "SessionPage",
    "Shard",
    "ShardsReport",
    "Skipped",
    "Span",
    "Statistic",
    "Timeouts",
    "TooEarly",
    "Total",
    "Track",
    "TransportError",
    "TransportTimeout",
    "Unauthorized",
    "Watch",
    "Window",
    "__version__",
    "broadcast",
    "catalogue",
    "errors",
    "export",
    "models",
    "plans",
    "protocols",
    "to_arrow",
    "to_pandas",
    "to_polars",
]

_MODULES = {"catalogue", "errors", "export", "models", "plans", "protocols"}

# Loaded when first asked for: a program that only needs errors or spans waits for no HTTP client.
_load, __dir__ = door(
    globals(),
    "errors",
    "spans",
    "plans",
    "models",
    "_core.retry",
    "quota",
    "client",
    "_core.transport",
    "endpoints",
    "streams",
    "export",
)


def __getattr__(name: str) -> Any:
    """Load a public name, a module of them, or the version."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - it costs more than all else here

        return version("agora-analytics")
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    return _load(name)
