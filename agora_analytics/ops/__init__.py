"""Operations: metrics, traces, alerts, a live page, reports, a check of the account; each needs only its extra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door_of_modules

if TYPE_CHECKING:
    from agora_analytics.ops import alerts, doctor, report
    from agora_analytics.ops.fleet.monitor import *
    from agora_analytics.ops.metrics.collector import *
    from agora_analytics.ops.push.push import *
    from agora_analytics.ops.tracing.otel import *
    from agora_analytics.ops.web.routes import *
    from agora_analytics.ops.web.state import *

__all__ = [
    "Collector",
    "FleetMonitor",
    "LiveState",
    "OpenTelemetry",
    "Push",
    "PushError",
    "alerts",
    "doctor",
    "report",
    "routes",
]

__getattr__, __dir__ = door_of_modules(
    globals(),
    {
        "Collector": "metrics.collector",
        "FleetMonitor": "fleet.monitor",
        "LiveState": "web.state",
        "OpenTelemetry": "tracing.otel",
        "Push": "push.push",
        "PushError": "push.push",
        "alerts": "alerts",
        "doctor": "doctor",
        "report": "report",
        "routes": "web.routes",
    },
)
