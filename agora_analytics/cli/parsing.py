"""Names on the command line: lists with commas, units of metrics, and what completion offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

import agora_analytics as agora
from agora_analytics.catalogue import (
    FreezeMetric,
    Metric,
    MetricId,
    Product,
    QualityMetric,
    RealtimeUsageMetric,
    TimelineMetric,
    UsageMetric,
)

METRICS: Final[dict[str, type[Metric]]] = {
    "usage": UsageMetric,
    "quality": QualityMetric,
    "realtime_usage": RealtimeUsageMetric,
    "freeze": FreezeMetric,
    "timeline": TimelineMetric,
}
"""All metrics that are asked for by name."""


def listed(text: str) -> tuple[str, ...]:
    """Cut a list with commas; an empty text is an empty list."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def uids_of(text: str) -> tuple[int | str, ...]:
    """Cut a list of user IDs; numbers become numbers, so that they are checked as such."""
    return tuple(int(part) if part.isdecimal() else part for part in listed(text))


def mids_of(text: str) -> frozenset[int]:
    """Cut a list of metric ids, by number or by name."""
    return frozenset(map(_mid, listed(text)))


def filters_of(texts: Iterable[str]) -> tuple[agora.Filter, ...]:
    """Read filters like `country=China`."""
    return tuple(map(_filter, texts))


def series_of(text: str) -> agora.Series:
    """Read a real-time series: METRIC:PRODUCT, or METRIC for the native SDKs."""
    metric, _, product = text.partition(":")
    return agora.Series(metric, product=product or Product.NATIVE)


def unit_of(name: str) -> str:
    """Return a metric's unit; empty for counts and for what is not known."""
    found = (metric.unit for kind in METRICS.values() for metric in kind if metric == name)
    return next(found, "")


def suggest(*kinds: type[Enum]) -> Callable[[str], list[str]]:
    """Return what completes a name: the catalogue's, which are no wall."""
    names = [str(one.value) if isinstance(one, str) else one.name.lower() for kind in kinds for one in kind]
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def _mid(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return MetricId[text.upper()].value
    except KeyError:
        raise ValueError(f"mids: {text!r} is neither a number nor one of the names that `metrics` lists") from None


def _filter(text: str) -> agora.Filter:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"--filters={text!r}: allowed is NAME=VALUE, like country=China")
    return agora.Filter(name, value)
