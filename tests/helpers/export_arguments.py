"""The public methods of exports; the others are in `argument_kinds`."""

from __future__ import annotations

from helpers.argument_kinds import CLIENT, SELECTION, Method

EXPORTS = [
    Method(
        "Exporter.estimate",
        CLIENT.export.estimate,
        {"selection": SELECTION},
        {"selection": "object", "order": "choice", "max_requests": "count or None"},
    ),
    Method(
        "Exporter.run",
        CLIENT.export.run,
        {"selection": SELECTION, "to": "memory://x", "format": "jsonl"},
        {
            "selection": "object",
            "to": "path",
            "format": "choice",
            "order": "choice",
            "min_users": "count",
            "max_requests": "count or None",
            "concurrency": "count",
            "on_progress": "function or None",
            "drain": "object or None",
            "state": "path or None",
            "sink_options": "mapping",
            "rebuild": "flag",
            "process": "flag",
        },
    ),
    Method(
        "Exporter.merge",
        CLIENT.export.merge,
        {"shards": SELECTION.shards(), "to": "memory://x"},
        {"shards": "list", "to": "path", "sink_options": "mapping"},
    ),
    Method("Selection.shards", SELECTION.shards, {}, {"apps": "count", "days": "count"}),
]
