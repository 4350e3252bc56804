"""OTLP over HTTP in JSON: gauges whose data points have the window's time, which no instrument of an SDK can give."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final

from agora_analytics.ops.metrics.families import Value

HEADERS: Final = {"Content-Type": "application/json"}


def body(values: Iterable[Value], ts: int) -> bytes:
    """Return a request with one data point of each series at a time in UTC seconds."""
    metrics: dict[str, dict[str, Any]] = {}
    for value in values:
        family = value.family
        metric = metrics.setdefault(
            family.name, {"name": family.name, "description": family.help, "gauge": {"dataPoints": []}}
        )
        point = {"attributes": _attributes(value.labels), "timeUnixNano": f"{ts}000000000", "asDouble": value.value}
        metric["gauge"]["dataPoints"].append(point)
    scope = {"name": "agora_analytics", "version": version("agora-analytics")}
    resource = {"attributes": _attributes({"service.name": "agora-analytics"})}
    found = {"resource": resource, "scopeMetrics": [{"scope": scope, "metrics": list(metrics.values())}]}
    return json.dumps({"resourceMetrics": [found]}).encode()


def rejected(answer: bytes) -> str:
    """Return why a receiver rejected some of the points of a request that it accepted; empty if it did not."""
    try:
        partial = json.loads(answer).get("partialSuccess") or {}
        number = int(partial.get("rejectedDataPoints") or 0)
    except (ValueError, TypeError, AttributeError):
        return ""
    return f"{number} points were rejected: {partial.get('errorMessage') or 'no reason given'}" if number else ""


def _attributes(labels: Any) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": value}} for name, value in labels.items()]
