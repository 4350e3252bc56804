"""What reads exports, or what dlt reads: valid arguments and the kind of each; the others are in `argument_kinds`."""

from __future__ import annotations

from importlib.util import find_spec

from helpers.argument_kinds import CLIENT, END, SELECTION, START, Method, make_client

from agora_analytics import Span
from agora_analytics.dlt import agora_source, agora_sources, load_reports

FOLDER = {"folder": "no-such-folder"}
SPANNED = {"folder": "path", "span": "object or None"}
LOADING = {
    "selection": "object",
    "client": "function or None",
    "max_wait": "number",
    "allowed_lateness": "count",
    "name": "text",
}

READERS = [
    Method("agora_source", agora_source, {"selection": SELECTION}, LOADING | {"max_requests": "count or None"}),
    Method(
        "agora_sources",
        agora_sources,
        {"selection": SELECTION, "client": make_client},
        LOADING | {"requests": "count"},
    ),
    Method("load_reports", load_reports, {"pipeline": None}, {"source": "text"}),
]

if find_spec("duckdb"):
    from agora_analytics.export import queries
    from agora_analytics.ops import report

    READERS += [
        Method("queries.run", queries.run, FOLDER | {"name": "worst_networks"}, SPANNED | {"name": "choice"}),
        Method("queries.connect", queries.connect, FOLDER, SPANNED),
        Method("queries.views", queries.views, FOLDER, {"folder": "path"}),
        Method("report.week", report.week, FOLDER, SPANNED),
        Method("report.call", report.call, FOLDER | {"call_id": "c1"}, {"folder": "path", "call_id": "text"}),
        Method(
            "report.live_week",
            report.live_week,
            {"client": CLIENT, "max_requests": 20},
            {"client": "object", "max_requests": "count", "on_price": "function or None"},
        ),
        Method(
            "report.live_call",
            report.live_call,
            {"client": CLIENT, "call_id": "c1", "span": Span(START, END), "max_requests": 20},
            {
                "client": "object",
                "call_id": "text",
                "span": "object",
                "max_requests": "count",
                "on_price": "function or None",
            },
        ),
    ]
