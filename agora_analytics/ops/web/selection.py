"""Which series to watch if none are named: as many as the plan can keep fresh."""

from __future__ import annotations

from itertools import product
from typing import Final

from agora_analytics.catalogue import Dimension, Product, QualityMetric, RealtimeUsageMetric
from agora_analytics.client import AnalyticsClient
from agora_analytics.ops.alerts.rules import unweighted
from agora_analytics.plans import REALTIME_USAGE
from agora_analytics.streams.watch.series import Series

MAX_INTERVAL: Final = 360
"""Seconds between two polls that a page should not exceed: two series on Premium, six on Enterprise."""

_LEAST: Final = 2
"""Series that are watched even if the plan polls them less often."""

_METRICS: Final = (
    RealtimeUsageMetric.USER_COUNT,
    QualityMetric.VIDEO_FREEZE_RATE,
    QualityMetric.AUDIO_FREEZE_RATE,
    QualityMetric.NETWORK_DELAY,
    QualityMetric.JOIN_SUCCESS_IN_5S_RATE,
    RealtimeUsageMetric.CHANNEL_COUNT,
)
"""The metrics of `CANDIDATES`, the most important first."""

CANDIDATES: Final = (
    *(Series(metric, product=kind) for metric, kind in product(_METRICS[:2], Product)),
    Series(_METRICS[2], product=Product.NATIVE),
    Series(_METRICS[0], product=Product.NATIVE, dimension=Dimension.COUNTRY),
    *(Series(metric, product=kind) for metric, kind in product(_METRICS[3:], Product)),
    *(
        Series(_METRICS[0], product=Product.NATIVE, dimension=name)
        for name in (Dimension.NET, Dimension.OS, Dimension.SDK)
    ),
)
"""Series worth watching, the most important first."""


def sensible_series(client: AnalyticsClient, needed: tuple[Series, ...] = ()) -> tuple[Series, ...]:
    """Return the series that rules need, and the candidates that the plan can poll every six minutes with them.

    Without rules two candidates at least; empty without real-time data.
    """
    if not client.plan.offers(REALTIME_USAGE):
        return needed
    chosen = needed or CANDIDATES[:_LEAST]
    for one in with_watched(chosen, CANDIDATES)[len(chosen) :]:
        coverage = client.realtime.coverage(*chosen, one)
        if not coverage.complete or coverage.poll_interval > MAX_INTERVAL:
            # In order of importance: a later series that is cheaper does not take the place of this one.
            break
        chosen = (*chosen, one)
    return chosen


def with_watched(series: tuple[Series, ...], needed: tuple[Series, ...]) -> tuple[Series, ...]:
    """Return series with those of others that are not among them; how often one is polled makes no difference."""
    known = set(map(unweighted, series))
    return (*series, *(one for one in needed if one not in known))
