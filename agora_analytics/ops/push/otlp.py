"""OTLP over HTTP in Protocol Buffers: gauges whose points have the window's time, which no instrument can give them.

The numbers of the fields are those of `ExportMetricsServiceRequest` in opentelemetry-proto 1.x.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from typing import Final

from agora_analytics._core.decoding.scanner import Steps
from agora_analytics.ops.metrics.families import Family, Value
from agora_analytics.ops.push.protobuf import double, field, fields, fixed

HEADERS: Final = {"Content-Type": "application/x-protobuf"}

RETRIED: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the specification lets a request be sent again."""

_UNITS: Final = {"agora_realtime_users": "{user}", "agora_realtime_channels": "{channel}"}
_RATIO: Final = "_ratio"


def body(values: Iterable[Value], ts: int) -> Steps[bytes]:
    """Return a request with one data point of each series at a time in UTC seconds."""
    points: dict[Family, bytearray] = {}
    for value in values:
        points.setdefault(value.family, bytearray()).extend(field(1, _point(value, ts)))
        yield None
    scope = field(1, field(1, "agora_analytics") + field(2, version("agora-analytics")))
    # One metric for all its points: receivers take two of one name for a conflict.
    metrics = (field(2, _gauge(family, bytes(found))) for family, found in points.items())
    resource = _attribute(1, "service.name", "agora-analytics")
    return field(1, field(1, resource) + field(2, scope + b"".join(metrics)))


def rejected(answer: bytes) -> tuple[int, str]:
    """Return how many points of a request that was accepted were not, and what the receiver says about them."""
    try:
        partial = fields(answer).get(1, b"")
        found = fields(partial) if isinstance(partial, bytes) else {}
    except ValueError:
        return 0, ""
    number, text = found.get(1, 0), found.get(2, b"")
    shown = text.decode(errors="replace") if isinstance(text, bytes) else ""
    return number if isinstance(number, int) else 0, shown


def message(answer: bytes) -> str:
    """Return the message of a `Status`, which is the body of an error; the body as text if it is none."""
    try:
        text = fields(answer).get(2, answer)
    except ValueError:
        text = answer
    return (text if isinstance(text, bytes) else answer).decode(errors="replace")


def _gauge(family: Family, points: bytes) -> bytes:
    # Receivers append the unit to the name: "1" as `_ratio`, which these names have, and nothing for one in braces.
    unit = "1" if family.name.endswith(_RATIO) else _UNITS.get(family.name, "")
    return field(1, family.name) + field(2, family.help) + field(3, unit) + field(5, points)


def _point(value: Value, ts: int) -> bytes:
    attributes = b"".join(_attribute(7, name, text) for name, text in value.labels.items())
    return fixed(3, ts * 10**9) + double(4, value.value) + attributes


@lru_cache(maxsize=4_096)  # each window has nearly the same
def _attribute(number: int, name: str, text: str) -> bytes:
    return field(number, field(1, name) + field(2, field(1, text)))
