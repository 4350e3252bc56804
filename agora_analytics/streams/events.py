"""What streams yield: windows and calls, what changed of them, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from agora_analytics._core import validation
from agora_analytics.models import Call, Point, Session
from agora_analytics.models.points import Number
from agora_analytics.spans import WINDOW, Span
from agora_analytics.streams.watch.series import Series

__all__ = [
    "CallChanged",
    "CallEvent",
    "CallFinished",
    "CallLost",
    "CallSessions",
    "CallStarted",
    "Event",
    "Gap",
    "Revision",
    "Window",
]

Missing = Literal["no data", "not asked"]
"""Why a window lacks a series: the service was asked in time and had nothing, or it could not be asked in time."""

Loss = Literal["outage", "quota", "consumer", "asleep", "before_start", "service"]
"""Why nobody could ask in time: see `Gap`."""


@attrs.frozen(kw_only=True)
class Window:
    """20 seconds from `ts` (UTC), with the points of each series.

    `values` has the series that have points, `missing` the others, each with the reason. `final` is true once the
    service will not change the window any more, as far as is known.
    """

    ts: int
    values: Mapping[Series, tuple[Point, ...]]
    missing: Mapping[Series, Missing] = attrs.field(factory=dict)
    final: bool = False

    @property
    def span(self) -> Span:
        """The window's 20 seconds."""
        return Span(self.ts, self.ts + WINDOW)

    def points(self, series: Series) -> tuple[Point, ...]:
        """Return the points of a series: one, or one for each group or user; empty where it is missing."""
        return self.values.get(validation.instance("series", series, Series), ())

    def value(self, series: Series) -> Number | None:
        """Return the value of a series that has one; None where it is missing.

        Raises `ValueError` for a series of several groups or users: `points` and `by_group` have these.
        """
        if validation.instance("series", series, Series).grouped:
            raise ValueError(f"{series}: has a value for each group; use window.points(series) or .by_group(series)")
        points = self.points(series)
        return points[0].value if points else None

    def by_group(self, series: Series) -> dict[str | None, Number | None]:
        """Return the values of a series by its dimension's values, or by user; without either, the key is None."""
        return {group_of(point): point.value for point in self.points(series)}


@attrs.frozen(kw_only=True)
class Revision:
    """A series of a window that was delivered before and has changed; `before` is empty where it was missing.

    `after` has every group that is known, those that did not change among them.
    """

    ts: int
    series: Series
    before: tuple[Point, ...]
    after: tuple[Point, ...]
    final: bool = False


@attrs.frozen(kw_only=True)
class Gap:
    """A span that is lost: the service keeps it no more, and it could not be asked for in time.

    `reason` says what kept the stream from asking: `outage` (requests failed), `quota` (none was left), `consumer` (it
    was busy with earlier events), `asleep` (this machine or process stood still), `before_start` (it was too old when
    the stream began or was resumed), `service` (it keeps less than the plan says, or cuts off
    its lists).
    """

    span: Span
    reason: Loss = "outage"


@attrs.frozen(kw_only=True)
class CallStarted:
    """A call that was not known before; it may be over already, which is told next."""

    call: Call


@attrs.frozen(kw_only=True)
class CallChanged:
    """A call that goes on, and looks different from `before`."""

    call: Call
    before: Call


@attrs.frozen(kw_only=True)
class CallFinished:
    """A call that is over.

    `sessions` are there where they were asked for and could be had in time. Otherwise `reason` says why not: `quota` or
    `outage` (they may follow as `CallSessions`), `expired` (the plan keeps them no more), or the service's refusal.
    """

    call: Call
    sessions: tuple[Session, ...] | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class CallSessions:
    """The sessions of a call whose `CallFinished` came without; None with the `reason` if they will never come."""

    call: Call
    sessions: tuple[Session, ...] | None
    reason: str = ""


@attrs.frozen(kw_only=True)
class CallLost:
    """A call that went on when it was last seen (`call`), and whose end nobody will see.

    `reason` is `gone` (the service shows it no more, or refuses to look it up) or `expired` (it began before what the
    plan keeps).
    """

    call: Call
    reason: str


Event = Window | Revision | Gap
"""What a watch yields."""

CallEvent = CallStarted | CallChanged | CallFinished | CallSessions | CallLost | Gap
"""What following calls yields."""


def group_of(point: Point) -> str | None:
    """Return what tells a point from others of its window and series: its dimension's value, or its user."""
    return point.dimension_value if point.uid is None else str(point.uid)
