"""The report of a week: its figures, trend, and the worst countries, networks, devices, calls and users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, Final

import attrs

from agora_analytics.export.queries import QueryResult
from agora_analytics.ops.report.answers import HIDDEN, answer_section, unanswered_section
from agora_analytics.ops.report.charts import Points, lines
from agora_analytics.ops.report.completeness import completeness
from agora_analytics.ops.report.markup import Html, figure, joined, name, page, section, tag, text, time
from agora_analytics.spans import DAY, Span, iso

TITLES: Final = {
    "worst_calls": "Worst calls",
    "worst_countries": "Worst countries",
    "worst_networks": "Worst networks",
    "worst_sdk_versions": "Worst SDK versions",
    "worst_devices": "Worst devices",
    "join_failures": "Join failures",
    "minutes_by_channel": "Minutes by channel",
    "who_froze_whom": "Who froze whom",
    "users_with_repeated_freezes": "Users with repeated freezes",
}
"""Sections, in order, by the question that each answers."""

QUESTIONS: Final = ("trend_by_day", *TITLES)
"""The questions that a report of a week needs."""


@attrs.frozen(kw_only=True)
class WeekData:
    """What is on the report of a week: `answers` by question, `totals` as label, value and unit."""

    span: Span
    source: str
    apps: Sequence[str]
    totals: Sequence[tuple[str, Any, str]]
    answers: Mapping[str, QueryResult]
    notes: Sequence[str]


def week_page(data: WeekData) -> Html:
    """Return the report of a week as an HTML document."""
    title = f"Call quality, {iso(data.span.start)[:10]} to {iso(data.span.end - 1)[:10]}"
    apps = joined([text("App ID: "), *(joined([name(one), text(" ")]) for one in data.apps)])
    hidden = HIDDEN - {"app_id"} if len(data.apps) > 1 else HIDDEN
    intro = tag("p", joined([time(data.span.start), text(" to "), time(data.span.end), text(" UTC. "), apps]))
    return page(
        title,
        text(title),
        intro,
        completeness(data.notes),
        tiles("The week", data.source, data.totals),
        _trend(data),
        *(
            answer_section(label, data.answers[key], data.source, hidden=hidden)
            for key, label in TITLES.items()
            if not data.answers[key].missing
        ),
        unanswered_section(data.answers, TITLES, data.source),
    )


def tiles(title: str, source: str, totals: Sequence[tuple[str, Any, str]]) -> Html:
    """Return a section of single figures with their units."""
    pairs = (
        tag("div", joined([tag("dt", text(label)), tag("dd", figure(value, unit))])) for label, value, unit in totals
    )
    return section(title, source, tag("dl", joined(pairs), class_="tiles"))


def _trend(data: WeekData) -> Html:
    answer = data.answers["trend_by_day"]
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def series(label: str, column: str) -> tuple[str, Points]:
        return label, [(int(row["day_utc"].replace(tzinfo=UTC).timestamp()), row[column]) for row in rows]

    rates = [series("audio", "audio_freeze_rate"), series("video", "video_freeze_rate")]
    charts = [
        lines("Freeze rate of calls by day", rates, "fraction", by_day=True),
        lines("Calls by day", [series("calls", "calls")], "", by_day=True),
        lines("Minutes of calls by day", [series("minutes", "call_minutes")], "min", by_day=True),
    ]
    partial = data.span.start % DAY or data.span.end % DAY
    note = "Days are UTC. The first and the last are not whole." if partial else "Days are UTC."
    return section(
        "Day by day",
        f"{data.source}, question trend_by_day",
        tag("div", joined(charts), class_="charts"),
        tag("p", text(note), class_="none"),
    )
