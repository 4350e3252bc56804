"""Who goes first among processes: what each waits for, as the others see it.

A process whose request was rejected claims permits, in a change that it makes anyway. Others leave it as many: those
that ask for lower priorities, and those of its own priority whose claim is newer. Where a second's permits come in
a burst, the latter do so for a moment only, in which each process asks at its place in that order. So processes take
turns and rarely ask at the same time, and a claim that nobody uses any more costs the others a moment.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import attrs

from agora_analytics.plans import WINDOWS, Unit
from agora_analytics.quota.clock_reading import GUARD, ClockReading
from agora_analytics.quota.permit import Rejection
from agora_analytics.quota.priority import MIN_SHARE, SERVED_BEFORE, Priority

_SPREAD: Final = 0.03
"""Seconds after a second's permits can be issued in which processes ask, each at its place."""

_HEAD_START: Final = 0.05
"""Seconds in which claims count: then the last of them has made its change, and permits are early for 0.03 s more."""

_LEASE: Final = 5.0
"""Seconds after the next try of a process in which its claim counts, unless it is renewed."""

_GRAIN: Final = 1e-3
"""Seconds after the head start in which it is certainly over, by every clock."""

_RENEW_BELOW: Final = 2.5
_MAX_WAIT: Final = 60.0
"""Seconds after which a process tries again at the latest, however long it has to wait."""

_MAX_TURNS: Final = 5
_CHANGING: Final = 0.08
"""Processes that take the permits of a second, and seconds that they have for that: then permits are not early."""


class PermitClaim(NamedTuple):
    """How many permits a process waits for, since when, and until when that counts; times are the ledger's."""

    since: float
    permits: int
    until: float


class Asker(NamedTuple):
    """The priority that a permit is asked for, and the slot of the process."""

    priority: Priority
    slot: int


@attrs.define
class Claims:
    """The claims of processes, by priority and slot."""

    by_priority: dict[Priority, dict[int, PermitClaim]] = attrs.field(factory=dict)

    def before(self, asker: Asker, window: CounterWindow, left: int, since: float) -> tuple[int, int]:
        """Return how many of the permits `left` are for higher priorities, and for others whose turn comes before.

        While a lower priority waits, every tenth permit is its own, as within a process; `since` when they are counted.
        """
        now, (*above, same) = window.reading.monotonic, SERVED_BEFORE[asker.priority]
        own = {other: 0 if self._served_since(other, since) else window.own for other in Priority}
        below = [other for other in Priority if other not in SERVED_BEFORE[asker.priority]]
        lower = sum(min(own[other], self._total(asker, other, now)) for other in below)
        higher = sum(self._total(asker, other, now) for other in above)
        mine = self._valid(asker, now)
        equal = self._total(asker, same, now, mine.since if mine else math.inf)
        return min(higher, max(0, left - own[same] - lower)), lower + equal

    def renew(self, asker: Asker, permits: int, wait: float, now: float) -> None:
        """Keep the claim of a process that tries again after `wait` seconds; changes nothing if it counts by then."""
        mine, next_try = self._valid(asker, now), now + min(wait, _MAX_WAIT)
        if mine is None or mine.until < next_try + _RENEW_BELOW:
            self._store(asker, PermitClaim(mine.since if mine else now, permits, next_try + _LEASE), now)

    def on_issued(self, asker: Asker, left: int, now: float) -> None:
        """Put a process that has got permits behind the others, if it waits for `left` more."""
        if left > 0:
            self._store(asker, PermitClaim(now, left, now + _LEASE), now)
        else:
            self.by_priority.get(asker.priority, {}).pop(asker.slot, None)

    def drop(self, slot: int) -> None:
        """Drop the claims of a process."""
        for claims in self.by_priority.values():
            claims.pop(slot, None)

    def _store(self, asker: Asker, claim: PermitClaim, now: float) -> None:
        claims = self.by_priority.setdefault(asker.priority, {})
        for slot in [slot for slot, other in claims.items() if other.until <= now]:
            del claims[slot]
        # To the millisecond: less to store.
        claims[asker.slot] = PermitClaim(round(claim.since, 3), claim.permits, round(claim.until, 3))

    def _served_since(self, priority: Priority, at: float) -> bool:
        """Whether a process that waits for more has got a permit of this priority since a time."""
        return any(claim.since >= at for claim in self.by_priority.get(priority, {}).values())

    def _valid(self, asker: Asker, now: float) -> PermitClaim | None:
        claim = self.by_priority.get(asker.priority, {}).get(asker.slot)
        return claim if claim is not None and claim.until > now else None

    def _total(self, asker: Asker, priority: Priority, now: float, before: float = math.inf) -> int:
        """Return the permits that other processes wait for since before a time."""
        claims = self.by_priority.get(priority, {})
        return sum(
            claim.permits
            for slot, claim in claims.items()
            if slot != asker.slot and claim.until > now and claim.since < before
        )


class CounterWindow(NamedTuple):
    """The window of a counter's shortest unit that a reading of the clocks is in, and its limit."""

    unit: Unit
    limit: int
    reading: ClockReading

    @property
    def in_bursts(self) -> bool:
        """Whether its permits are issued in a burst at its start."""
        return self.unit == "second" and self.reading.calibrated

    @property
    def age(self) -> float:
        """Seconds for which its permits can be issued."""
        if self.in_bursts:
            return self.reading.monotonic - self.reading.second_start - GUARD
        return self.reading.utc % WINDOWS[self.unit]

    @property
    def own(self) -> int:
        """How many of its permits each lower priority has to itself."""
        number = int((self.reading.utc - self.age) // WINDOWS[self.unit])
        return (number + 1) * self.limit // MIN_SHARE - number * self.limit // MIN_SHARE


class Turn(NamedTuple):
    """How a process takes turns with others.

    Of the permits that are left, `higher` are for higher priorities, and `others` for those whose turn comes before.
    From the next window on, `ahead` go to others before its turn.
    """

    window: CounterWindow
    higher: int
    others: int
    ahead: int

    @classmethod
    def of(cls, claims: Claims, asker: Asker, window: CounterWindow, left: int) -> Turn:
        """Return the turn of an asker, while a window has so many permits left."""
        higher, others = claims.before(asker, window, left, window.reading.monotonic - window.age)
        return cls(window, higher, others, sum(claims.before(asker, window, window.limit, math.inf)))

    @property
    def claimed(self) -> int:
        """How many permits the asker must leave to others now."""
        return self.higher + (self.others if self.takes_turns else 0)

    @property
    def takes_turns(self) -> bool:
        """Whether those of the same priority whose turn comes before have the first choice now."""
        # Without bursts a permit is free at another time for each, so there is nothing to take turns for.
        return self.window.in_bursts and self.window.age < _HEAD_START

    def rejection(self, rejection: Rejection, *, held: bool = False) -> Rejection:
        """Return a rejection with the time at which it is probably this process's turn.

        One that is `held` back asks with others at the next tick, but not with all of a crowd.
        """
        wait, ahead, (unit, limit, reading) = rejection.wait, self.ahead, self.window
        if held:
            wait += max(0, ahead // limit - 1)
        elif wait <= 0 and not self.claimed:
            pass  # in a moment
        elif not self.window.in_bursts:
            # Permits are left for others, who may not want them any more.
            wait = wait if wait > 0 else _HEAD_START
        elif wait <= 0 and ahead < 2 * limit and self.takes_turns:
            wait = _HEAD_START + _GRAIN - self.window.age
        elif ahead and rejection.unit == unit:
            wait = max(wait, reading.next_second_start - reading.monotonic)
            # In the window before its turn it looks whether permits are left: then some of those ahead are gone.
            wait += max(0, ahead // limit - 1)
            wait += _SPREAD * ahead / limit if ahead < limit else _HEAD_START + _GRAIN
        return rejection._replace(wait=wait)


def share(limit: int, processes: int, round_trip: float) -> int:
    """Return how many permits of a window a process should take at once, so that others get theirs.

    `round_trip` is how long a change takes. Half as long again, and the changes of a window do not meet.
    """
    turns = min(_MAX_TURNS, int(_CHANGING / max(round_trip * 1.5, _GRAIN)))
    return math.ceil(limit / max(1, min(processes, turns)))
