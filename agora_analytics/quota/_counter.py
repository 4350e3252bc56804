"""One counter's requests, and the only rule there is: when one more may go.

The service counts a request once, somewhere between our sending it and our reading the answer, in whichever second,
minute and day its own clock shows. A request that goes now may share a window with an earlier one unless that one was
answered before the window began that the service is in *for certain* (less what our estimate may be wrong by), or a
whole window ago. So at most `limit` of those that could share a window with the next are ever out, which is safe under
any delay, any host's clock and any staleness of a header, as long as the bounds of the service's clock hold. Known
well, the clock lets all tokens of a window go as it begins; unknown, the same rule is the conservative bucket: a token
comes back one window after its answer.

Windows are not kept as counts but as the moments of the answers, because what is known of the service's clock may
change after the fact. Days are counts: they are many requests, and outlast the process.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from typing import Final

import attrs

from agora_analytics.errors import RateLimited
from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.quota._clock import GUARD, ServerClock

LOST: Final = 2.0
"""Seconds after giving up on a request in which the service may still count it."""

PATIENCE: Final = 300.0
"""Seconds after which a request that nobody settled is over: its process was killed."""

SKEW: Final = 5.0
"""Seconds that the host's wall clock may be wrong, which is all there is to tell the day before the first answer."""

_DAY: Final = 86_400
_TICK: Final = 1e-3


@attrs.frozen
class Moment:
    """Now: monotonic seconds, and the host's wall clock, which only guesses the day until the service answers."""

    now: float
    wall: float


@attrs.frozen
class Granted:
    """The right to send one request: its number, when it was given, the days it is charged to."""

    number: int
    at: float
    days: tuple[int, ...]


@attrs.frozen
class Denied:
    """No token now: seconds until the next try makes sense, and the unit that is short."""

    wait: float
    unit: Unit
    limit: int


@attrs.define
class Counter:
    """Requests of one counter: under way (until when, by number), answered (when, sorted), and per UTC day.

    `limits` are what refusals taught; the plan's apply elsewhere.
    """

    underway: dict[int, float] = attrs.field(factory=dict)
    answered: list[float] = attrs.field(factory=list)
    days: dict[int, int] = attrs.field(factory=dict)
    limits: dict[Unit, int] = attrs.field(factory=dict)
    hints: dict[Unit, int] = attrs.field(factory=dict)
    full: dict[Unit, float] = attrs.field(factory=dict)
    closed: int | None = None
    refusals: int = 0

    def limit(self, unit: Unit, planned: int) -> int:
        """Return the limit that holds: the plan's, or what the service named."""
        return self.limits.get(unit, planned)

    def left(self, unit: Unit, limit: int, moment: Moment, clock: ServerClock) -> int:
        """Tokens of a unit that can be taken now; none or less where it is full."""
        if unit == "day":
            days = possible_days(moment, moment, clock)
            return 0 if self.closed in days else limit - max(self.days.get(day, 0) for day in days)
        since = _threshold(unit, moment.now, clock)
        if self.full.get(unit, -math.inf) > since:
            return 0
        return limit - len(self.underway) - len(self.answered) + bisect_right(self.answered, since)

    def wait(self, unit: Unit, limit: int, moment: Moment, clock: ServerClock, ahead: int = 0) -> float:
        """Seconds until a token is free for one who has `ahead` others before him; a lower bound."""
        if unit == "day":
            short = ahead + 1 - self.left(unit, limit, moment, clock)
            return 0.0 if short <= 0 else until_tomorrow(moment, clock) + (short - 1) // max(limit, 1) * _DAY
        now, window = moment.now, WINDOWS[unit]
        since = _threshold(unit, now, clock)
        full = self.full.get(unit, -math.inf)
        first = max(0.0, clock.passes(full, now, window) - now) if full > since else 0.0
        gone = bisect_right(self.answered, since)
        short = ahead + 1 - (limit - len(self.underway) - len(self.answered) + gone)
        if short <= 0:
            return first
        rounds, place = divmod(short - 1, max(limit, 1))
        place += gone
        # What is under way will be answered now at the earliest.
        at = self.answered[place] if place < len(self.answered) else now
        return max(first, clock.passes(at, now, window) - now) + rounds * window

    def reserve(
        self, number: int, rates: dict[Unit, int], moment: Moment, clock: ServerClock, kept: int = 0
    ) -> Granted | Denied:
        """Take a token of every unit, or none; `kept` of the day's are for others."""
        self._expire(moment.now)
        for unit, planned in reversed(rates.items()):
            limit = self.limit(unit, planned)
            left = self.left(unit, limit, moment, clock)
            if left <= (kept if unit == "day" else 0):
                wait = self.wait(unit, limit, moment, clock, kept if unit == "day" else 0)
                return Denied(max(wait, _TICK), unit, limit)
        days = possible_days(moment, moment, clock)
        for day in days:
            self._charge(day)
        self.underway[number] = moment.now + PATIENCE
        return Granted(number, moment.now, days)

    def settle(self, granted: Granted, received: float | None, moment: Moment, clock: ServerClock) -> None:
        """Note when a request was answered, or that no answer will come."""
        if self.underway.pop(granted.number, None) is None:
            return
        over = moment.now + LOST if received is None else received
        insort(self.answered, over)
        # What the service's clock turned out to be says which days it can have been counted on.
        behind = moment.now - granted.at
        sent = Moment(granted.at, moment.wall - behind)
        days = possible_days(sent, moment, clock)
        if days != granted.days:
            for day in {*days} - {*granted.days}:
                self._charge(day)
            for day in {*granted.days} - {*days}:
                self._uncharge(day)

    def put_back(self, granted: Granted) -> None:
        """Return the tokens of a request that was not sent."""
        if self.underway.pop(granted.number, None) is not None:
            for day in granted.days:
                self._uncharge(day)

    def refuse(self, refusal: RateLimited, sent: float, planned: int, moment: Moment, clock: ServerClock) -> bool:
        """Learn from a refusal of what was sent at `sent`, and say whether it was news.

        Nothing more goes in this window, and the limit may be another than the one `planned`. What was under way when
        a refusal came only repeats it.
        """
        self.refusals += 1
        unit = refusal.unit
        if unit == "day":
            self.closed = possible_days(moment, moment, clock)[0]
        if sent <= self.full.get(unit, -math.inf):
            return False
        self.full[unit] = moment.now
        if refusal.limit is not None:
            self._learn(unit, refusal.limit, planned)
        return True

    def forget_after(self, now: float) -> None:
        """Forget what cannot have happened yet: it is of another count of time."""
        self.answered = [at for at in self.answered if at <= now + LOST]
        self.underway = {number: until for number, until in self.underway.items() if until <= now + PATIENCE}
        self.full = {unit: at for unit, at in self.full.items() if at <= now}

    def _learn(self, unit: Unit, limit: int, planned: int) -> None:
        """Believe a lower limit at once, a higher one when it is named again."""
        if limit <= self.limit(unit, planned) or self.hints.get(unit) == limit:
            self.limits[unit] = limit
        self.hints[unit] = limit

    def _charge(self, day: int) -> None:
        if day not in self.days:
            for old in [old for old in self.days if old < day - 2]:
                del self.days[old]
        self.days[day] = self.days.get(day, 0) + 1

    def _uncharge(self, day: int) -> None:
        self.days[day] = max(0, self.days.get(day, 0) - 1)

    def _expire(self, now: float) -> None:
        """Forget answers that are too old to matter, and requests whose process is gone."""
        if self.answered and self.answered[0] <= now - WINDOWS["minute"]:
            del self.answered[: bisect_right(self.answered, now - WINDOWS["minute"])]
        # Numbers rise with time, so the first is the oldest.
        while self.underway and self.underway[first := next(iter(self.underway))] <= now:
            del self.underway[first]
            insort(self.answered, now)


def _threshold(unit: Unit, now: float, clock: ServerClock) -> float:
    """Return the moment before which an answered request cannot share a window with one that goes now."""
    window = WINDOWS[unit]
    slack = clock.slack(now)
    latest = now - window - GUARD
    return latest if slack == math.inf else max(latest, clock.begun(now, window) - slack)


def possible_days(first: Moment, last: Moment, clock: ServerClock) -> tuple[int, ...]:
    """Return the UTC days of the service's clock that something between two moments can fall into."""
    slack = clock.slack(last.now)
    if slack == math.inf:
        begin, end = first.wall - SKEW, last.wall + SKEW
    else:
        low = clock.low(last.now)
        begin, end = first.now + low, last.now + low + slack
    return tuple(range(int(begin // _DAY), int(end // _DAY) + 1))


def until_tomorrow(moment: Moment, clock: ServerClock) -> float:
    """Seconds until the next UTC day has begun for certain."""
    earliest = moment.now + clock.low(moment.now) - 0.1 if clock.known else moment.wall - SKEW
    return (earliest // _DAY + 1) * _DAY - earliest
