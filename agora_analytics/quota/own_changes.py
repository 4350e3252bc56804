"""The changes that a process has stored lately, to be replayed where their store has forgotten them.

A store that crashes goes back to what its disk has. Each process finds the number of its own newest change in every
state that it reads, and replays its later ones. Changes of different processes commute: counts are added, and permits
have numbers of their own. What is not replayed is learned again: limits, habits of other programs, and the service's
clock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Any, Final, NamedTuple

import attrs

from agora_analytics.quota.bucket import WindowCounter
from agora_analytics.quota.ledger_state import UNDER_WAY, LedgerState, NewestChange, decode

REPLAYABLE: Final = 60.0
"""Seconds in which a change can be replayed: a store that keeps a log forgets a few in a crash."""

_MAX_CHANGES: Final = 512
"""Changes that are remembered at most, each of up to four kilobytes: eight a second are remembered for a minute."""

_EMPTY: Final = WindowCounter()


class _Difference(NamedTuple):
    """What a change has done to a counter.

    Attributes:
        used: requests that it added, by day.
        own: what it set for permits and reservations, by number.
        own_gone: the numbers that it dropped.
        shared: what it set of refusals, by unit.
        shared_gone: what it dropped of them.
        times: answers that it added.
        exhausted_day: the day that it found spent.

    """

    used: Mapping[int, int]
    own: tuple[Mapping[int, Any], ...]
    own_gone: tuple[AbstractSet[int], ...]
    shared: tuple[Mapping[Any, Any], ...]
    shared_gone: tuple[Mapping[Any, Any], ...]
    times: tuple[Sequence[float], ...]
    exhausted_day: int | None

    def at(self, now: float) -> _Difference:
        """Return it as if it had happened now: its times are of another clock."""
        in_flight, _, reservations = self.own
        answered = [now] * sum(map(len, self.times))
        none: Mapping[int, Any] = {}
        return self._replace(
            own=(dict.fromkeys(in_flight, now + UNDER_WAY), none, reservations),
            shared=(none, none),
            shared_gone=(none, none),
            times=(answered, ()),
        )


@attrs.define(slots=False)
class _Change:
    """A change by its number, and its place among those of all processes; when it was sent, and between which states.

    What it has done is found out where it is replayed: nearly all changes never are.
    """

    number: int
    place: int
    sent: float
    before: bytes
    after: bytes
    clock_set_at: float | None = None

    @cached_property
    def issued(self) -> int:
        """How many permits had been issued."""
        return decode(self.after).issued

    @cached_property
    def differences(self) -> Mapping[str, _Difference]:
        """What it has done to each counter."""
        before, after = decode(self.before).counters if self.before else {}, decode(self.after).counters
        pairs = ((name, before.get(name, _EMPTY), one) for name, one in after.items())
        return {name: _difference(earlier, later) for name, earlier, later in pairs if later != earlier}

    def replay(self, state: LedgerState) -> None:
        for name, difference in self.differences.items():
            now = self.clock_set_at
            _apply(difference if now is None else difference.at(now), state.counter(name))
        # Or the next permit would get the number of one of these.
        state.issued = max(state.issued, self.issued)


class OwnChanges:
    """The newest changes of the process `name`.

    `now` is the store's time, and `elapsed` is of a clock of this host that is never set.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._drawn = self._newest = 0
        self._attempted: dict[int, _Change] = {}
        self._stored = deque[_Change](maxlen=_MAX_CHANGES)

    def attempt(
        self, state: LedgerState, before: bytes, place: int, *, now: float, elapsed: float
    ) -> tuple[int, bytes]:
        """Number a change that is about to be stored; return the number, and the state with it, encoded.

        `before` is the encoded state before it. Until a state shows its number nobody knows whether it was stored.
        """
        self._drawn += 1  # never the same again
        _forget_processes(state, now)
        state.newest_changes[self.name] = NewestChange(self._drawn, int(now), place)
        after = state.encode()
        self._attempted = {number: one for number, one in self._attempted.items() if one.sent > elapsed - REPLAYABLE}
        self._attempted[self._drawn] = _Change(self._drawn, place, elapsed, before, after)
        return self._drawn, after

    def number_in(self, state: LedgerState) -> int:
        """Return the number of the newest change that a state has, 0 for none."""
        return state.newest_changes[self.name].number if self.name in state.newest_changes else 0

    def on_seen(self, state: LedgerState, *, elapsed: float) -> None:
        """Learn from a state that is stored which attempt was made."""
        if (number := self.number_in(state)) <= self._newest:
            return
        self._newest = number
        change = self._attempted.get(number)
        if change is not None:
            self._stored.append(change)
        self._attempted.clear()  # the others expected a state that is gone
        self._drop_old(elapsed)

    def replay(self, state: LedgerState, *, elapsed: float) -> int:
        """Replay those changes that a state lacks, and return how many."""
        self.on_seen(state, elapsed=elapsed)
        known = self.number_in(state)
        if known >= self._newest or not self._stored:
            return 0
        # No entry: it may have been dropped. Then all changes up to `forgotten_until` are in the state.
        after = 0 if known else state.forgotten_until
        self._drop_old(elapsed)
        missing = [one for one in self._stored if one.number > known and one.place > after]
        for change in missing:
            change.replay(state)
        return len(missing)

    def on_clock_set(self, now: float) -> None:
        """Let all changes have happened now, by another clock: nobody knows how long ago they were."""
        for change in (*self._stored, *self._attempted.values()):
            change.clock_set_at = now

    def _drop_old(self, elapsed: float) -> None:
        while self._stored and self._stored[0].sent < elapsed - REPLAYABLE:
            self._stored.popleft()


def _forget_processes(state: LedgerState, now: float) -> None:
    """Forget processes that made no change for long."""
    newest = state.newest_changes
    # Where the clock was set, or nobody came for long, nobody knows which are old: all get the present date.
    if abs(now - max((one.at for one in newest.values()), default=now)) >= REPLAYABLE:
        state.newest_changes = {name: one._replace(at=int(now)) for name, one in newest.items()}
        return
    for name, one in list(newest.items()):
        if now - one.at >= 2 * REPLAYABLE:
            state.forgotten_until = max(state.forgotten_until, one.place)
            del newest[name]


def _own(counter: WindowCounter) -> tuple[dict[int, Any], ...]:
    return counter.in_flight, counter.early_in_flight, counter.reservations


def _shared(counter: WindowCounter) -> tuple[dict[Any, Any], ...]:
    return counter.rate_limited_at, counter.blocked


def _times(counter: WindowCounter) -> tuple[list[float], ...]:
    return counter.completed, counter.completed_early


def _difference(before: WindowCounter, after: WindowCounter) -> _Difference:
    days, own, shared = before.used_per_day, (_own(before), _own(after)), (_shared(before), _shared(after))
    return _Difference(
        used={day: used - days.get(day, 0) for day, used in after.used_per_day.items() if used != days.get(day)},
        own=tuple(map(_new, *own)),
        own_gone=tuple(old.keys() - new.keys() for old, new in zip(*own, strict=True)),
        shared=tuple(map(_new, *shared)),
        shared_gone=tuple(map(_gone, *shared)),
        times=tuple(map(_added, _times(before), _times(after))),
        exhausted_day=after.exhausted_day if after.exhausted_day != before.exhausted_day else None,
    )


def _new(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return dict(new.items() - old.items())


def _gone(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return {key: old[key] for key in old.keys() - new.keys()}


def _added(old: Sequence[float], new: Sequence[float]) -> Sequence[float]:
    if new[: len(old)] == old:  # as nearly always
        return new[len(old) :]
    return tuple((Counter(new) - Counter(old)).elements())


def _apply(difference: _Difference, counter: WindowCounter) -> None:
    for day, used in difference.used.items():
        counter.used_per_day[day] = max(0, counter.used_per_day.get(day, 0) + used)
    for held, items, own_gone in zip(_own(counter), difference.own, difference.own_gone, strict=True):
        held.update(items)
        for number in own_gone:
            held.pop(number, None)
    # Refusals are everybody's: the newest holds.
    for held, items, gone in zip(_shared(counter), difference.shared, difference.shared_gone, strict=True):
        held.update({unit: max(item, held.get(unit, item)) for unit, item in items.items()})
        for unit in [unit for unit, item in gone.items() if held.get(unit) == item]:
            del held[unit]
    for times, added in zip(_times(counter), difference.times, strict=True):
        times.extend(added)
        times.sort()
    # The oldest first, as they expire.
    counter.in_flight = dict(sorted(counter.in_flight.items()))
    if difference.exhausted_day is not None:
        counter.exhausted_day = max(counter.exhausted_day or 0, difference.exhausted_day)
