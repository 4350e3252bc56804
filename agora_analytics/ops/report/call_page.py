"""The report of one call: its figures over time, its sessions, and who froze whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from agora_analytics.export.queries import QueryResult
from agora_analytics.ops.report.answers import answer_section
from agora_analytics.ops.report.charts import Points, bar, lines
from agora_analytics.ops.report.completeness import completeness
from agora_analytics.ops.report.markup import Html, figure, joined, name, page, section, table, tag, text, time
from agora_analytics.ops.report.week_page import tiles
from agora_analytics.spans import Span, is_moment

MAX_ROWS: Final = 200
"""Rows of a table: the worst ones."""

_OF_CALL: Final = frozenset({"app_id", "call_id", "channel"})
"""Columns that say the same in each row of one call."""

_HEADS: Final = (
    "user",
    "joined (UTC)",
    "left (UTC)",
    "network",
    "device",
    "operating system",
    "SDK version",
    "audio frozen",
    "video frozen",
)


def _moment(ts: int | None) -> int | None:
    return ts if is_moment(ts) else None


@attrs.frozen(kw_only=True)
class SessionRow:
    """A session on a report; times are UTC seconds or None for impossible ones, rates are fractions."""

    user: str | None
    network: str | None
    device: str | None
    platform: str | None
    sdk_version: str | None
    joined: int | None = attrs.field(converter=_moment)
    left: int | None = attrs.field(converter=_moment)
    audio: float | None
    video: float | None

    @property
    def worst(self) -> float:
        """The higher freeze rate."""
        return max(self.audio or 0.0, self.video or 0.0)


@attrs.frozen(kw_only=True)
class Chart:
    """One chart: series of one unit, and where they come from."""

    title: str
    unit: str
    series: Sequence[tuple[str, Points]]


@attrs.frozen(kw_only=True)
class CallData:
    """What is on the report of a call; `tables` are freeze rates by a dimension: title and rows."""

    call_id: str
    channel: str | None
    span: Span | None
    source: str
    totals: Sequence[tuple[str, Any, str]]
    charts: Sequence[Chart]
    sessions: Sequence[SessionRow]
    tables: Sequence[tuple[str, Sequence[tuple[str | None, int | None, float | None]]]]
    answers: Mapping[str, QueryResult] = attrs.field(factory=dict)
    notes: Sequence[str] = ()


def call_page(data: CallData) -> Html:
    """Return the report of a call as an HTML document."""
    channel = name(data.channel) if data.channel else text("(unknown channel)")
    when = (
        joined([time(data.span.start), text(" to "), time(data.span.end), text(" UTC")])
        if data.span
        else text("unknown time")
    )
    charts = [lines(chart.title, chart.series, chart.unit) for chart in data.charts]
    return page(
        f"Call {data.call_id}",
        joined([text("Call in "), channel]),
        tag("p", joined([text("Call "), tag("code", text(data.call_id)), text(", "), when])),
        completeness(data.notes),
        tiles("The call", data.source, data.totals),
        section("Over time", data.source, tag("div", joined(charts), class_="charts")),
        *(_breakdown(title, rows, data.source) for title, rows in data.tables),
        *(
            answer_section("Who froze whom", answer, data.source, hidden=_OF_CALL)
            for answer in data.answers.values()
            if not answer.missing
        ),
        _sessions(data),
    )


def _breakdown(title: str, rows: Sequence[tuple[str | None, int | None, float | None]], source: str) -> Html:
    highest = max((rate or 0.0 for _, _, rate in rows), default=0.0)
    ordered = sorted(rows, key=lambda row: -(row[2] or 0.0))
    cells = (
        [name(value), figure(users), joined([figure(rate, "fraction"), bar(rate, highest)])]
        for value, users, rate in ordered[:MAX_ROWS]
    )
    more = [f"The first {MAX_ROWS} of {len(rows)} rows."] if len(rows) > MAX_ROWS else []
    heads = [text("value"), text("users"), text("frozen")]
    notes = (tag("p", text(note), class_="none") for note in more)
    return section(title, source, table(title, heads, cells, numbers=[False, True, True]), *notes)


def _sessions(data: CallData) -> Html:
    worst = sorted(data.sessions, key=lambda one: -one.worst)
    shown = worst[:MAX_ROWS]
    if not shown:
        return section("Sessions", data.source, tag("p", text("No sessions."), class_="none"))
    rows = (
        [
            *(name(one.user), time(one.joined), time(one.left)),
            *map(name, (one.network, one.device, one.platform, one.sdk_version)),
            *(figure(rate, "fraction") for rate in (one.audio, one.video)),
        ]
        for one in shown
    )
    numbers = [False] * 7 + [True] * 2
    note = f"{len(shown)} of {len(worst)} sessions, worst freeze rate first."
    listed = table("Sessions", list(map(text, _HEADS)), rows, numbers=numbers)
    return section("Sessions", data.source, tag("p", text(note), class_="none"), listed)
