"""Asyncio client for the Agora Analytics REST API that keeps every quota of the plan.

```python
async with AnalyticsClient.from_env() as client:
    async for call in client.calls.search(*client.calls.recent(timedelta(hours=8))):
        print(call.cname, call.started_at, call.call_audio_freeze_rate)
```
"""

from __future__ import annotations

from agora_analytics import catalogue, errors, models, plans, protocols
from agora_analytics._client import AnalyticsClient
from agora_analytics._retry import Retry
from agora_analytics._transport import HOSTS, Timeouts
from agora_analytics.endpoints import Filter
from agora_analytics.errors import (
    AgoraError,
    BadRequest,
    CheckpointError,
    DecodeError,
    LedgerError,
    NotFound,
    PlanRefused,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    ServerError,
    TransportError,
    TransportTimeout,
    Unauthorized,
)
from agora_analytics.models import (
    Call,
    CallPage,
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
from agora_analytics.quota import ClockState, FileLedger, Lane, MemoryLedger, Quota, QuotaSnapshot, QuotaState
from agora_analytics.spans import Span

__all__ = [
    "ENTERPRISE",
    "HOSTS",
    "PREMIUM",
    "STANDARD",
    "STARTER",
    "AgoraError",
    "AnalyticsClient",
    "BadRequest",
    "Call",
    "CallPage",
    "CheckpointError",
    "ClockState",
    "DecodeError",
    "FileLedger",
    "Filter",
    "FreezeBucket",
    "Lane",
    "LedgerError",
    "Limits",
    "MemoryLedger",
    "NotFound",
    "Plan",
    "PlanRefused",
    "Point",
    "Quota",
    "QuotaExhausted",
    "QuotaSnapshot",
    "QuotaState",
    "Ranked",
    "RateLimited",
    "ResponseError",
    "Retry",
    "ServerError",
    "Session",
    "SessionMetrics",
    "SessionPage",
    "Span",
    "Statistic",
    "Timeouts",
    "Total",
    "Track",
    "TransportError",
    "TransportTimeout",
    "Unauthorized",
    "__version__",
    "catalogue",
    "errors",
    "models",
    "plans",
    "protocols",
]


def __getattr__(name: str) -> str:
    """Look up `__version__` only when asked: reading metadata costs more than the rest of this file."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("agora-analytics")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
