"""Frozen attrs classes for every answer, with the service's own field names and types; see each module."""

from __future__ import annotations

from agora_analytics.models.calls import (
    Call,
    CallPage,
    FreezeBucket,
    MetricsAnswer,
    Session,
    SessionMetrics,
    SessionPage,
    Statistic,
    Track,
    Uid,
)
from agora_analytics.models.envelope import Answer, BadRow, Found, Rows
from agora_analytics.models.points import Number, Point, Ranked, Total, shape

__all__ = [
    "Answer",
    "BadRow",
    "Call",
    "CallPage",
    "Found",
    "FreezeBucket",
    "MetricsAnswer",
    "Number",
    "Point",
    "Ranked",
    "Rows",
    "Session",
    "SessionMetrics",
    "SessionPage",
    "Statistic",
    "Total",
    "Track",
    "Uid",
    "shape",
]
