"""Alerts, for mypy and pyright."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_type

from multidict import CIMultiDict

from agora_analytics import AnalyticsClient, Checkpoint, Series, Span, Window
from agora_analytics.models import Call
from agora_analytics.ops import alerts
from agora_analytics.ops.alerts import (
    Alert,
    AlertFile,
    AlertLog,
    AlertSink,
    CallsInUse,
    Evaluator,
    Rule,
    Undelivered,
    Unknown,
    Webhook,
    WorstCall,
    WorstCalls,
    WorstUser,
)


class Mine:
    """A sink of one's own."""

    async def send(self, alert: Alert) -> None:
        """Send."""

    def pending(self) -> Sequence[Alert]:
        """Return nothing."""
        return ()

    async def flush(self) -> None:
        """Do nothing."""


async def evaluating(client: AnalyticsClient) -> None:
    rule = alerts.parse("videoFreezeRate:WebRTC > 5%", allow_unknown=True)
    assert_type(rule, Rule)
    assert_type(alerts.watched([rule]), tuple[Series, ...])
    assert_type((rule.series, rule.users, rule.no_data), tuple[Series, Series | None, int | None])
    Rule(series=rule.series, comparison="==", threshold=1)  # type: ignore[arg-type]
    watch = client.realtime.watch(*alerts.watched([rule]))
    worst = WorstCalls(client, limit=3, details=1, requests_per_day=50, link="https://x/{call_id}", timeout=5.0)
    assert_type(worst.left_today, int)
    async with Webhook("https://x/", secret="whsec_eA==", timeout=5.0) as webhook:
        sinks: list[AlertSink] = [AlertLog(), AlertFile("-"), webhook, Mine()]
        assert_type(webhook.undelivered, tuple[Undelivered, ...])
        async for alert in alerts.evaluate(watch, [rule], sinks=sinks, worst=worst):
            telling(alert)
    found = await alerts.calls_in_use(client, Span(0, 20), metric="videoFreezeRate", cname="room")
    assert_type(found, CallsInUse)
    assert_type((found.calls, found.span, found.since_ts), tuple[tuple[Call, ...], Span, int | None])
    assert_type(alerts.verify_signature("secret", CIMultiDict[str](), b"", now=0.0), bool)
    assert_type(alerts.verify_signature("secret", {}, b""), bool)


def telling(alert: Alert) -> None:
    assert_type(alert.kind, Literal["firing", "recovered", "no_data"])
    assert_type((alert.key, alert.incident, alert.group, alert.text), tuple[str, str, str | None, str])
    assert_type(alert.unknown, tuple[Unknown, ...])
    assert_type(alert.calls, tuple[WorstCall, ...])
    for call in alert.calls:
        assert_type(call.worst_users, tuple[WorstUser, ...])


def applying(rule: Rule, window: Window, saved: Checkpoint) -> None:
    evaluator = Evaluator([rule], source="app", checkpoint=saved)
    assert_type(evaluator.add(window, {rule.series: 20}), list[Alert])
    assert_type(evaluator.silent(60.0, 0.0), list[Alert])
    assert_type(evaluator.checkpoint, Checkpoint)
