"""Frozen attrs classes for every answer, with the service's own field names and types; see each module."""

from __future__ import annotations

from agora_analytics.models.answers import Answer
from agora_analytics.models.calls import (
    Call,
    CallPage,
    FreezeAnswer,
    FreezeBucket,
    MetricsAnswer,
    Session,
    SessionMetrics,
    SessionPage,
    Statistic,
    StatisticsAnswer,
    Track,
    Uid,
)
from agora_analytics.models.points import Number, Point, Ranked, RowsAnswer, Total, shape

__all__ = [
    "Answer",
    "Call",
    "CallPage",
    "FreezeAnswer",
    "FreezeBucket",
    "MetricsAnswer",
    "Number",
    "Point",
    "Ranked",
    "RowsAnswer",
    "Session",
    "SessionMetrics",
    "SessionPage",
    "Statistic",
    "StatisticsAnswer",
    "Total",
    "Track",
    "Uid",
    "shape",
]
