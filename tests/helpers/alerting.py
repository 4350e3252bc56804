"""Windows for rules: a value each, and what alerts say about them in short."""

from __future__ import annotations

from agora_analytics import Gap, Series, Span, Window
from agora_analytics.models import Point
from agora_analytics.ops import alerts

START = 1_795_521_600
STEP = 20


def point(series: Series, ts: int, value: float, group: str | None = None) -> Point:
    return Point.of(ts, value, metric=series.metric, dimension=series.dimension, dimension_value=group)


def window(ts: int, values: dict, *, final: bool = True) -> Window:
    """A window with a number for each series, or a dictionary of them by dimension value; None is a missing one."""
    rows = {
        series: tuple(
            point(series, ts, number, group)
            for group, number in (value.items() if isinstance(value, dict) else [(None, value)])
        )
        for series, value in values.items()
        if value is not None
    }
    missing = {series: "no data" for series, value in values.items() if value is None}
    return Window(ts=ts, values=rows, missing=missing, final=final)


def events(rule: alerts.Rule, values, users=None, start: int = START) -> list:
    """Events for a rule: a window for each value, and a gap of so many windows for each text such as `gap 3`."""
    made, ts = [], start
    for place, value in enumerate(values):
        if isinstance(value, str):
            length = int(value.removeprefix("gap ")) * STEP
            made.append(Gap(span=Span(ts, ts + length)))
        else:
            length = STEP
            row = {rule.series: value}
            if rule.users is not None:
                row[rule.users] = users[place] if users else 100
            made.append(window(ts, row))
        ts += length
    return made


def run(rule: alerts.Rule | str, values, users=None) -> list[alerts.Alert]:
    """Return the alerts of a rule over values."""
    rule = alerts.parse(rule) if isinstance(rule, str) else rule
    evaluator = alerts.Evaluator([rule])
    return [alert for event in events(rule, values, users) for alert in evaluator.add(event)]


def short(found) -> list[tuple]:
    """Alerts as their kind, the number of their window, and their group if there is one."""
    return [(one.kind, (one.ts - START) // STEP, *([] if one.group is None else [one.group])) for one in found]
