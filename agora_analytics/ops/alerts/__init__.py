"""Alerts on real-time windows: rules, their evaluation over a watch, and sinks; `ops.alerts`.

```python
from agora_analytics.ops import alerts

rule = alerts.parse("videoFreezeRate:WebRTC > 5% for 2 with 20 users")
async with client.realtime.watch(*alerts.watched([rule])) as watch:
    async for alert in alerts.evaluate(watch, [rule], worst=alerts.WorstCalls(client)):
        print(alert.text)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.ops.alerts.alert import *
    from agora_analytics.ops.alerts.evaluation import *
    from agora_analytics.ops.alerts.evaluator import *
    from agora_analytics.ops.alerts.parsing import *
    from agora_analytics.ops.alerts.rules import *
    from agora_analytics.ops.alerts.sinks import *
    from agora_analytics.ops.alerts.webhook import *
    from agora_analytics.ops.alerts.worst_calls import *

__all__ = [
    "Alert",
    "AlertFile",
    "AlertLog",
    "AlertSink",
    "CallsInUse",
    "Evaluator",
    "Rule",
    "Undelivered",
    "Unknown",
    "Webhook",
    "WorstCall",
    "WorstCalls",
    "WorstUser",
    "calls_in_use",
    "evaluate",
    "parse",
    "verify_signature",
    "watched",
]

__getattr__, __dir__ = door(
    globals(), "alert", "rules", "parsing", "evaluator", "sinks", "worst_calls", "webhook", "evaluation"
)
