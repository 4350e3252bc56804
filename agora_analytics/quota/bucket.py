"""The bucket of one counter, like a token bucket but with fixed windows: it decides whether a request may be sent.

A request costs one permit, charged to every second, minute and day of the service's clock in which it may be counted.
At most `limit` requests are ever charged to one window, so the service never counts more, whatever the latency.
docs/concepts/quota.md explains the rule with a picture and an example.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterable
from heapq import merge
from itertools import islice
from typing import Final

import attrs

from agora_analytics.errors import RateLimited
from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.quota.blocked_units import BlockedUnit, block, just_after_midnight
from agora_analytics.quota.clock_reading import (
    DAY,
    GUARD,
    ClockReading,
    cutoffs,
    early_frees_at,
    frees_at,
    possible_days,
    seconds_until_next_day,
    service_day,
)
from agora_analytics.quota.learned_limits import LearnedLimits, OtherPrograms
from agora_analytics.quota.permit import Permit, Rates, Rejection, Reservation

LATE_ARRIVAL: Final = 2.0
"""Seconds after a request was given up in which the service may still count it."""

SEND_DELAY: Final = 0.5
"""Seconds within which the requests of a crashed process have reached the service."""

IN_FLIGHT_TTL: Final = 300.0
"""Seconds after which a request that nobody settled counts as answered."""

_IDLE_AFTER: Final = 2.0
"""Seconds after an answer in which its request may share a second with another."""

_PRUNE_ABOVE: Final = 64
"""Prune completed requests once this many are stored."""

_END_OF_DAY: Final = 1_800.0
"""Seconds before midnight in which a limit of the day may be tested: streams can backfill windows of that age."""

_MAX_DAYS: Final = 8
"""UTC days that are counted at a time, however often a clock was set."""


@attrs.define
class WindowCounter:
    """The requests of one counter; all times are monotonic.

    Attributes:
        in_flight: when each permit in use expires, by its number.
        early_in_flight: when those of them were issued that were issued early in a second.
        completed: when answers were received, sorted.
        completed_early: the same for permits that were issued early in a second.
        used_per_day: requests by UTC day.
        learned_limits: limits that rate-limit errors named; the plan's hold for other units.
        rate_limited_at: when a unit's last rate-limit error was received.
        blocked: the units in which the service still refuses requests.
        exhausted_day: the last UTC day that the service called spent.
        refusals: how many rate-limit errors were received.
        reservations: what streams will need, by number.
        other_programs: what programs outside the ledger use.
        first_day: the UTC day in which this count began, which it does not cover whole.

    """

    in_flight: dict[int, float] = attrs.field(factory=dict)
    early_in_flight: dict[int, float] = attrs.field(factory=dict)
    completed: list[float] = attrs.field(factory=list)
    completed_early: list[float] = attrs.field(factory=list)
    used_per_day: dict[int, int] = attrs.field(factory=dict)
    learned_limits: LearnedLimits = attrs.field(factory=LearnedLimits)
    rate_limited_at: dict[Unit, float] = attrs.field(factory=dict)
    blocked: dict[Unit, BlockedUnit] = attrs.field(factory=dict)
    exhausted_day: int | None = None
    refusals: int = 0
    reservations: dict[int, Reservation] = attrs.field(factory=dict)
    other_programs: OtherPrograms = attrs.field(factory=OtherPrograms)
    first_day: int | None = None

    def limit(self, unit: Unit, planned: int, reading: ClockReading) -> int:
        """Return the limit that holds: the plan's, or one that was learned."""
        return self.learned_limits.limit(unit, planned, reading.utc) if self.learned_limits.limits else planned

    def remaining(self, unit: Unit, limit: int, reading: ClockReading) -> int:
        """Return how many permits of a unit can be issued now; zero or less where it is exhausted."""
        if unit in self.blocked and reading.monotonic < self.blocked[unit].until:
            return 0
        if unit == "day":
            return self._remaining_of_days(limit, possible_days(reading), reading)
        since, since_early = cutoffs(unit, reading)
        # An error closes its window at once, whatever was counted here: other programs may use the account.
        if self.rate_limited_at and self.rate_limited_at.get(unit, -math.inf) > since:
            return 0
        charged = len(self.completed) - bisect_right(self.completed, since)
        charged += len(self.completed_early) - bisect_right(self.completed_early, since_early)
        return limit - charged - len(self.in_flight) + self._in_earlier_seconds(unit, reading)

    def remaining_today(self, limit: int, reading: ClockReading) -> int:
        """Return how many requests the day has left, even while the unit is blocked for a moment."""
        # Not `remaining`, which is 0 during a pause: a stream would take the day for spent and sleep until midnight.
        return max(0, self._remaining_of_days(limit, possible_days(reading), reading))

    def plannable_today(self, planned: int, reading: ClockReading) -> int:
        """Return how many requests of the day streams may plan with.

        A lower limit that was learned on an earlier day is planned with until it is spent. After that, and in the last
        half hour of the day, all that the plan has left may be used, which shows whether it still holds.
        """
        limit = self.limit("day", planned, reading)
        rest = self.remaining_today(limit, reading)
        likely = rest - limit + self.learned_limits.planning_limit("day", planned, reading.utc)
        return likely if 0 < likely < rest and seconds_until_next_day(reading) > _END_OF_DAY else rest

    def _in_earlier_seconds(self, unit: Unit, reading: ClockReading) -> int:
        """Return how many requests in flight were sent early in an earlier second, and so were counted in that."""
        # Minutes and days are long compared with a request; there it stays charged until it is answered.
        if unit != "second" or not self.early_in_flight or not reading.calibrated:
            return 0
        # Half a second separates those sent early in the previous second from those sent early in this one.
        since, until = reading.monotonic - reading.early_grace, reading.second_start - 0.5
        return sum(since <= at < until for at in self.early_in_flight.values())

    def is_idle(self, now: float) -> bool:
        """Whether nothing that happened before `now` can be counted in any second from now on."""
        last = max(self.completed[-1:] + self.completed_early[-1:], default=-math.inf)
        return not self.in_flight and last < now - _IDLE_AFTER

    def time_until(self, unit: Unit, limit: int, reading: ClockReading, ahead: int = 0) -> float:
        """Return seconds until a permit is free after `ahead` others were issued; a lower bound."""
        now = reading.monotonic
        pause = self.blocked[unit].until - now if unit in self.blocked else 0.0
        if unit == "day":
            short = ahead + 1 - self._remaining_of_days(limit, possible_days(reading), reading)
            # The requests ahead may fill further days.
            days = (short - 1) // limit
            return max(pause, 0.0 if short <= 0 else seconds_until_next_day(reading) + days * DAY)
        since, since_early = cutoffs(unit, reading)
        limited_at = self.rate_limited_at.get(unit, -math.inf)
        first = max(0.0, pause, frees_at(limited_at, unit, reading) - now if limited_at > since else 0.0)
        free, free_early = bisect_right(self.completed, since), bisect_right(self.completed_early, since_early)
        charged = len(self.in_flight) - self._in_earlier_seconds(unit, reading)
        charged += len(self.completed) - free + len(self.completed_early) - free_early
        short = ahead + 1 - (limit - charged)
        if short <= 0:
            return first
        # Each whole limit of missing permits takes a window more; `index` is the answer that frees the last one.
        rounds, index = divmod(short - 1, limit)
        freed = merge(
            (frees_at(at, unit, reading) for at in islice(self.completed, free, None)),
            (early_frees_at(at, unit, reading) for at in islice(self.completed_early, free_early, None)),
        )
        # A request in flight is answered now at the earliest.
        soonest = reading.next_second_start if unit == "second" and reading.calibrated else frees_at(now, unit, reading)
        return max(first, next(islice(freed, index, None), soonest) - now) + rounds * WINDOWS[unit]

    def reserved_by_streams(self, reading: ClockReading, *, later: bool = False) -> int:
        """Return how many requests of the day, or of each `later` one, streams have reserved."""
        if not self.reservations:
            return 0
        today = None if later else possible_days(reading)[-1]
        return sum(kept.rest if kept.day == today else kept.daily for kept in self.reservations.values())

    def used_by_others(self, reading: ClockReading) -> int:
        """Return how many requests of the day other programs will probably make."""
        return self.other_programs.expected_on(possible_days(reading)[-1])

    def forecast(self, requests: int, rates: Rates, reading: ClockReading, reserved: tuple[int, int] = (0, 0)) -> float:
        """Return seconds until so many more are accepted alone; leaves `reserved` of today and of each later day."""
        limits = {unit: self.limit(unit, planned, reading) for unit, planned in rates.items()}
        daily = limits.pop("day", None)
        today = requests if daily is None else max(0, self.remaining_today(daily, reading) - reserved[0])
        # Within today the short units decide; beyond it, midnight comes first.
        if requests <= today or daily is None:
            pauses = (unit.until - reading.monotonic for unit in self.blocked.values())
            waits = (self.time_until(unit, limit, reading, requests - 1) for unit, limit in limits.items())
            return max(0.0, *pauses, *waits)
        days, before = divmod(requests - today - 1, max(1, daily - reserved[1]))
        windows = (before // limit * WINDOWS[unit] for unit, limit in limits.items())
        return seconds_until_next_day(reading) + days * DAY + max(windows, default=0.0)

    def acquire(
        self, number: int, rates: Rates, reading: ClockReading, reserved: int = 0, claimed: int = 0
    ) -> Permit | Rejection:
        """Issue a permit charged to every unit, or to none; leaves `reserved` of the day, `claimed` of other units."""
        # Also of units that the plan lacks, which the loop over `rates` does not see.
        if self.blocked and (rejection := self.longest_block(rates, reading)):
            return rejection
        days, early = possible_days(reading), reading.early_in_second
        completed = len(self.completed) + len(self.completed_early)
        if completed >= _PRUNE_ABOVE:
            self._prune(reading.monotonic, rates)
        # An upper bound, with requests of past windows; it is mostly low enough to skip the exact count. Every unit is
        # checked before any is charged, so a rejection costs nothing.
        recent = len(self.in_flight) + completed
        for unit, planned in rates.items():
            limit = self.limit(unit, planned, reading) if self.learned_limits.limits else planned
            if unit == "day":
                spare = self._remaining_of_days(limit, days, reading) - reserved
            elif recent + claimed < limit and not self.rate_limited_at:
                continue
            else:
                self._prune(reading.monotonic, rates)
                spare = self.remaining(unit, limit, reading) - claimed
            if spare <= 0:
                return self._reject(rates, reading, reserved)
        return self._issue(number, reading, days, early=early)

    def _issue(self, number: int, reading: ClockReading, days: tuple[int, ...], *, early: bool) -> Permit:
        if len(days) == 1 and days[0] in self.used_per_day:
            self.used_per_day[days[0]] += 1
        else:
            for day in days:
                self._charge(day)
        self.in_flight[number] = reading.monotonic + IN_FLIGHT_TTL
        if early:
            self.early_in_flight[number] = reading.monotonic
        # This is the probe of units whose pause has ended: the others wait until it is answered.
        if self.blocked:
            self.blocked = {unit: blocked.while_probing(unit, reading) for unit, blocked in self.blocked.items()}
        return Permit(number, reading.monotonic, days)

    def settle(self, permit: Permit, received: float | None, reading: ClockReading) -> None:
        """Record when a request was answered, or (None) that no answer will come."""
        # It expired, or was reclaimed from a crashed process, and is counted as answered already.
        if self.in_flight.pop(permit.number, None) is None:
            return
        early = self.early_in_flight.pop(permit.number, None) is not None
        # Not early any more: without an answer nothing says in which second it will be counted.
        if received is None:
            insort(self.completed, reading.monotonic + LATE_ARRIVAL)
        else:
            insort(self.completed_early if early else self.completed, received)
        # By now the service's clock may be known better, and with it the days that can have counted the request.
        days = possible_days(reading, permit.at)
        # By a confirmed clock only: a wrong day would make a partly counted one look whole.
        if self.first_day is None and reading.confirmed:
            self.first_day = days[-1]
        if days != permit.days:
            for day in {*days} - {*permit.days}:
                self._charge(day)
            for day in {*permit.days} - {*days}:
                self._refund(day)

    def expire(self, numbers: Iterable[int], at: float) -> None:
        """Count requests in flight as answered at a time: the process that sent them is gone."""
        for number in numbers:
            del self.in_flight[number]
            self.early_in_flight.pop(number, None)
            insort(self.completed, at)

    def release(self, permit: Permit) -> None:
        """Take back the permit of a request that was not sent."""
        # If the change that issued it was not stored, another process may have drawn the same number since.
        if self.in_flight.get(permit.number) == permit.at + IN_FLIGHT_TTL:
            del self.in_flight[permit.number]
            self.early_in_flight.pop(permit.number, None)
            # It may have been the probe of a blocked unit, which another request makes now.
            self.on_unanswered(permit)
            for day in permit.days:
                self._refund(day)

    def on_rate_limited(self, error: RateLimited, sent: float, planned: int, reading: ClockReading) -> bool:
        """Learn from the rate-limit error of a request sent at `sent`; return whether it was news.

        No more requests are sent in this window, and the limit may differ from the planned one (0: not in the plan). A
        request that was in flight when an earlier error came only repeats it.
        """
        self.refusals += 1
        unit = error.unit
        yesterday = unit == "day" and self._belongs_to_yesterday(planned, reading)
        # Yesterday counted it, so it costs nothing of today.
        if yesterday:
            self._refund(possible_days(reading)[-1])
        elif unit == "day":
            self._exhaust_day(service_day(reading), error.limit or self.limit(unit, planned, reading))
        # Sent before the last error came: the service could not say anything else.
        if sent <= self.rate_limited_at.get(unit, -math.inf):
            return False
        self.rate_limited_at[unit] = reading.monotonic
        # A spent day needs no block: `exhausted_day` rejects everything until midnight.
        if unit != "day" or yesterday:
            self.blocked[unit] = block(self.blocked.get(unit), unit, planned, reading)
        if error.limit is not None:
            self.learned_limits.learn(unit, error.limit, planned, reading.utc)
        return True

    def _exhaust_day(self, day: int, limit: int) -> None:
        """Mark a UTC day as spent; if all of it was counted here, what is missing was used by other programs."""
        if self.exhausted_day != day and self.first_day is not None and self.first_day < day:
            self.other_programs.observe(limit - self.used_per_day.get(day, 0), day)
        self.exhausted_day = day

    def on_accepted(self, permit: Permit) -> list[Unit]:
        """Record that a request was accepted; return the units that are unblocked by that."""
        # A request that was sent before the error proves nothing about the window after it.
        unblocked = [unit for unit, blocked in self.blocked.items() if blocked.at < permit.at]
        for unit in unblocked:
            del self.blocked[unit]
        return unblocked

    def on_unanswered(self, permit: Permit) -> bool:
        """Record that a request has no answer; return whether another may now probe a blocked unit."""
        before, self.blocked = self.blocked, {unit: b.probe_lost(permit.at) for unit, b in self.blocked.items()}
        return self.blocked != before

    def burst_may_exceed(self, sent: float, limit: int) -> bool:
        """Whether more than `limit` of our requests may have been counted in one second with one sent at `sent`."""
        before = (bisect_right(times, sent - 1) for times in (self.completed, self.completed_early))
        return len(self.in_flight) + len(self.completed) + len(self.completed_early) - sum(before) > limit

    def longest_block(self, rates: Rates, reading: ClockReading) -> Rejection | None:
        """Return the rejection by the unit that stays blocked longest, None if none is."""
        waits = [
            Rejection(blocked.until - reading.monotonic, unit, self.limit(unit, rates.get(unit, 0), reading))
            for unit, blocked in self.blocked.items()
            if reading.monotonic < blocked.until
        ]
        return max(waits, default=None, key=lambda rejection: rejection.wait)

    def _belongs_to_yesterday(self, planned: int, reading: ClockReading) -> bool:
        """Whether a rate-limit error for the day may be about yesterday, where the counting clock still is."""
        # An earlier error was taken for yesterday's, and nothing has been accepted since.
        if "day" in self.blocked:
            return True
        counted = self.used_per_day.get(possible_days(reading)[-1], 0) - len(self.in_flight)
        # If the error is about today, then others used what we did not: more than half a day in its first minutes.
        # When in doubt it is yesterday's: that costs a few probes, while the other mistake gives up a whole day.
        return just_after_midnight(reading) and 2 * counted <= self.limit("day", planned, reading)

    def _reject(self, rates: Rates, reading: ClockReading, reserved: int) -> Rejection:
        """Return the rejection by the unit with the longest wait."""
        waits: list[Rejection] = []
        for unit, planned in rates.items():
            limit, ahead = self.limit(unit, planned, reading), reserved if unit == "day" else 0
            waits.append(Rejection(self.time_until(unit, limit, reading, ahead), unit, limit))
        return max(waits, key=lambda rejection: rejection.wait)

    def _remaining_of_days(self, limit: int, days: tuple[int, ...], reading: ClockReading) -> int:
        if self.exhausted_day in days:
            # The service said that the day is spent, the host's clock that it is over: one request finds out.
            return int(self.exhausted_day < service_day(reading) and not self.in_flight)
        if len(days) == 1:
            return limit - self.used_per_day.get(days[0], 0)
        # It may be counted on either day: the fuller one decides.
        return limit - max(self.used_per_day.get(day, 0) for day in days)

    def drop_later_than(self, now: float) -> None:
        """Drop all that is later than `now`: its times are of an earlier boot of the machine."""
        # Requests without an answer are stored up to this far ahead, and so are expiries below.
        self.completed = [at for at in self.completed if at <= now + LATE_ARRIVAL]
        self.completed_early = [at for at in self.completed_early if at <= now]
        self.in_flight = {number: until for number, until in self.in_flight.items() if until <= now + IN_FLIGHT_TTL}
        self.early_in_flight = {number: at for number, at in self.early_in_flight.items() if at <= now}
        self.rate_limited_at = {unit: at for unit, at in self.rate_limited_at.items() if at <= now}
        self.blocked = {unit: blocked for unit, blocked in self.blocked.items() if blocked.at <= now}

    def _charge(self, day: int) -> None:
        if day not in self.used_per_day:
            self._prune_days(day)
        self.used_per_day[day] = self.used_per_day.get(day, 0) + 1

    def _prune_days(self, day: int) -> None:
        """Drop days far from one that begins; none where a clock was set, as it may have been set wrongly."""
        # In the order of insertion: the day that was begun last.
        before = next(reversed(self.used_per_day), day)
        distance = 2 if abs(day - before) <= 2 else math.inf  # noqa: PLR2004 - a day or two without a request
        for other in sorted(self.used_per_day, key=lambda other: -abs(other - day)):
            if abs(other - day) > distance or len(self.used_per_day) >= _MAX_DAYS:
                del self.used_per_day[other]

    def _refund(self, day: int) -> None:
        # The day may have been pruned since it was charged.
        self.used_per_day[day] = max(0, self.used_per_day.get(day, 0) - 1)

    def _prune(self, now: float, rates: Rates) -> None:
        """Drop answers that are too old to matter, and expire requests that nobody settled."""
        window = WINDOWS["minute"] if "minute" in rates else WINDOWS["second"]
        # A window's worth at a time, as deleting moves the rest of the list up.
        for times in (self.completed, self.completed_early):
            if times and times[0] < now - 2 * window - GUARD:
                del times[: bisect_right(times, now - window - GUARD)]
        # Numbers rise with time, so the first is the oldest.
        while self.in_flight and self.in_flight[first := next(iter(self.in_flight))] <= now:
            del self.in_flight[first]
            self.early_in_flight.pop(first, None)
            insort(self.completed, now)
