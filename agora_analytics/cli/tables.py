"""Tables for people: which columns of each model are shown, and how they are formatted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from agora_analytics.catalogue import MetricId
from agora_analytics.cli.formatting import (
    SeriesSummary,
    TimedValue,
    format_duration,
    format_number,
    format_percent,
    format_time,
    format_value,
)
from agora_analytics.cli.parsing import unit_of
from agora_analytics.cli.sorting import call_duration, session_duration
from agora_analytics.ops.alerts.ranking import freeze_impact
from agora_analytics.spans import DAY

if TYPE_CHECKING:
    from agora_analytics import ClockState, QuotaState, Series
    from agora_analytics.models import Call, FreezeBucket, Point, Ranked, Session, SessionMetrics, Statistic, Total

NO_ACCESS = "no API access"
"""Shown for a plan without limits."""

# More lines than that scroll the plot off the screen.
_LISTED = 40
"""Points up to which a series is also listed point by point."""


@attrs.frozen
class Plot:
    """A cell with a sparkline of a series."""

    series: tuple[TimedValue, ...]


@attrs.frozen
class Bar:
    """A cell with a bar; `highest` fills its width."""

    value: float | None
    highest: float


Cell = str | Plot | Bar


@attrs.frozen
class Table:
    """A table: title, columns (a leading `>` aligns to the right) and rows.

    `optional` columns are left out on a narrow terminal; `empty` is shown if there are no rows.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    optional: frozenset[str] = frozenset()
    empty: str = "nothing found"


def calls(found: Sequence[Call], title: str = "calls", *, impact: bool = False) -> Table:
    """Return calls, one per row; with `impact` also the freeze impact, which the worst calls are sorted by."""
    columns = ("call_id", "cname", "started (UTC)", ">lasted", ">peak", ">average", ">audio freeze", ">video freeze")
    rows = tuple((*_call(call), format_number(freeze_impact(call)) if impact else "") for call in found)
    return Table(title, (*columns, ">freeze x users"), rows, frozenset({">average"}))


def sessions(found: Sequence[Session], title: str = "sessions") -> Table:
    """Return sessions, one per row."""
    columns = (
        "sid",
        ">uid",
        "joined (UTC)",
        ">stayed",
        "platform",
        "network",
        "sdk",
        "roles",
        ">audio freeze",
        ">video freeze",
    )
    return Table(title, columns, tuple(map(_session, found)), frozenset({"network", "sdk", "roles"}))


def metrics(session: SessionMetrics) -> Table:
    """Return the tracks of one session, one per row."""
    columns = ("metric", "unit", ">peer", "over time", ">lowest", ">mean", ">highest", ">samples")
    return Table(f"session {session.sid}", columns, tuple(_tracks(session)), frozenset({">samples"}))


def session_metrics(found: Sequence[SessionMetrics]) -> tuple[Table, ...]:
    """Return a table of tracks for each session."""
    return tuple(map(metrics, found))


def statistics(found: Sequence[Statistic], metric: str, dimension: str) -> Table:
    """Return averages by the values of a dimension."""
    highest = max((one.value or 0 for one in found), default=0)
    rows = (
        (one.dimension_value or "", format_number(one.user_count), format_percent(one.value), Bar(one.value, highest))
        for one in found
    )
    return Table(f"{metric} by {dimension}", (dimension, ">users", ">mean", ""), tuple(rows))


def freeze_buckets(found: Sequence[FreezeBucket], metric: str) -> Table:
    """Return the number of users in each range of a freeze rate."""
    highest = max((bucket.user_count or 0 for bucket in found), default=0)
    rows = ((bucket.bucket, format_number(bucket.user_count), Bar(bucket.user_count, highest)) for bucket in found)
    return Table(f"users by {metric}", (metric, ">users", ""), tuple(rows))


def series(points: Sequence[Point], title: str, by: str = "") -> tuple[Table, ...]:
    """Return a plot for each value of `by` (a dimension, or `uid`); a single short series is also listed."""
    # A title begins with the metric.
    unit = unit_of(title.partition(" ")[0])
    groups: dict[str, list[Point]] = {}
    for point in points:
        group = point.uid if point.uid is not None else point.dimension_value
        groups.setdefault("" if group is None else str(group), []).append(point)
    table = plots(title, by, tuple((name, unit, group) for name, group in groups.items()))
    return (table, _points(points, title, unit)) if len(groups) == 1 and len(points) <= _LISTED else (table,)


def plots(title: str, by: str, rows: Sequence[tuple[str, str, Sequence[Point]]]) -> Table:
    """Return series, one per row, from name, unit and points; series without values are left out."""
    columns = (by, "over time", ">lowest", ">mean", ">highest", ">last", "from (UTC)", "to (UTC)")
    drawn = (_plot(name, unit, points) for name, unit, points in rows)
    return Table(title, columns, tuple(row for row in drawn if row), frozenset({"from (UTC)", "to (UTC)"}))


def totals(found: Sequence[Total], title: str, unit: str, dimension: str | None) -> Table:
    """Return values over a whole span, and the usage that each is based on."""
    highest = max((total.value or 0 for total in found), default=0)
    rows = (
        (
            total.dimension_value or "",
            format_value(total.value, unit),
            format_number(total.ref_usage),
            # A single bar has nothing to be compared with.
            Bar(total.value, highest) if len(found) > 1 else "",
        )
        for total in found
    )
    return Table(title, (dimension or "", _heading(unit), ">based on usage", ""), tuple(rows))


def ranked(found: Sequence[Ranked], title: str, unit: str, dimension: str) -> Table:
    """Return the top list of one window."""
    highest = max((entry.value or 0 for entry in found), default=0)
    rows = (
        (
            entry.dimension_value or "",
            format_value(entry.value, unit),
            format_number(entry.user_count),
            Bar(entry.value, highest),
        )
        for entry in found
    )
    window = format_time(found[0].window_start) if found else ""
    return Table(f"{title}, 20 s from {window} UTC", (dimension, _heading(unit), ">users", ""), tuple(rows))


def quota(states: Sequence[QuotaState], title: str = "quota") -> Table:
    """Return the usage of each counter."""
    columns = ("counter", "per", ">limit", ">used", ">left", ">reserved", "waiting", ">resets in", ">refusals")
    rows = (
        (
            state.counter,
            state.unit,
            format_number(state.limit),
            format_number(state.used),
            format_number(state.left),
            format_number(state.expected) if state.expected else "",
            ", ".join(f"{count} {priority}" for priority, count in state.priorities.items() if count),
            format_duration(state.resets_in) if state.resets_in else "",
            format_number(state.refusals) if state.refusals else "",
        )
        for state in states
    )
    return Table(title, columns, tuple(rows), empty=NO_ACCESS)


def spent_today(states: Sequence[QuotaState], before: Sequence[QuotaState]) -> str:
    """Return one line about today's use of each counter that was used since `before`; empty if there is none."""
    used = {state.counter: state.used for state in before if state.unit == "day"}
    days = [state for state in states if state.unit == "day" and state.used > used.get(state.counter, 0)]
    parts = [f"{state.used} of the day's {state.limit:,} {state.counter} requests" for state in days]
    return f"spent today: {', '.join(parts)}" if parts else ""


def service_clock(clock: ClockState) -> str:
    """Return one line about the service's clock."""
    least, most = clock.offset, clock.offset + clock.uncertainty
    # Infinite before the first answer: such bounds say nothing.
    if clock.uncertainty > DAY:
        return "the service's clock is not known yet"
    if least < 0 < most:
        return f"the service's clock is between {-least:.2f} s behind and {most:.2f} s ahead of this machine's"
    near, far = sorted((abs(least), abs(most)))
    return f"the service's clock is {near:.2f} to {far:.2f} s {'ahead of' if least >= 0 else 'behind'} this machine's"


def live_row(name: str, unit: str, values: Sequence[TimedValue]) -> tuple[Cell, ...]:
    """Return the row of a watched series."""
    return (name, Plot(tuple(values)), *_summary(SeriesSummary.of(values), unit))


def series_value(series: Series, value: float | None) -> str:
    """Return the text of one value of a series."""
    return f"{series} {format_value(value, unit_of(series.metric)) or 'missing'}"


def _summary(summary: SeriesSummary | None, unit: str) -> tuple[str, ...]:
    values = (summary.lowest, summary.mean, summary.highest, summary.last) if summary else (None,) * 4
    return tuple(format_value(value, unit) for value in values)


def _heading(unit: str) -> str:
    """Return the heading of a column of values: fractions are shown in percent, with the sign in each cell."""
    return f">{unit if unit and unit != 'fraction' else 'value'}"


def _call(call: Call) -> tuple[Cell, ...]:
    return (
        call.call_id,
        call.cname or "",
        format_time(call.created_ts),
        format_duration(call_duration(call)) if call.span else "open",
        format_number(call.call_pcu),
        format_number(call.call_acu),
        format_percent(call.call_audio_freeze_rate),
        format_percent(call.call_video_freeze_rate),
    )


def _session(session: Session) -> tuple[Cell, ...]:
    stayed = session_duration(session)
    return (
        session.sid,
        # People know a user by the account, where there is one; the number is only its stand-in.
        str(session.account or ("" if session.uid is None else session.uid)),
        format_time(session.join_ts),
        "still in call" if stayed is None else format_duration(stayed),
        session.platform or "",
        session.network or "",
        session.sdk_version or "",
        ", ".join(session.roles or ()),
        format_percent(session.user_audio_freeze_rate),
        format_percent(session.user_video_freeze_rate),
    )


def _tracks(session: SessionMetrics) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for track in sorted(session.data, key=lambda track: (track.mid, str(track.peer_uid or 0))):
        summary = SeriesSummary.of(track.points)
        if summary:
            figures = (summary.lowest, summary.mean, summary.highest, len(track.points))
            peer = str(track.peer_uid or "")
            name = MetricId.name_of(track.mid)
            rows.append((name, _unit(track.mid), peer, Plot(track.points), *map(format_number, figures)))
    return rows


def _unit(mid: int) -> str:
    return MetricId(mid).unit if mid in set(MetricId) else ""


def _plot(name: str, unit: str, points: Sequence[Point]) -> tuple[Cell, ...]:
    values = tuple((point.ts, point.value) for point in points if point.value is not None)
    summary = SeriesSummary.of(values)
    if summary is None:
        return ()
    return (name, Plot(values), *_summary(summary, unit), format_time(values[0][0]), format_time(values[-1][0]))


def _points(points: Sequence[Point], title: str, unit: str) -> Table:
    highest = max(point.value or 0 for point in points)
    rows = ((format_time(point.ts), format_value(point.value, unit), Bar(point.value, highest)) for point in points)
    return Table("", ("from (UTC)", f">{title}", ""), tuple(rows))
