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

if TYPE_CHECKING:
    from agora_analytics import catalogue, errors, export, models, plans, protocols
    from agora_analytics._core.retry import Retry
    from agora_analytics._core.transport import HOSTS, Timeouts
    from agora_analytics.client import AnalyticsClient
    from agora_analytics.endpoints import Filter, Results
    from agora_analytics.errors import (
        AgoraError,
        BadRequest,
        CertificateError,
        CheckpointError,
        DecodeError,
        ExportError,
        IncompleteList,
        LedgerError,
        NotFound,
        PlanRefused,
        QuotaExhausted,
        RateLimited,
        ResponseError,
        ServerError,
        TooEarly,
        TransportError,
        TransportTimeout,
        Unauthorized,
    )
    from agora_analytics.export import (
        Breakdown,
        ExportEstimate,
        ExportProgress,
        ExportReport,
        Insight,
        Selection,
        Skipped,
        to_arrow,
        to_pandas,
        to_polars,
    )
    from agora_analytics.models import (
        BadRow,
        Call,
        CallPage,
        Found,
        FreezeBucket,
        Point,
        Ranked,
        Session,
        SessionMetrics,
        SessionPage,
        Statistic,
        Total,
        Track,
    )
    from agora_analytics.plans import ENTERPRISE, PREMIUM, STANDARD, STARTER, Limits, Plan
    from agora_analytics.quota import (
        ClockState,
        FileLedger,
        Forecast,
        MemoryLedger,
        Priority,
        Quota,
        QuotaSnapshot,
        QuotaState,
    )
    from agora_analytics.spans import Span
    from agora_analytics.streams import (
        CallChanged,
        CallFinished,
        CallLost,
        CallSessions,
        CallStarted,
        Checkpoint,
        Coverage,
        FileCheckpoints,
        Follow,
        Gap,
        Health,
        MemoryCheckpoints,
        Revision,
        Series,
        Watch,
        Window,
        broadcast,
    )

    __version__: str

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

# Loaded when first asked for: a program that only needs errors or spans waits for no HTTP client.
_HOMES = {
    "client": ("AnalyticsClient",),
    "_core.retry": ("Retry",),
    "_core.transport": ("HOSTS", "Timeouts"),
    "endpoints": ("Filter", "Results"),
    "errors": (
        "AgoraError",
        "BadRequest",
        "CertificateError",
        "CheckpointError",
        "DecodeError",
        "ExportError",
        "IncompleteList",
        "LedgerError",
        "NotFound",
        "PlanRefused",
        "QuotaExhausted",
        "RateLimited",
        "ResponseError",
        "ServerError",
        "TooEarly",
        "TransportError",
        "TransportTimeout",
        "Unauthorized",
    ),
    "export": (
        "Breakdown",
        "ExportEstimate",
        "ExportProgress",
        "ExportReport",
        "Insight",
        "Skipped",
        "Selection",
        "to_arrow",
        "to_pandas",
        "to_polars",
    ),
    "models": (
        "BadRow",
        "Call",
        "CallPage",
        "Found",
        "FreezeBucket",
        "Point",
        "Ranked",
        "Session",
        "SessionMetrics",
        "SessionPage",
        "Statistic",
        "Total",
        "Track",
    ),
    "plans": ("ENTERPRISE", "PREMIUM", "STANDARD", "STARTER", "Limits", "Plan"),
    "quota": (
        "ClockState",
        "FileLedger",
        "Forecast",
        "Priority",
        "MemoryLedger",
        "Quota",
        "QuotaSnapshot",
        "QuotaState",
    ),
    "spans": ("Span",),
    "streams": (
        "CallChanged",
        "CallFinished",
        "CallLost",
        "CallSessions",
        "CallStarted",
        "Checkpoint",
        "Coverage",
        "FileCheckpoints",
        "Follow",
        "Gap",
        "Health",
        "MemoryCheckpoints",
        "Revision",
        "Series",
        "Watch",
        "Window",
        "broadcast",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - it costs more than all else here

        found: Any = version("agora-analytics")
    elif name in _HOME_OF:
        found = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    elif name in __all__:
        found = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
