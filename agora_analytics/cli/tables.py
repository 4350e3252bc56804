"""Tables for people of the library's values: what is worth seeing of each, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from agora_analytics.catalogue import MetricId
from agora_analytics.cli import formatting
from agora_analytics.cli.commands.ranking import frozen_users
from agora_analytics.cli.formatting import Pair, Summary, clock, lasting, measured, number, percent
from agora_analytics.cli.parsing import unit_of

if TYPE_CHECKING:
    from agora_analytics import ClockState, QuotaState, Series
    from agora_analytics.models import Call, FreezeBucket, Point, Ranked, Session, SessionMetrics, Statistic, Total

NO_ACCESS = "no API access"
"""What a plan without limits comes to."""

_LISTED = 40
"""Points up to which a series is also listed one by one."""


@attrs.frozen
class Plot:
    """A cell that is drawn: a series over time."""

    pairs: tuple[Pair, ...]


@attrs.frozen
class Bar:
    """A cell that is drawn: a value as a bar, which `highest` fills."""

    value: float | None
    highest: float


Cell = str | Plot | Bar


@attrs.frozen
class Table:
    """A table: its title, its columns (a `>` before the name puts numbers to the right), its rows.

    `spare` are columns that a narrow terminal does without; `empty` is what to say where there is no row.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    spare: frozenset[str] = frozenset()
    empty: str = "nothing found"


def calls(found: Sequence[Call], title: str = "calls", *, worst: bool = False) -> Table:
    """Calls, one a row; where they are the `worst`, with what they are sorted by."""
    columns = ("call_id", "cname", "started (UTC)", ">lasted", ">peak", ">average", ">audio freeze", ">video freeze")
    rows = tuple((*_call(one), number(frozen_users(one)) if worst else "") for one in found)
    return Table(title, (*columns, ">freeze x users"), rows, frozenset({">average"}))


def sessions(found: Sequence[Session], title: str = "sessions") -> Table:
    """Sessions, one a row."""
    columns = ("sid", ">uid", "joined (UTC)", ">stayed", "platform", "network", "sdk", "roles", ">audio", ">video")
    return Table(title, columns, tuple(map(_session, found)), frozenset({"network", "sdk", "roles"}))


def metrics(session: SessionMetrics) -> Table:
    """All tracks of one session, one a row."""
    columns = ("metric", "unit", ">peer", "over time", ">lowest", ">mean", ">highest", ">samples")
    return Table(f"session {session.sid}", columns, tuple(_tracks(session)), frozenset({">samples"}))


def all_metrics(found: Sequence[SessionMetrics]) -> tuple[Table, ...]:
    """All tracks of some sessions, a table for each."""
    return tuple(map(metrics, found))


def statistics(found: Sequence[Statistic], metric: str, dimension: str) -> Table:
    """Averages by a dimension's values."""
    highest = max((one.value or 0 for one in found), default=0)
    rows = (
        (one.dimension_value or "", number(one.user_count), percent(one.value), Bar(one.value, highest))
        for one in found
    )
    return Table(f"{metric} by {dimension}", (dimension, ">users", ">mean", ""), tuple(rows))


def freeze_buckets(found: Sequence[FreezeBucket], metric: str) -> Table:
    """How many users froze how much."""
    highest = max((one.user_count or 0 for one in found), default=0)
    rows = ((one.bucket, number(one.user_count), Bar(one.user_count, highest)) for one in found)
    return Table(f"users by {metric}", (metric, ">users", ""), tuple(rows))


def series(points: Sequence[Point], title: str, by: str = "") -> tuple[Table, ...]:
    """Points of one metric, a plot for each value of `by` (a dimension, or `uid`); one short series is also listed."""
    unit = unit_of(title.partition(" ")[0])
    groups: dict[str, list[Point]] = {}
    for point in points:
        group = point.uid if point.uid is not None else point.dimension_value
        groups.setdefault("" if group is None else str(group), []).append(point)
    table = plots(title, by, tuple((name, unit, group) for name, group in groups.items()))
    return (table, _listed(points, title, unit)) if len(groups) == 1 and len(points) <= _LISTED else (table,)


def plots(title: str, by: str, rows: Sequence[tuple[str, str, Sequence[Point]]]) -> Table:
    """Series one a row: name, unit, points; without values they are left out."""
    columns = (by, "over time", ">lowest", ">mean", ">highest", ">last", "from (UTC)", "to (UTC)")
    drawn = (_series(name, unit, points) for name, unit, points in rows)
    return Table(title, columns, tuple(row for row in drawn if row), frozenset({"from (UTC)", "to (UTC)"}))


def totals(found: Sequence[Total], title: str, unit: str, dimension: str | None) -> Table:
    """Values over a whole span."""
    highest = max((one.value or 0 for one in found), default=0)
    rows = (
        (
            one.dimension_value or "",
            measured(one.value, unit),
            number(one.ref_usage),
            Bar(one.value, highest) if len(found) > 1 else "",
        )
        for one in found
    )
    return Table(title, (dimension or "", _heading(unit), ">usage behind it", ""), tuple(rows))


def ranked(found: Sequence[Ranked], title: str, unit: str, dimension: str) -> Table:
    """One window's top list."""
    highest = max((one.value or 0 for one in found), default=0)
    rows = (
        (
            one.dimension_value or "",
            measured(one.value, unit),
            number(one.user_count),
            Bar(one.value, highest),
        )
        for one in found
    )
    window = clock(found[0].window_start) if found else ""
    return Table(f"{title}, 20 s from {window} UTC", (dimension, _heading(unit), ">users", ""), tuple(rows))


def quota(states: Sequence[QuotaState], title: str = "quota") -> Table:
    """How much of each counter's allowance is used."""
    columns = ("counter", "per", ">limit", ">used", ">left", ">for streams", "waiting", ">more in", ">refusals")
    rows = (
        (
            state.counter,
            state.unit,
            number(state.limit),
            number(state.used),
            number(state.left),
            number(state.expected) if state.expected else "",
            ", ".join(f"{count} {priority}" for priority, count in state.priorities.items() if count),
            lasting(state.resets_in) if state.resets_in else "",
            number(state.refusals) if state.refusals else "",
        )
        for state in states
    )
    return Table(title, columns, tuple(rows), empty=NO_ACCESS)


def spent(states: Sequence[QuotaState]) -> str:
    """Tell in one line what has been spent of the day; empty where that is nothing."""
    days = [state for state in states if state.unit == "day" and state.used]
    parts = [f"{state.used} of the day's {state.limit:,} {state.counter} requests" for state in days]
    return f"spent today: {', '.join(parts)}" if parts else ""


def service_clock(clock: ClockState) -> str:
    """Tell in one line what is known of the service's clock."""
    ahead = f"{abs(clock.offset):.2f} s {'ahead of' if clock.offset >= 0 else 'behind'} this machine's"
    return f"the service's clock is at least {ahead}, and at most {clock.uncertainty:.2f} s further"


def watched(name: str, unit: str, pairs: Sequence[formatting.Pair]) -> tuple[Cell, ...]:
    """Tell a series that is watched: its plot and what it comes to."""
    summary = Summary.of(pairs)
    told = (summary.lowest, summary.mean, summary.highest, summary.last) if summary else (None,) * 4
    return (name, Plot(tuple(pairs)), *(measured(value, unit) for value in told))


def reading(series: Series, value: float | None) -> str:
    """Tell one value of a series."""
    return f"{series} {measured(value, unit_of(series.metric)) or 'missing'}"


def _heading(unit: str) -> str:
    """Tell what a column of `measured` values holds: those of fractions say their percent themselves."""
    return f">{unit if unit and unit != 'fraction' else 'value'}"


def _call(call: Call) -> tuple[Cell, ...]:
    span = call.span
    return (
        call.call_id,
        call.cname or "",
        clock(call.created_ts),
        lasting(span.duration - 1) if span else "goes on",
        number(call.call_pcu),
        number(call.call_acu),
        percent(call.call_audio_freeze_rate),
        percent(call.call_video_freeze_rate),
    )


def _session(session: Session) -> tuple[Cell, ...]:
    return (
        session.sid,
        str(session.account or ("" if session.uid is None else session.uid)),
        clock(session.join_ts),
        _stayed(session),
        session.platform or "",
        session.network or "",
        session.sdk_version or "",
        ", ".join(session.roles or ()),
        percent(session.user_audio_freeze_rate),
        percent(session.user_video_freeze_rate),
    )


def _stayed(session: Session) -> str:
    if session.left_at is None or session.joined_at is None:
        return "still there"
    return lasting((session.left_at - session.joined_at).total_seconds())


def _tracks(session: SessionMetrics) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for track in sorted(session.data, key=lambda one: (one.mid, str(one.peer_uid or 0))):
        summary = Summary.of(track.points)
        if summary:
            ends = (number(summary.lowest), number(summary.mean), number(summary.highest), number(len(track.points)))
            peer = str(track.peer_uid or "")
            rows.append((MetricId.name_of(track.mid), _unit(track.mid), peer, Plot(track.points), *ends))
    return rows


def _unit(mid: int) -> str:
    return MetricId(mid).unit if mid in set(MetricId) else ""


def _series(name: str, unit: str, points: Sequence[Point]) -> tuple[Cell, ...]:
    pairs = tuple((point.ts, point.value) for point in points if point.value is not None)
    summary = Summary.of(pairs)
    if summary is None:
        return ()
    told = (measured(value, unit) for value in (summary.lowest, summary.mean, summary.highest, summary.last))
    return (name, Plot(pairs), *told, clock(pairs[0][0]), clock(pairs[-1][0]))


def _listed(points: Sequence[Point], title: str, unit: str) -> Table:
    highest = max(point.value or 0 for point in points)
    rows = ((clock(point.ts), measured(point.value, unit), Bar(point.value, highest)) for point in points)
    return Table("", ("from (UTC)", f">{title}", ""), tuple(rows))
