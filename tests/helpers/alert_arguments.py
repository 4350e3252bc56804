"""The public methods of alerts; the others are in `argument_kinds`."""

from __future__ import annotations

from helpers.argument_kinds import CLIENT, Method

from agora_analytics import Series
from agora_analytics.ops import alerts

RULE = alerts.parse("userCount < 5")
WATCH = CLIENT.realtime.watch(Series("userCount", product="Native"))
URL = "https://hooks.example.com/"

ALERTS = [
    Method("alerts.parse", alerts.parse, {"text": "userCount < 5"}, {"allow_unknown": "flag"}),
    Method(
        "alerts.Rule",
        alerts.Rule,
        {"series": RULE.series, "comparison": ">", "threshold": 5},
        {
            "series": "object",
            "comparison": "choice",
            "threshold": "number",
            "windows": "count",
            "min_users": "count",
            "recovery": "number or None",
            "recovery_windows": "count or None",
            "silence": "count",
            "no_data": "count or None",
            "max_values": "count",
        },
    ),
    Method("alerts.Evaluator", alerts.Evaluator, {"rules": [RULE]}, {"rules": "list"}),
    Method("alerts.evaluate", alerts.evaluate, {"watch": WATCH, "rules": [RULE]}, {"watch": "object", "rules": "list"}),
    Method(
        "alerts.WorstCalls",
        alerts.WorstCalls,
        {"client": CLIENT},
        {"client": "object", "limit": "count", "details": "count", "requests_per_day": "count", "timeout": "number"},
    ),
    Method("alerts.AlertFile", alerts.AlertFile, {}, {"path": "path"}),
    Method(
        "alerts.Webhook",
        alerts.Webhook,
        {"url": URL},
        {"timeout": "number", "retry": "object", "close_timeout": "number"},
    ),
]
