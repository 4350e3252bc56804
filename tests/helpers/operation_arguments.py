"""The public methods of operations, and of streams for their observers; the others are in `argument_kinds`."""

from __future__ import annotations

from helpers.argument_kinds import CLIENT, Method

from agora_analytics import Series
from agora_analytics.fleet import Fleet
from agora_analytics.ops import Collector, FleetMonitor, Push

FLEET = Fleet(store="memory://")
COLLECTOR = Collector(CLIENT)
WATCH = CLIENT.realtime.watch(Series("userCount", product="Native"))

OPERATIONS = [
    Method("Watch.final_before", WATCH.final_before, {}, {"series": "object"}),
    Method("Watch.on_event", WATCH.on_event, {}, {"listener": "function"}),
    Method(
        "Collector",
        Collector,
        {"client": CLIENT},
        {
            "client": "object",
            "account": "text or None",
            "apps": "mapping",
            "channels": "flag",
            "max_series": "count",
        },
    ),
    Method("Collector.watch", COLLECTOR.watch, {"watch": WATCH}, {"watch": "object", "name": "text"}),
    Method(
        "Collector.follow", COLLECTOR.follow, {"follow": CLIENT.calls.follow()}, {"follow": "object", "name": "text"}
    ),
    Method("Collector.export", COLLECTOR.export, {}, {"name": "text"}),
    Method("Collector.page", COLLECTOR.page, {}, {"counts": "function"}),
    Method("Collector.fleet", COLLECTOR.fleet, {"monitor": FleetMonitor(FLEET)}, {"monitor": "object"}),
    Method("Collector.render", COLLECTOR.render, {}, {"accept": "text or None"}),
    Method("FleetMonitor", FleetMonitor, {"fleet": FLEET}, {"fleet": "object", "every": "number"}),
    Method("FleetMonitor.on_status", FleetMonitor(FLEET).on_status, {}, {"listener": "function"}),
    Method(
        "Push",
        Push,
        {"url": "http://host", "app": "shop"},
        {
            "url": "object",
            "app": "text",
            "protocol": "choice",
            "replaces_values": "flag",
            "headers": "mapping",
            "max_wait": "number",
            "timeout": "number",
        },
    ),
    Method("Push.send", Push("http://host", app="shop").send, {}, {"event": "object"}),
]
