"""The last hour of one real-time series, in windows of 20 seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

import attrs

from agora_analytics.catalogue import QualityMetric, RealtimeUsageMetric
from agora_analytics.models import Point
from agora_analytics.models.points import Number, group_of
from agora_analytics.spans import HOUR, WINDOW
from agora_analytics.streams.events import Event, Revision, Window
from agora_analytics.streams.watch.series import Series

WINDOWS: Final = HOUR // WINDOW
"""Windows that are kept of each series."""

MAX_GROUPS: Final = 50
"""Values of a dimension, or users, that are kept of each window: those with the highest values."""

_METRICS: Final = (*RealtimeUsageMetric, *QualityMetric)

CellState = Literal["complete", "missing", "late", "gap"]
"""What is known of a window: `complete` (its values came in time), `missing` (delivered without values), `late` (its
values came or changed after it was delivered), or `gap` (lost)."""


@attrs.frozen(kw_only=True)
class SeriesCell:
    """One window of a series.

    `value` is set unless the series is grouped; then `groups` has the values by dimension value or user. `reason` says
    why there are none, `revisions` how often late data changed them.
    """

    state: CellState
    value: Number | None = None
    groups: Mapping[str, Number | None] | None = None
    reason: str = ""
    revisions: int = 0


@attrs.frozen(kw_only=True)
class SeriesLimit:
    """The threshold of an alert rule as JSON: values above it are bad, or those below it."""

    limit: Number
    bad: Literal["above", "below"]
    rule: str


@attrs.frozen(kw_only=True)
class SeriesView:
    """One series as JSON: what it is, and its windows from `start` on, one item each 20 seconds.

    `states` is null where nothing is known of a window. `values` is set unless the series is grouped; then `groups` has
    a list for each value of the dimension. `reasons` and `revisions` are by the start of the window. `limits` are those
    of the alert rules in force.
    """

    id: str
    metric: str
    product: str
    cname: str | None
    dimension: str | None
    unit: str
    meaning: str
    start: int | None
    final_before: int | None
    states: list[CellState | None]
    values: list[Number | None] | None
    groups: dict[str, list[Number | None]] | None
    reasons: dict[str, str]
    revisions: dict[str, int]
    limits: tuple[SeriesLimit, ...]


class SeriesHistory:
    """Keeps the newest windows of one series."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.id = str(series)
        self.cells: dict[int, SeriesCell] = {}

    def add(self, event: Event) -> bool:
        """Apply an event of the watch; return whether anything changed."""
        if isinstance(event, Window):
            return self._add_window(event)
        if isinstance(event, Revision):
            return event.series == self.series and self._revise(event)
        # A gap may be of days, after a server that was down: only the hour that is kept is written.
        first = max(event.span.start, event.span.end - HOUR)
        for ts in range(first // WINDOW * WINDOW, event.span.end, WINDOW):
            self._put(ts, SeriesCell(state="gap", reason=event.reason))
        return True

    def newest(self) -> int | None:
        """Return the start of the newest window with a value; None before there is one."""
        return next((ts for ts in reversed(self.cells) if self.cells[ts].state in {"complete", "late"}), None)

    def view(self, final_before: int | None, limits: tuple[SeriesLimit, ...] = ()) -> SeriesView:
        """Return the series as JSON."""
        stamps = range(min(self.cells), max(self.cells) + 1, WINDOW) if self.cells else range(0)
        cells = [self.cells.get(ts) for ts in stamps]
        known = next((one for one in _METRICS if one == self.series.metric), None)
        grouped = self.series.grouped
        return SeriesView(
            id=self.id,
            metric=self.series.metric,
            product=self.series.product,
            cname=self.series.cname,
            dimension=self.series.dimension,
            unit=known.unit if known else "",
            meaning=known.meaning if known else "",
            start=stamps.start if self.cells else None,
            final_before=final_before,
            states=[cell.state if cell else None for cell in cells],
            values=None if grouped else [cell.value if cell else None for cell in cells],
            groups=_columns(cells) if grouped else None,
            reasons={str(ts): cell.reason for ts, cell in self.cells.items() if cell.reason},
            revisions={str(ts): cell.revisions for ts, cell in self.cells.items() if cell.revisions},
            limits=limits,
        )

    def _add_window(self, event: Window) -> bool:
        reason, points = event.missing.get(self.series), event.values.get(self.series)
        if reason:
            self._put(event.ts, SeriesCell(state="missing", reason=reason))
        elif points is not None:
            self._put(event.ts, self._cell("complete", points))
        return bool(reason) or points is not None

    def _revise(self, event: Revision) -> bool:
        before = self.cells.get(event.ts)
        if before is None:
            return False
        self.cells[event.ts] = attrs.evolve(self._cell("late", event.after), revisions=before.revisions + 1)
        return True

    def _cell(self, state: CellState, points: Iterable[Point]) -> SeriesCell:
        if not self.series.grouped:
            return SeriesCell(state=state, value=next((point.value for point in points), None))
        groups = {group_of(point) or "": point.value for point in points}
        # A dimension may have hundreds of values, and the page shows the highest.
        kept = sorted(groups, key=lambda name: groups[name] or 0, reverse=True)[:MAX_GROUPS]
        return SeriesCell(state=state, groups={name: groups[name] for name in kept})

    def _put(self, ts: int, cell: SeriesCell) -> None:
        """Store a window; the oldest ones are dropped."""
        # Nearly always; a dictionary is sorted only where a gap or a window came late.
        in_order = not self.cells or ts > next(reversed(self.cells)) or ts in self.cells
        self.cells[ts] = cell
        if not in_order:
            self.cells = dict(sorted(self.cells.items()))
        # By the newest window and not by a clock: in an outage the last hour stays on the page.
        oldest = next(reversed(self.cells)) - HOUR
        while (first := next(iter(self.cells))) <= oldest:
            del self.cells[first]


def _columns(cells: list[SeriesCell | None]) -> dict[str, list[Number | None]]:
    """Return the values of each group, one for each window."""
    names = dict.fromkeys(name for cell in cells if cell and cell.groups for name in cell.groups)
    return {name: [cell.groups.get(name) if cell and cell.groups else None for cell in cells] for name in names}


@attrs.frozen(kw_only=True)
class SeriesChange:
    """A window of one series that came or changed, and the first of its windows that may still change."""

    series: str
    cell: SeriesCell
    final_before: int | None


@attrs.frozen(kw_only=True)
class WindowChange:
    """What an event of the watch changed, as JSON: the windows from `start` to `end`, all alike, of some series."""

    start: int
    end: int
    changes: tuple[SeriesChange, ...]


class WindowBoard:
    """The histories of all series of a watch."""

    def __init__(self, series: Iterable[Series]) -> None:
        self.histories = {one.id: one for one in map(SeriesHistory, series)}

    def add(self, event: Event, final_before: Callable[[Series], int | None] = lambda _: None) -> WindowChange | None:
        """Apply an event; return what it changed, None for nothing."""
        changed = [history for history in self.histories.values() if history.add(event)]
        start, end = (event.ts, event.ts + WINDOW) if isinstance(event, Revision) else event.span
        # Of a gap the last window stands for all, as they are alike.
        changes = tuple(
            SeriesChange(series=one.id, cell=cell, final_before=final_before(one.series))
            for one in changed
            if (cell := one.cells.get(end - WINDOW))
        )
        return WindowChange(start=start, end=end, changes=changes) if changes else None

    def has_windows(self) -> bool:
        """Whether any series has a window, with a value or without: a gap is none."""
        return any(cell.state != "gap" for one in self.histories.values() for cell in one.cells.values())

    def newest(self) -> int | None:
        """Return the start of the newest window with a value in any series."""
        return max((ts for one in self.histories.values() if (ts := one.newest()) is not None), default=None)
