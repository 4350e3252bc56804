"""What of a table can be asked for now, and why what is older was not: the plan's bounds, and what the service taught.

Nothing is given up on a clock's word: what is lost is only what lies before a span that the service has accepted.
"""

from __future__ import annotations

from typing import Final

import attrs

from agora_analytics.errors import PlanRefused
from agora_analytics.plans import Limits
from agora_analytics.spans import DAY, HOUR, Span

_TIMES: Final = 2
"""Refusals in a row after which a span is made smaller: one may be a clock's fault, and the next has another span."""

_LEAST: Final = 120
_DRIFT: Final = 3e-4
"""Seconds by which a clock may be behind for each second in which nothing was answered."""

_MOST_DELAY: Final = 3_600
_BACK: Final = 30
"""Seconds by which a clock must be behind what was accepted to be a wrong one."""


@attrs.define
class Edges:
    """The bounds of a table. `margin` is how many seconds a span stays away from the oldest: a request takes time.

    Where the service refuses spans that the plan allows, less is asked for, and the plan believed again an hour later,
    or twice as late as the last time, up to a day. Where it refuses the least, too, all of the plan's is tried again: a
    service that refuses everything for a while says nothing of its bounds.
    """

    limits: Limits
    margin: int
    proved: int = 0
    """Where the last span began that was accepted, or could have begun."""

    _reach: float = attrs.field(init=False)
    _delay: int = attrs.field(init=False)
    _until: float = 0.0
    _believed: float = HOUR
    _refused: int = 0
    _latest: int = 0

    def __attrs_post_init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._reach, self._delay = self.limits.available, self.limits.delay

    @property
    def delay(self) -> int:
        """Seconds by which the newest that can be asked for is behind now."""
        return self._delay

    @property
    def reduced(self) -> bool:
        """Whether the service keeps less than the plan says."""
        return self._reach < self.limits.available

    def askable(self, now: float) -> Span:
        """Return what can be asked for, never empty."""
        if self._until and not 0 <= self._until - now <= self._believed:  # over, or of a clock that was set back
            self._believed = min(2 * self._believed, DAY)
            self.forget_refusals()
        start = int(now - self._reach) + 1 + self.margin + self._unsure(now)
        end = int(now) - self._delay - 1
        return Span(min(max(start, 0), max(end - 1, 0)), max(end, 1))

    def kept_from(self, now: float) -> int:
        """Return where what the plan keeps began at a moment, less the margin."""
        return int(now - self.limits.available) + 1 + self.margin

    def set_back(self, now: float) -> bool:
        """Whether it is earlier than when the service accepted a span: one of two times was wrong, and it must tell."""
        return self._latest - self.askable(now).start > _BACK

    def _unsure(self, now: float) -> int:
        """Return the seconds by which it may be later than `now`, by the time since a span was accepted."""
        return int(_DRIFT * max(now - self._reach - self.proved, 0)) if self.proved else 0

    def accepted(self, oldest: int) -> None:
        """Note that a span was accepted at a moment when it could have begun at `oldest`."""
        self._refused = 0
        self.proved = oldest
        self._latest = max(self._latest, oldest)
        if not self._until:
            self._believed = HOUR

    def forget_accepted(self) -> None:
        """Forget what was accepted: it was another time than was thought."""
        self.proved = self._latest = 0

    def forget_refusals(self) -> None:
        """Believe the plan again: that the service refused its spans was perhaps the fault of a clock."""
        self._until, self._refused = 0.0, 0
        self._reset()

    def refused(self, error: PlanRefused, now: float) -> None:
        """Note that a span was refused that the plan allows."""
        self._refused += 1
        if self._refused < _TIMES or error.kind == "access":
            return
        before = self._reach, self._delay
        self._narrow(error)
        if (self._reach, self._delay) == before:
            self._reset()
        self._until = now + self._believed

    def _narrow(self, error: PlanRefused) -> None:
        """Ask for less, but for no more than the plan has and no less than can be asked for."""
        named, least = error.limit or 0, self.margin + _LEAST
        if error.kind == "latency":
            most = max(min(_MOST_DELAY, self.limits.available - least), self.limits.delay)
            # Where the plan's own number is named, the counter's clock is behind the header's: by a second, mostly.
            later = self.limits.delay + max(1, 2 * (self._delay - self.limits.delay))
            self._delay = min(max(named + 1 if named > self._delay else 0, later), most)
        else:
            self._reach = named if 0 < named < self._reach else self._reach / 2
        self._reach = min(max(self._reach, self._delay + least), self.limits.available)
