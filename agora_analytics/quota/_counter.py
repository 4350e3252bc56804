"""One counter's requests, and the only rule there is: when one more may go.

The service counts a request once, somewhere between our sending it and our reading the answer, in whichever second,
minute and day its own clock shows. A request that goes now may share a window with an earlier one unless that one was
answered before the window began that the service is in *for certain* (less what our estimate may be wrong by), or a
whole window ago. So at most `limit` of those that could share a window with the next are ever out, which is safe under
any delay, any host's clock and any staleness of a header, as long as the bounds of the service's clock hold. Known
well, the clock lets all tokens of a window go as it begins; unknown, the same rule is the conservative bucket: a token
comes back one window after its answer.

What is left of the doubt about the service's clock once that has been searched for (`slack`) is enough for what went as
a window began: whatever the doubt really is, the next window's requests are as much later. What went at another time,
or while the clock was unsure, may be in either of two windows and is charged to both (`doubt`).

Windows are not kept as counts but as the moments of the answers, because what is known of the service's clock may
change after the fact. Days are counts: they are many requests, and outlast the process.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterable
from heapq import merge
from itertools import islice
from typing import Final, NamedTuple

import attrs

from agora_analytics.errors import RateLimited
from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.quota._clock import GUARD, guard
from agora_analytics.quota._limits import NamedLimits

LOST: Final = 2.0
"""Seconds after giving up on a request in which the service may still count it."""

DELAY: Final = 0.5
"""Seconds that a request may take to the service, where no answer tells."""

PATIENCE: Final = 300.0
"""Seconds after which a request that nobody settled is over."""

SKEW: Final = 5.0
"""Seconds that the host's wall clock may be wrong, which is all there is to tell the day before the first answer."""

_EARLY: Final = 0.18
"""Part of a second, its guard included, in which it has just begun: two such moments must be nearly a second apart."""

_MANY: Final = 64
"""Answers, of past windows too, that are looked through before they get more."""

_DAY: Final = 86_400

_DAYS: Final = 8
"""Days that are counted at a time, however often the clock was set."""


class Moment(NamedTuple):
    """Now, and what is known of the service's clock: how far it is ahead of `now` at least, and what may be missing.

    That is `slack` by all experience, and `doubt` for certain. `now` is monotonic, `wall` the best reading of UTC,
    which is the host's wall clock until the service has answered; `rival` is what the host's wall clock says while
    that reading is not confirmed.
    """

    now: float
    wall: float
    low: float
    slack: float
    doubt: float
    rival: float | None = None

    @property
    def utc(self) -> float:
        """UTC seconds, as well as they are known."""
        return self.wall if self.doubt == math.inf else self.now + self.low

    @property
    def early(self) -> bool:
        """Whether a second of the service has just begun, as far as it is known when."""
        return self.slack < self.doubt and (self.now + self.low) % 1 < _EARLY


class Granted(NamedTuple):
    """The right to send one request: its number, when it was given, the days it is charged to.

    `early` tells that it was given as a second of the service began.
    """

    number: int
    at: float
    days: tuple[int, ...]
    early: bool = False


class Expected(NamedTuple):
    """Requests that a stream will make: in the rest of one UTC day, and on every day after; its weight among others."""

    day: int
    rest: int
    daily: int
    weight: float = 1.0


class Denied(NamedTuple):
    """No token now: seconds until the next try makes sense, and the unit that is short, with its limit."""

    wait: float
    unit: Unit
    limit: int


@attrs.define
class Counter:
    """Requests of one counter: under way (until when, by number), answered (when, sorted), and per UTC day.

    `early` are answers, too: those of requests that went as a second began. `expected` is what streams will need.
    `named` are the limits that refusals taught; the plan's apply elsewhere.
    """

    underway: dict[int, float] = attrs.field(factory=dict)
    answered: list[float] = attrs.field(factory=list)
    early: list[float] = attrs.field(factory=list)
    days: dict[int, int] = attrs.field(factory=dict)
    named: NamedLimits = attrs.field(factory=NamedLimits)
    full: dict[Unit, float] = attrs.field(factory=dict)
    closed: int | None = None
    refusals: int = 0
    expected: dict[int, Expected] = attrs.field(factory=dict)

    def limit(self, unit: Unit, planned: int, moment: Moment) -> int:
        """Return the limit that holds: the plan's, or what the service named."""
        return self.named.limit(unit, planned, moment.utc) if self.named.limits else planned

    def left(self, unit: Unit, limit: int, moment: Moment) -> int:
        """Tokens of a unit that can be taken now; none or less where it is full."""
        if unit == "day":
            return self._left_of_days(limit, possible_days(moment))
        since, since_early = _thresholds(unit, moment)
        if self.full and self.full.get(unit, -math.inf) > since:
            return 0
        over = bisect_right(self.answered, since) + bisect_right(self.early, since_early)
        return limit - len(self.underway) - len(self.answered) - len(self.early) + over

    def wait(self, unit: Unit, limit: int, moment: Moment, ahead: int = 0) -> float:
        """Seconds until a token is free for one who has `ahead` others before him; a lower bound."""
        if unit == "day":
            short = ahead + 1 - self.left(unit, limit, moment)
            return 0.0 if short <= 0 else until_tomorrow(moment) + (short - 1) // max(limit, 1) * _DAY
        window, now = WINDOWS[unit], moment.now
        since, since_early = _thresholds(unit, moment)
        full = self.full.get(unit, -math.inf)
        first = max(0.0, _passes(full, window, moment, moment.doubt) - now) if full > since else 0.0
        over, over_early = bisect_right(self.answered, since), bisect_right(self.early, since_early)
        short = ahead + 1 - (limit - len(self.underway) - len(self.answered) + over - len(self.early) + over_early)
        if short <= 0:
            return first
        rounds, place = divmod(short - 1, max(limit, 1))
        slack = moment.slack if unit == "second" else moment.doubt
        passing = merge(
            (_passes(at, window, moment, moment.doubt) for at in islice(self.answered, over, None)),
            (_passes(at, window, moment, slack) for at in islice(self.early, over_early, None)),
        )
        # What is under way will be answered now at the earliest.
        passes = next(islice(passing, place, None), _passes(now, window, moment, slack))
        return max(first, passes - now) + rounds * window

    def awaited(self, moment: Moment) -> int:
        """Requests that streams will make before the day is over."""
        if not self.expected:
            return 0
        today = possible_days(moment)[-1]
        return sum(one.rest if one.day == today else one.daily for one in self.expected.values())

    def forecast(self, requests: int, rates: dict[Unit, int], moment: Moment) -> float:
        """Seconds until so many more can have been accepted, if none but these are made."""
        limits = {unit: self.limit(unit, planned, moment) for unit, planned in rates.items()}
        daily = limits.pop("day", None)
        today = requests if daily is None else max(0, self.left("day", daily, moment))
        if requests <= today or daily is None:
            return max((self.wait(unit, limit, moment, requests - 1) for unit, limit in limits.items()), default=0.0)
        days, before = divmod(requests - today - 1, max(daily, 1))
        windows = (before // max(limit, 1) * WINDOWS[unit] for unit, limit in limits.items())
        return until_tomorrow(moment) + days * _DAY + max(windows, default=0.0)

    def reserve(self, number: int, rates: dict[Unit, int], moment: Moment, kept: int = 0) -> Granted | Denied:
        """Take a token of every unit, or none; `kept` of the day's are for others."""
        days = possible_days(moment)
        answers = len(self.answered) + len(self.early)
        if answers >= _MANY:
            self._expire(moment.now, rates)
        # Counts too many, those of past windows too, and mostly tells enough all the same.
        recent = len(self.underway) + answers
        for unit, planned in rates.items():
            limit = self.limit(unit, planned, moment)
            if unit == "day":
                spare = self._left_of_days(limit, days) - kept
            elif recent < limit and not self.full:
                continue
            else:
                self._expire(moment.now, rates)
                spare = self.left(unit, limit, moment)
            if spare <= 0:
                return self._deny(rates, moment, kept)
        if len(days) == 1 and days[0] in self.days:
            self.days[days[0]] += 1
        else:
            for day in days:
                self._charge(day)
        self.underway[number] = moment.now + PATIENCE
        return Granted(number, moment.now, days, moment.early)

    def settle(self, granted: Granted, received: float | None, moment: Moment) -> None:
        """Note when a request was answered, or that no answer will come."""
        if self.underway.pop(granted.number, None) is None:
            return
        if received is None:
            insort(self.answered, moment.now + LOST)
        else:
            insort(self.early if granted.early else self.answered, received)
        # What the service's clock turned out to be says which days it can have been counted on.
        days = possible_days(moment, granted.at)
        if days != granted.days:
            for day in {*days} - {*granted.days}:
                self._charge(day)
            for day in {*granted.days} - {*days}:
                self._uncharge(day)

    def give_up(self, numbers: Iterable[int], at: float) -> None:
        """Take requests as answered at a moment: those who sent them are gone."""
        for number in numbers:
            del self.underway[number]
            insort(self.answered, at)

    def put_back(self, granted: Granted) -> None:
        """Return the tokens of a request that was not sent."""
        if self.underway.pop(granted.number, None) is not None:
            for day in granted.days:
                self._uncharge(day)

    def refuse(self, refusal: RateLimited, sent: float, planned: int, moment: Moment) -> bool:
        """Learn from a refusal of what was sent at `sent`, and say whether it was news.

        Nothing more goes in this window, and the limit may be another than the one `planned`. What was under way when
        a refusal came only repeats it.
        """
        self.refusals += 1
        unit = refusal.unit
        if unit == "day":
            self.closed = possible_days(moment)[0]
        if sent <= self.full.get(unit, -math.inf):
            return False
        self.full[unit] = moment.now
        if refusal.limit is not None:
            self.named.learn(unit, refusal.limit, planned, moment.utc)
        return True

    def _deny(self, rates: dict[Unit, int], moment: Moment, kept: int) -> Denied:
        """Tell which unit makes wait longest."""
        waits: list[Denied] = []
        for unit, planned in rates.items():
            limit = self.limit(unit, planned, moment)
            waits.append(Denied(self.wait(unit, limit, moment, kept if unit == "day" else 0), unit, limit))
        return max(waits, key=lambda denied: denied.wait)

    def _left_of_days(self, limit: int, days: tuple[int, ...]) -> int:
        if self.closed in days:
            return 0
        if len(days) == 1:
            return limit - self.days.get(days[0], 0)
        return limit - max(self.days.get(day, 0) for day in days)

    def forget_after(self, now: float) -> None:
        """Forget what cannot have happened yet: it is of another count of time."""
        self.answered = [at for at in self.answered if at <= now + LOST]
        self.early = [at for at in self.early if at <= now]
        self.underway = {number: until for number, until in self.underway.items() if until <= now + PATIENCE}
        self.full = {unit: at for unit, at in self.full.items() if at <= now}

    def _charge(self, day: int) -> None:
        if day not in self.days:
            self._forget_days(day)
        self.days[day] = self.days.get(day, 0) + 1

    def _forget_days(self, day: int) -> None:
        """Forget days far from one that begins; but none where the clock was set: it may have been set wrongly."""
        before = next(reversed(self.days), day)
        kept = 2 if abs(day - before) <= 2 else math.inf  # noqa: PLR2004 - a day or two without a request
        for other in sorted(self.days, key=lambda other: -abs(other - day)):
            if abs(other - day) > kept or len(self.days) >= _DAYS:
                del self.days[other]

    def _uncharge(self, day: int) -> None:
        self.days[day] = max(0, self.days.get(day, 0) - 1)

    def _expire(self, now: float, rates: dict[Unit, int]) -> None:
        """Forget answers that are too old to matter, and requests whose process is gone."""
        window = WINDOWS["minute"] if "minute" in rates else WINDOWS["second"]
        # A window's worth at a time: the rest of the list moves up at each.
        for answers in (self.answered, self.early):
            if answers and answers[0] < now - 2 * window - GUARD:
                del answers[: bisect_right(answers, now - window - GUARD)]
        # Numbers rise with time, so the first is the oldest.
        while self.underway and self.underway[first := next(iter(self.underway))] <= now:
            del self.underway[first]
            insort(self.answered, now)


def possible_days(moment: Moment, since: float | None = None) -> tuple[int, ...]:
    """Return the UTC days of the service's clock that something can fall into, now or since a moment of our clock."""
    now, wall, low, _, doubt, rival = moment
    behind = 0.0 if since is None else now - since
    if rival is not None:
        return tuple(sorted({*_days(wall - behind), *_days(rival - behind), *_days(wall), *_days(rival)}))
    if doubt == math.inf:
        first, last = int((wall - behind - SKEW) // _DAY), int((wall + SKEW) // _DAY)
    else:
        first, last = int((now - behind + low) // _DAY), int((now + low + doubt) // _DAY)
    return (first,) if first == last else tuple(range(first, last + 1))


def _days(utc: float) -> tuple[int, ...]:
    """Return the days of a moment that is known to a few seconds."""
    return int((utc - SKEW) // _DAY), int((utc + SKEW) // _DAY)


def until_tomorrow(moment: Moment) -> float:
    """Seconds until the next UTC day has begun for certain."""
    if moment.rival is not None:
        return min(_until_tomorrow(moment.wall - SKEW), _until_tomorrow(moment.rival - SKEW))
    return _until_tomorrow(moment.wall - SKEW if moment.doubt == math.inf else moment.now + moment.low - GUARD)


def _until_tomorrow(utc: float) -> float:
    return (utc // _DAY + 1) * _DAY - utc


def _thresholds(unit: Unit, moment: Moment) -> tuple[float, float]:
    """Return the moments before which an answered request cannot share a window with one that goes now.

    The second one is for those that went as a second began, the first for all others.
    """
    now, _, low, slack, doubt, _ = moment
    window = WINDOWS[unit]
    latest = now - window - GUARD
    if doubt == math.inf:
        return latest, latest
    # When the window began that the service is in for certain, were it as little ahead of us as is known.
    begun = (now + low - guard(window)) // window * window - low
    since = max(latest, begun - doubt)
    return since, max(latest, begun - slack) if unit == "second" else since


def _passes(at: float, window: float, moment: Moment, slack: float) -> float:
    """Return when the first window has begun for certain that something done at `at` cannot be counted in."""
    latest = at + window + GUARD
    if slack == math.inf:
        return latest
    return min(latest, math.ceil((at + moment.low + slack) / window) * window - moment.low + guard(window))
