"""One counter's requests, and the only rule there is: when one more may go.

The service counts a request once, somewhere between our sending it and our reading the answer, in whichever second,
minute and day its own clock shows. A request that goes now may share a window with an earlier one unless that one was
answered before the window began that the service is in *for certain* (less what our estimate may be wrong by), or a
whole window ago. So at most `limit` of those that could share a window with the next are ever out, which is safe under
any delay, any host's clock and any staleness of a header, as long as the bounds of the service's clock hold. Known
well, the clock lets all tokens of a window go as it begins; unknown, the same rule is the conservative bucket: a token
comes back one window after its answer.

What is left of the doubt about the service's clock once that has been searched for (`slack`) is enough for what went as
a second began (`early`): whatever the doubt really is, the next second's requests are as much later. Such a request is
in its own second even while its answer is awaited, as long as it takes no longer than usual (`late`). What went at
another time, or while the clock was unsure, may be in either of two windows and is charged to both (`doubt`).

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
from agora_analytics.quota.blocked_units import Shut, dawning, shut
from agora_analytics.quota.clock_reading import (
    GUARD,
    Moment,
    day_of_service,
    passes,
    passes_early,
    possible_days,
    thresholds,
    until_tomorrow,
)
from agora_analytics.quota.learned_limits import NamedLimits
from agora_analytics.quota.other_programs import Others
from agora_analytics.spans import DAY

LOST: Final = 2.0
"""Seconds after giving up on a request in which the service may still count it."""

DELAY: Final = 0.5
"""Seconds that a request may take to the service, where no answer tells."""

PATIENCE: Final = 300.0
"""Seconds after which a request that nobody settled is over."""

_IDLE: Final = 2.0
"""Seconds after an answer in which its request may share a second with another."""

_MANY: Final = 64
"""Answers, of past windows too, that are looked through before they get more."""


_EVENING: Final = 1_800.0
"""Seconds at the end of a day in which a refusal costs nothing: windows, which are kept shortest, are for longer."""

_DAYS: Final = 8
"""Days that are counted at a time, however often the clock was set."""


class Granted(NamedTuple):
    """The right to send one request: its number, when it was given, the days it is charged to."""

    number: int
    at: float
    days: tuple[int, ...]


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

    `early` are answers, too: those of requests that went as a second began; `fresh` is when such that are under way
    did. `expected` is what streams will need, `others` what other programs take; `began` is the day in which the count
    began. `named` are the limits that refusals taught; the plan's apply elsewhere. `full` is when a unit was last
    refused, `shut` which are refused still, `closed` the last UTC day that the service called spent. `refusals` counts
    the refusals for frequency.
    """

    underway: dict[int, float] = attrs.field(factory=dict)
    fresh: dict[int, float] = attrs.field(factory=dict)
    answered: list[float] = attrs.field(factory=list)
    early: list[float] = attrs.field(factory=list)
    days: dict[int, int] = attrs.field(factory=dict)
    named: NamedLimits = attrs.field(factory=NamedLimits)
    full: dict[Unit, float] = attrs.field(factory=dict)
    shut: dict[Unit, Shut] = attrs.field(factory=dict)
    closed: int | None = None
    refusals: int = 0
    expected: dict[int, Expected] = attrs.field(factory=dict)
    others: Others = attrs.field(factory=Others)
    began: int | None = None

    def limit(self, unit: Unit, planned: int, moment: Moment) -> int:
        """Return the limit that holds: the plan's, or what the service named."""
        return self.named.limit(unit, planned, moment.utc) if self.named.limits else planned

    def left(self, unit: Unit, limit: int, moment: Moment) -> int:
        """Tokens of a unit that can be taken now; none or less where it is full."""
        if unit in self.shut and moment.now < self.shut[unit].until:
            return 0
        if unit == "day":
            return self._left_of_days(limit, possible_days(moment), moment)
        since, since_early = thresholds(unit, moment)
        if self.full and self.full.get(unit, -math.inf) > since:
            return 0
        over = bisect_right(self.answered, since) + bisect_right(self.early, since_early)
        return limit - len(self.underway) + self._arrived(unit, moment) - len(self.answered) - len(self.early) + over

    def rest_of_day(self, limit: int, moment: Moment) -> int:
        """Return the day's tokens, also where none can be taken yet: a day that is refused for a moment has them."""
        return max(0, self._left_of_days(limit, possible_days(moment), moment))

    def plan_of_day(self, planned: int, moment: Moment) -> int:
        """Return the day's tokens to plan with: a limit that was named before may hold again, and all be spent early.

        Once those are spent, or in the last half hour of the day, it is all that the plan has: the service then says
        which holds.
        """
        limit = self.limit("day", planned, moment)
        rest = self.rest_of_day(limit, moment)
        likely = rest - limit + self.named.planning("day", planned, moment.utc)
        return likely if 0 < likely < rest and until_tomorrow(moment) > _EVENING else rest

    def _arrived(self, unit: Unit, moment: Moment) -> int:
        """Requests under way that were sent as an earlier second began, and are in that one as all experience says."""
        if unit != "second" or not self.fresh or not moment.sure:
            return 0
        # Half a second is between those that went as the second before began and those that went as this one did.
        since, until = moment.now - moment.late, moment.begun - 0.5
        return sum(since <= at < until for at in self.fresh.values())

    def idle(self, now: float) -> bool:
        """Whether nothing that happened before `now` matters to any second from now on."""
        return not self.underway and max(self.answered[-1:] + self.early[-1:], default=-math.inf) < now - _IDLE

    def wait(self, unit: Unit, limit: int, moment: Moment, ahead: int = 0) -> float:
        """Seconds until a token is free for one who has `ahead` others before him; a lower bound."""
        now = moment.now
        pause = self.shut[unit].until - now if unit in self.shut else 0.0
        if unit == "day":
            short = ahead + 1 - self._left_of_days(limit, possible_days(moment), moment)
            return max(pause, 0.0 if short <= 0 else until_tomorrow(moment) + (short - 1) // max(limit, 1) * DAY)
        since, since_early = thresholds(unit, moment)
        full = self.full.get(unit, -math.inf)
        first = max(0.0, pause, passes(full, unit, moment) - now if full > since else 0.0)
        over, over_early = bisect_right(self.answered, since), bisect_right(self.early, since_early)
        out = len(self.underway) - self._arrived(unit, moment)
        short = ahead + 1 - (limit - out - len(self.answered) + over - len(self.early) + over_early)
        if short <= 0:
            return first
        rounds, place = divmod(short - 1, max(limit, 1))
        passing = merge(
            (passes(at, unit, moment) for at in islice(self.answered, over, None)),
            (passes_early(at, unit, moment) for at in islice(self.early, over_early, None)),
        )
        # What is under way will be answered now at the earliest.
        soonest = moment.following if unit == "second" and moment.sure else passes(now, unit, moment)
        return max(first, next(islice(passing, place, None), soonest) - now) + rounds * WINDOWS[unit]

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
        today = requests if daily is None else self.rest_of_day(daily, moment)
        if requests <= today or daily is None:
            pauses = (one.until - moment.now for one in self.shut.values())
            waits = (self.wait(unit, limit, moment, requests - 1) for unit, limit in limits.items())
            return max(0.0, *pauses, *waits)
        days, before = divmod(requests - today - 1, max(daily, 1))
        windows = (before // max(limit, 1) * WINDOWS[unit] for unit, limit in limits.items())
        return until_tomorrow(moment) + days * DAY + max(windows, default=0.0)

    def reserve(self, number: int, rates: dict[Unit, int], moment: Moment, kept: int = 0) -> Granted | Denied:
        """Take a token of every unit, or none; `kept` of the day's are for others."""
        if self.shut and (denied := self.barred(rates, moment)):
            return denied
        days = possible_days(moment)
        answers = len(self.answered) + len(self.early)
        if answers >= _MANY:
            self._expire(moment.now, rates)
        # Counts too many, those of past windows too, and mostly tells enough all the same.
        recent = len(self.underway) + answers
        for unit, planned in rates.items():
            limit = self.limit(unit, planned, moment)
            if unit == "day":
                spare = self._left_of_days(limit, days, moment) - kept
            elif recent < limit and not self.full:
                continue
            else:
                self._expire(moment.now, rates)
                spare = self.left(unit, limit, moment)
            if spare <= 0:
                return self._deny(rates, moment, kept)
        return self._take(number, moment, days)

    def _take(self, number: int, moment: Moment, days: tuple[int, ...]) -> Granted:
        """Note that a request goes now."""
        if len(days) == 1 and days[0] in self.days:
            self.days[days[0]] += 1
        else:
            for day in days:
                self._charge(day)
        self.underway[number] = moment.now + PATIENCE
        if moment.early:
            self.fresh[number] = moment.now
        if self.shut:
            self.shut = {unit: one.tried(unit, moment) for unit, one in self.shut.items()}
        return Granted(number, moment.now, days)

    def settle(self, granted: Granted, received: float | None, moment: Moment) -> None:
        """Note when a request was answered, or that no answer will come."""
        if self.underway.pop(granted.number, None) is None:
            return
        early = self.fresh.pop(granted.number, None) is not None
        if received is None:
            insort(self.answered, moment.now + LOST)
        else:
            insort(self.early if early else self.answered, received)
        # What the service's clock turned out to be says which days it can have been counted on.
        days = possible_days(moment, granted.at)
        if self.began is None and moment.certain:
            self.began = days[-1]
        if days != granted.days:
            for day in {*days} - {*granted.days}:
                self._charge(day)
            for day in {*granted.days} - {*days}:
                self._uncharge(day)

    def give_up(self, numbers: Iterable[int], at: float) -> None:
        """Take requests as answered at a moment: those who sent them are gone."""
        for number in numbers:
            del self.underway[number]
            self.fresh.pop(number, None)
            insort(self.answered, at)

    def put_back(self, granted: Granted) -> None:
        """Return the tokens of a request that was not sent."""
        if self.underway.pop(granted.number, None) is not None:
            self.fresh.pop(granted.number, None)
            self.lose(granted)
            for day in granted.days:
                self._uncharge(day)

    def refuse(self, refusal: RateLimited, sent: float, planned: int, moment: Moment) -> bool:
        """Learn from a refusal of what was sent at `sent`, and say whether it was news.

        Nothing more goes in this window, and the limit may be another than the one `planned` (0: none). What was under
        way when a refusal came only repeats it.
        """
        self.refusals += 1
        unit = refusal.unit
        yesterday = unit == "day" and self._of_yesterday(planned, moment)
        if yesterday:
            self._uncharge(possible_days(moment)[-1])
        elif unit == "day":
            self._close(day_of_service(moment), refusal.limit or self.limit(unit, planned, moment))
        if sent <= self.full.get(unit, -math.inf):
            return False
        self.full[unit] = moment.now
        if unit != "day" or yesterday:
            self.shut[unit] = shut(self.shut.get(unit), unit, planned, moment)
        if refusal.limit is not None:
            self.named.learn(unit, refusal.limit, planned, moment.utc)
        return True

    def _close(self, day: int, limit: int) -> None:
        """Note that a day is spent: what of it is not ours is others', if all of it was counted here."""
        if self.closed != day and self.began is not None and self.began < day:
            self.others.saw(limit - self.days.get(day, 0), day)
        self.closed = day

    def accept(self, granted: Granted) -> list[Unit]:
        """Note that a request was not refused, and return the units that are open again by that."""
        opened = [unit for unit, one in self.shut.items() if one.at < granted.at]
        for unit in opened:
            del self.shut[unit]
        return opened

    def lose(self, granted: Granted) -> bool:
        """Note that a request has no answer, and say whether another may find out what is open again."""
        before = self.shut
        self.shut = {unit: one.lost(granted.at) for unit, one in before.items()}
        return self.shut != before

    def crowded(self, sent: float, limit: int) -> bool:
        """Whether so many of ours may have been counted in one second with what was sent then that one was too many."""
        late = (bisect_right(answers, sent - 1) for answers in (self.answered, self.early))
        return len(self.underway) + len(self.answered) + len(self.early) - sum(late) > limit

    def barred(self, rates: dict[Unit, int], moment: Moment) -> Denied | None:
        """Tell which of the units that were refused makes wait longest."""
        waits = [
            Denied(one.until - moment.now, unit, self.limit(unit, rates.get(unit, 0), moment))
            for unit, one in self.shut.items()
            if moment.now < one.until
        ]
        return max(waits, default=None, key=lambda denied: denied.wait)

    def _of_yesterday(self, planned: int, moment: Moment) -> bool:
        """Whether a refusal for the day may be one of the day that the counter is still in."""
        if "day" in self.shut:
            return True
        counted = self.days.get(possible_days(moment)[-1], 0) - len(self.underway)
        return dawning(moment) and 2 * counted <= self.limit("day", planned, moment)

    def _deny(self, rates: dict[Unit, int], moment: Moment, kept: int) -> Denied:
        """Tell which unit makes wait longest."""
        waits: list[Denied] = []
        for unit, planned in rates.items():
            limit = self.limit(unit, planned, moment)
            waits.append(Denied(self.wait(unit, limit, moment, kept if unit == "day" else 0), unit, limit))
        return max(waits, key=lambda denied: denied.wait)

    def _left_of_days(self, limit: int, days: tuple[int, ...], moment: Moment) -> int:
        if self.closed in days:
            # Where the service says that the day is over, and the host that it is not, one request finds out.
            return int(self.closed < day_of_service(moment) and not self.underway)
        if len(days) == 1:
            return limit - self.days.get(days[0], 0)
        return limit - max(self.days.get(day, 0) for day in days)

    def forget_after(self, now: float) -> None:
        """Forget what cannot have happened yet: it is of another count of time."""
        self.answered = [at for at in self.answered if at <= now + LOST]
        self.early = [at for at in self.early if at <= now]
        self.underway = {number: until for number, until in self.underway.items() if until <= now + PATIENCE}
        self.fresh = {number: at for number, at in self.fresh.items() if at <= now}
        self.full = {unit: at for unit, at in self.full.items() if at <= now}
        self.shut = {unit: one for unit, one in self.shut.items() if one.at <= now}

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
            self.fresh.pop(first, None)
            insort(self.answered, now)
