"""Which span of an endpoint is queryable: the plan's retention and delay, and what the service taught beyond them.

Nothing is given up because a clock says so: data counts as expired only before a span that the service has accepted.
"""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics.errors import PlanRefused
from agora_analytics.plans import Limits
from agora_analytics.spans import DAY, HOUR, Span

_MIN_REFUSALS: Final = 2
"""Refusals in a row before spans become smaller: a single one may be due to a wrong clock."""

_MIN_SPAN: Final = 120
"""Seconds that stay queryable, beside the margin, however often the service refuses."""

_DRIFT: Final = 3e-4
"""Seconds by which a clock may fall behind for each second without an accepted span."""

_MAX_DELAY: Final = 3_600
"""Longest delay in seconds that refusals can lead to, unless the plan's is longer."""

_SET_BACK: Final = 30
"""Seconds by which the oldest queryable second must fall behind an accepted one before a clock counts as set back."""


@attrs.define
class RetentionBounds:
    """The bounds of an endpoint; spans stay `margin` seconds inside the retention, because a request takes time.

    If the service refuses spans that the plan allows, the bounds shrink. After an hour the plan is tried again, and
    after each further failure twice as late, up to a day. If even the smallest span is refused, the whole plan is tried
    again: a service that refuses everything says nothing about its bounds.
    """

    limits: Limits
    margin: int
    oldest_accepted: int = 0
    """The oldest start that the span accepted last could have had."""

    delay: int = attrs.field(init=False)
    """Seconds by which the newest queryable second is behind now."""

    _retention: float = attrs.field(init=False)
    _reduced_until: float = 0.0
    _reduced_for: float = HOUR
    _refusals: int = 0
    _latest_accepted: int = 0

    def __attrs_post_init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._retention, self.delay = self.limits.retention, self.limits.delay

    @property
    def is_reduced(self) -> bool:
        """Whether the service keeps less than the plan says."""
        return self._retention < self.limits.retention

    def queryable(self, now: float) -> Span:
        """Return the span that is queryable at a time (UTC seconds); never empty."""
        if self._reduced_until and not 0 <= self._reduced_until - now <= self._reduced_for:  # or a clock was set back
            self._reduced_for = min(2 * self._reduced_for, DAY)
            self.forget_refusals()
        # The bounds of a plan are strict: one second inside at each end.
        start = int(now - self._retention) + 1 + self.margin + self._clock_drift(now)
        end = int(now) - self.delay - 1
        # Never empty, whatever the clock says: only an answer can correct a wrong one.
        return Span(min(max(start, 0), max(end - 1, 0)), max(end, 1))

    def oldest_by_plan(self, now: float) -> int:
        """Return the oldest second that the plan keeps at a time, plus the margin."""
        return int(now - self.limits.retention) + 1 + self.margin

    def clock_went_back(self, now: float) -> bool:
        """Whether `now` is before a time at which a span was accepted, so that one of the two times was wrong."""
        return self._latest_accepted - self.queryable(now).start > _SET_BACK

    def _clock_drift(self, now: float) -> int:
        """Return the seconds by which `now` may be too early, by the time since a span was accepted."""
        since = max(now - self._retention - self.oldest_accepted, 0)
        return int(_DRIFT * since) if self.oldest_accepted else 0

    def accepted(self, oldest: int) -> None:
        """Record that a span was accepted that could have started at `oldest`."""
        self._refusals = 0
        self.oldest_accepted = oldest
        self._latest_accepted = max(self._latest_accepted, oldest)
        # Accepted with the whole plan: the next failure is tried again after an hour, as the first was.
        if not self._reduced_until:
            self._reduced_for = HOUR

    def forget_accepted(self) -> None:
        """Forget accepted spans: the clock was wrong."""
        self.oldest_accepted = self._latest_accepted = 0

    def forget_refusals(self) -> None:
        """Return to the plan's bounds: refusals may have been due to a wrong clock."""
        self._reduced_until, self._refusals = 0.0, 0
        self._reset()

    def refused(self, error: PlanRefused, now: float) -> None:
        """Record that a span was refused that the plan allows."""
        self._refusals += 1
        # `access` is about the endpoint, not about the age of a span.
        if self._refusals < _MIN_REFUSALS or error.kind == "access":
            return
        before = self._retention, self.delay
        self._narrow(error)
        # Nothing left to shrink: the service refuses everything, so its refusals say nothing about bounds.
        if (self._retention, self.delay) == before:
            self._reset()
        self._reduced_until = now + self._reduced_for

    def _narrow(self, error: PlanRefused) -> None:
        """Shrink the bounds, but keep them inside the plan and at least the smallest span apart."""
        named, least = error.limit or 0, self.margin + _MIN_SPAN
        if error.kind == "latency":
            # The end must stay after the start: the delay may take all of the retention but the smallest span.
            most = max(min(_MAX_DELAY, self.limits.retention - least), self.limits.delay)
            # If the service names the plan's own number, its clock for that is a little behind its Date header.
            more = self.limits.delay + max(1, 2 * (self.delay - self.limits.delay))
            self.delay = min(max(named + 1 if named > self.delay else 0, more), most)
        else:
            # Halved where no limit is named, so that a few refusals reach any limit.
            self._retention = named if 0 < named < self._retention else self._retention / 2
        self._retention = min(max(self._retention, self.delay + least), self.limits.retention)
