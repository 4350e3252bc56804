"""The events that streams yield: windows, call events, revisions by late data, and gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from agora_analytics._core import validation
from agora_analytics.models import Call, Point, Session
from agora_analytics.models.points import Number, group_of
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

Missing = Literal["no data", "not requested"]
"""Why a window lacks a series: after the allowed lateness the service still had no data, or no poll came in time."""

Loss = Literal["outage", "quota", "consumer", "asleep", "before_start", "service"]
"""Why data was not polled in time: see `Gap`."""


@attrs.frozen(kw_only=True)
class Window:
    """20 seconds from `ts` (UTC seconds), with the points of each series.

    `values` has the series with points, `missing` the others with the reason. `final` is true if no late data is
    expected any more.

    ```python
    users = Series("userCount", product="Native")
    networks = Series("userCount", product="Native", dimension="net")
    async with AnalyticsClient.from_env() as client, client.realtime.watch(users, networks) as watch:
        async for event in watch:
            if isinstance(event, Window):
                print(event.ts, event.value(users), event.by_group(networks))
                break
    ```
    """

    ts: int
    values: Mapping[Series, tuple[Point, ...]]
    missing: Mapping[Series, Missing] = attrs.field(factory=dict)
    final: bool = False

    @property
    def span(self) -> Span:
        """The span of the window."""
        return Span(self.ts, self.ts + WINDOW)

    def points(self, series: Series) -> tuple[Point, ...]:
        """Return the points of a series: one, or one for each group or user; empty if it is missing."""
        return self.values.get(validation.instance("series", series, Series), ())

    def value(self, series: Series) -> Number | None:
        """Return the value of a series with a single value; None if it is missing.

        Raises `ValueError` for a series of several groups or users; use `points` or `by_group` for these.
        """
        if validation.instance("series", series, Series).grouped:
            raise ValueError(f"{series}: has a value for each group; use window.points(series) or .by_group(series)")
        points = self.points(series)
        return points[0].value if points else None

    def by_group(self, series: Series) -> dict[str | None, Number | None]:
        """Return the values of a series by dimension value or by user; without either, the key is None."""
        return {group_of(point): point.value for point in self.points(series)}


@attrs.frozen(kw_only=True)
class Revision:
    """Late data: a series of a delivered window has changed. `before` is empty if it was missing.

    `after` has every known group, changed or not.
    """

    ts: int
    series: Series
    before: tuple[Point, ...]
    after: tuple[Point, ...]
    final: bool = False


@attrs.frozen(kw_only=True)
class Gap:
    """A span that is lost: it was not polled before the service's retention ended.

    `reason` says why: `outage` (requests failed), `quota` (no request was left), `consumer` (it was busy with earlier
    events), `asleep` (this machine or process was suspended), `before_start` (it was too old when the stream started or
    resumed), or `service` (it keeps less than the plan says, or truncates its lists).
    """

    span: Span
    reason: Loss = "outage"


@attrs.frozen(kw_only=True)
class CallStarted:
    """A call that was not known before; if it is over already, `CallFinished` follows."""

    call: Call


@attrs.frozen(kw_only=True)
class CallChanged:
    """An open call that differs from `before`."""

    call: Call
    before: Call


@attrs.frozen(kw_only=True)
class CallFinished:
    """A call that is over.

    `sessions` is set if they were wanted and fetched in time. Otherwise `reason` says why not: `quota` or `outage`
    (they may follow as `CallSessions`), `expired` (the plan no longer keeps them), or a text, such as the refusal.
    """

    call: Call
    sessions: tuple[Session, ...] | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class CallSessions:
    """The sessions of a call whose `CallFinished` came without; None, with the `reason`, if they will never come."""

    call: Call
    sessions: tuple[Session, ...] | None
    reason: str = ""


@attrs.frozen(kw_only=True)
class CallLost:
    """A call that was open when last seen (`call`), and whose end will not be seen.

    `reason` is `gone` (the service no longer shows it, or refuses to look it up) or `expired` (it began before the
    plan's retention).
    """

    call: Call
    reason: str


Event = Window | Revision | Gap
"""The events of a `Watch`."""

CallEvent = CallStarted | CallChanged | CallFinished | CallSessions | CallLost | Gap
"""The events of a `Follow`."""
